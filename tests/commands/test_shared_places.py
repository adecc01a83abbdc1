"""Several users, poor environments: modes of what is made, names that a locale lacks, places that may not be read or written."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

from tests.support import ROOT

pytestmark = pytest.mark.skipif(os.name == "nt", reason="no modes and no such locales there")
IS_ROOT = os.name != "nt" and os.geteuid() == 0
# Root may read and write everything, unless it gives that up.
WITH_FEWER_RIGHTS = ("setpriv", "--bounding-set=-dac_override,-dac_read_search") if IS_ROOT else ()
NEEDS_RIGHTS_TO_COUNT = pytest.mark.skipif(IS_ROOT and not shutil.which("setpriv"), reason="root may read everything; no setpriv")


def draw(data: Path, *names: str) -> Path:
    for number, name in enumerate(names):
        path = data / name
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (9, 8), (17 * number % 256, number, 0)).save(path)
    return data


def said(*words: object, before: tuple[str, ...] = (), umask: int = -1, **environment: str) -> str:
    """What a command prints; it must end with 0."""
    done = subprocess.run(
        [*before, sys.executable, str(ROOT / "cli.py"), *map(str, words)],
        capture_output=True,
        encoding="utf-8",
        errors="replace",  # what a terminal of another encoding is sent
        timeout=240,
        check=False,
        umask=umask,
        env=os.environ | environment,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


@pytest.mark.parametrize("mode", [0o2775, 0o770], ids=["with-its-group-for-all", "without"])
def test_what_a_careful_member_makes_in_a_shared_workspace_the_others_may_use(tmp_path, mode):
    data = draw(tmp_path / "photos", *(f"{label}/{i}.png" for label in "ab" for i in range(3)))
    workspace = tmp_path / "w"
    said("enqueue", data, "--weights", "embedded", "-w", workspace, umask=0o002)
    workspace.chmod(mode)
    (data / "a/0.png").rename(data / "a/other.png")
    for words in (["enqueue", data], ["work"], ["status"]):
        said(*words, "-w", workspace, umask=0o077)
    assert list(workspace.glob("features/manifests/*/revision_*"))
    for path in workspace.rglob("*"):
        needed = 0o070 if path.is_dir() else 0o060
        assert path.stat().st_mode & needed == needed, path


def test_what_is_made_in_a_workspace_of_ones_own_follows_the_umask(tmp_path):
    data = draw(tmp_path / "photos", "a/1.png", "b/2.png")
    (tmp_path / "w").mkdir(mode=0o700)
    for words in (["enqueue", data, "--weights", "embedded"], ["work"]):
        said(*words, "-w", tmp_path / "w", umask=0o077)
    assert [path for path in (tmp_path / "w").rglob("*") if path.stat().st_mode & 0o077] == []


@pytest.mark.parametrize("encoding", ["", "ascii", "latin-1"], ids=["of-the-locale", "ascii", "latin-1"])
def test_names_that_the_locale_cannot_spell_cost_nothing_in_any_command(tmp_path, encoding):
    data = draw(tmp_path / "Größe", *(f"{label}/{name}.png" for label in ("Öl", "茶") for name in ("ñ", "plain", "e\u0301")))
    (data / "t.csv").write_text("path,label\nÖl/ñ.png,é\n茶/plain.png,ü\n", encoding="utf-8")
    poor = {"LC_ALL": "POSIX", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0", "PYTHONIOENCODING": encoding}
    for source in (data, data / "t.csv"):
        said("enqueue", source, "--weights", "embedded", "-w", tmp_path / "ŵ", **poor)
    assert "failed" not in said("work", "-w", tmp_path / "ŵ", **poor)
    assert "8 of 8 have features" in said("status", "--failed", "-w", tmp_path / "ŵ", **poor)
    assert "0 new images, 6 known" in said("enqueue", data, "-w", tmp_path / "ŵ")  # the same names in another locale


@NEEDS_RIGHTS_TO_COUNT
@pytest.mark.parametrize(
    ("name", "said_of_it"),
    [
        ("private", "may not be listed: private"),
        ("a/inner", "may not be listed: a/inner"),
        ("lost+found", "left out 1 entries"),
        (".hidden", "left out 1 entries"),
    ],
    ids=["a-class", "below-a-class", "of-the-file-system", "hidden"],
)
def test_a_folder_that_may_not_be_read_is_passed_over_and_said(tmp_path, name, said_of_it):
    data = draw(tmp_path / "photos", *(f"{label}/{i}.png" for label in "ab" for i in range(3)), f"{name}/closed.png")
    (data / name).chmod(0)
    try:
        shown = said("enqueue", data, "--weights", "embedded", "-w", tmp_path / "w", before=WITH_FEWER_RIGHTS)
    finally:
        (data / name).chmod(0o755)
    assert "6 new images, 0 known" in shown
    assert said_of_it in shown


@NEEDS_RIGHTS_TO_COUNT
def test_data_that_may_only_be_read_is_worked_off_without_a_trace_and_what_may_no_longer_be_read_stays(tmp_path):
    data = draw(tmp_path / "photos", *(f"{label}/{i}.png" for label in "ab" for i in range(3)))
    places = [data, *data.rglob("*")]
    for path in places:
        path.chmod(0o555 if path.is_dir() else 0o444)
    before = {path: path.stat().st_mtime_ns for path in places}
    for words in (["enqueue", data, "--weights", "embedded"], ["work"]):
        said(*words, "-w", tmp_path / "w", before=WITH_FEWER_RIGHTS)
    assert {path: path.stat().st_mtime_ns for path in [data, *data.rglob("*")]} == before
    (data / "b").chmod(0)
    try:
        shown = said("enqueue", data, "-w", tmp_path / "w", before=WITH_FEWER_RIGHTS)
    finally:
        (data / "b").chmod(0o755)
    assert "0 new images, 3 known" in shown
    assert "retired" not in said("status", "-w", tmp_path / "w")
