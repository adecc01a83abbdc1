"""A workspace that was begun on Windows, as simulated, is gone on with on Linux, and the other way round: to the same bits."""

import contextlib
import fnmatch
import hashlib
import json
import sqlite3
import sys

import pytest

from tests.jobs.extraction import ENCODER, draw
from tests.support import kill_at_an_epoch, run_cli
from tests.without_posix.names import missing_names
from tests.without_posix.removal import for_children

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="takes away what Linux has")

LINUX, WINDOWS = "Linux", "Windows"
TRAINING = ("train", "tiny", "--epochs", "4", "--save-every", "1")
# What two runs on Linux do not have alike either: times, names of processes, and a database of rows in whatever pages.
OF_ITS_OWN = (
    "*/claims/*",
    "*/done/*",
    "*/course.json",
    "*.lock",
    "*/.checked",
    "experiments/experiments.db",
    "workers/*",
    "workspace.json",
)
TEXTS = (".json", ".csv", ".done", ".py", ".txt", ".md")


def environment_of(system):
    return for_children(missing_names()) if system == WINDOWS else {}


def succeed(system, *command):
    done = run_cli(*command, **environment_of(system))
    assert done.returncode == 0, (command, done.stderr)
    return done.stdout


def walked(data, root, first, second):
    """What is printed at the end of a workspace that `first` begins, `second` goes on with, and `first` opens again."""
    at = ("-w", root)
    succeed(first, "enqueue", data, *ENCODER, "--job-size", 4, *at)
    succeed(first, "work", "--max-jobs", 2, *at)
    assert kill_at_an_epoch(*TRAINING, *at, **environment_of(first)) < 0
    succeed(second, "work", *at)
    succeed(second, "train-head", "--ablation", "--epochs", 2, *at)
    predicted = json.loads(succeed(first, "predict", data, "--run", 2, "--json", *at))
    assert succeed(first, "verify", "--deep", *at).startswith("7 jobs sound (every byte of every payload), 0 pending, 0 torn")
    return predicted


def kept(root):
    """sha256 of each file that is the same however it was made, and of the rows of the database."""
    files = {path.relative_to(root).as_posix(): path for path in root.rglob("*") if path.is_file()}
    own = [name for name in files if any(fnmatch.fnmatch(name, pattern) for pattern in OF_ITS_OWN)]
    kept = {name: path.read_bytes() for name, path in files.items() if name not in own}
    with contextlib.closing(sqlite3.connect(root / "experiments" / "experiments.db")) as database:
        for table in ("runs", "metrics"):
            kept[table] = json.dumps(database.execute(f"SELECT * FROM {table} ORDER BY 1, 2, 3, 4").fetchall()).encode()
    return {name: hashlib.sha256(data).hexdigest() for name, data in kept.items()}


@pytest.fixture(scope="module")
def pictures(tmp_path_factory):
    folder = tmp_path_factory.mktemp("pictures")
    for number in range(20):
        draw(folder / "ab"[number % 2] / f"{number:02d}.png", number)
    return folder


@pytest.fixture(scope="module")
def on_linux(pictures, tmp_path_factory):
    root = tmp_path_factory.mktemp("linux") / "w"
    return walked(pictures, root, LINUX, LINUX), kept(root)


@pytest.mark.parametrize(("first", "second"), [(WINDOWS, LINUX), (LINUX, WINDOWS)], ids=["from Windows", "from Linux"])
def test_what_one_system_began_the_other_ends_to_the_same_bits(pictures, on_linux, tmp_path, first, second):
    predicted, files = on_linux
    assert walked(pictures, tmp_path / "w", first, second) == predicted
    assert kept(tmp_path / "w") == files
    assert len([name for name in files if "/shards/" in name]) >= 5
    texts = [path for path in (tmp_path / "w").rglob("*") if path.suffix in TEXTS]
    assert [path for path in texts if b"\r" in path.read_bytes()] == []
