"""What a user's own kind of job promises, shown by two small ones: a drawn world, and results of a program on a folder."""

import json
import os
import shutil
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

import headstart
from headstart.experiments.make_items import make_items
from headstart.experiments.making.made_items import made_folder
from headstart.pipeline.errors import HeadstartError
from headstart.pipeline.workspace import open_workspace
from tests.commands.calling import call
from tests.support import ROOT

from .killed_making import outcome_of

OWN = ROOT / "tests" / "experiments" / "making" / "own"
SMALL = '''"""Numbers and their squares."""

from dataclasses import dataclass

import numpy as np

import beside
from headstart.experiments.training.options import CheckedOptions, option

ITEMS_A_JOB = 4


@dataclass(frozen=True)
class Options(CheckedOptions):
    count: int = option(10, "numbers", at_least=1)


def items(options):
    return options.count


def make(item, options):
    return {"square": item.number**2 + beside.MORE, "text": "x" * item.number}
'''


@pytest.fixture(autouse=True)
def configuration(tmp_path, monkeypatch):
    monkeypatch.setenv("HEADSTART_CONFIG", str(tmp_path / "configuration"))
    return tmp_path / "configuration"


@pytest.fixture
def small(tmp_path):
    folder = tmp_path / "code"
    folder.mkdir()
    (folder / "small.py").write_text(SMALL)
    (folder / "beside.py").write_text("MORE = 0\n")
    return folder / "small.py"


def make(root, *arguments):
    return call("make", *arguments, "-w", root / "workspace")


def made(root):
    [folder] = (root / "workspace" / "features").glob("made_*")
    return headstart.open_made(folder)


@pytest.mark.parametrize("path", sorted(OWN.glob("*.py")), ids=lambda path: path.stem)
def test_a_kind_of_ones_own_needs_no_more_than_sixty_lines(path):
    assert len(path.read_text().splitlines()) <= 60


def test_a_drawn_world_is_made_in_jobs_of_sixty_four_and_read_back(tmp_path):
    done = make(tmp_path, OWN / "shapes.py", "--count", 150, "--edge", 12)
    assert done.status == 0, done.errors
    items = made(tmp_path)
    assert [len(shard["index"]) for shard in items.shards()] == [64, 64, 22]
    assert items.names == ["image", "mask", "facts"]
    images, facts = items.column("image"), [json.loads(text) for text in items.column("facts")]
    assert images.shape == (150, 12, 12)
    assert {one["shape"] for one in facts} == {"disc", "square"}
    assert np.array_equal(items.take("image", [149, 3]), images[[149, 3]])
    assert not images.flags.owndata or images.flags.writeable  # `column` copies; what is mapped is not handed out for writing
    with pytest.raises(ValueError, match="read-only"):
        items.shards()[0]["image"][0] = 0


def test_killed_at_any_moment_it_ends_in_the_same_bytes(tmp_path):
    file = OWN / "shapes.py"
    assert make(tmp_path / "whole", file).status == 0
    expected = outcome_of(open_workspace(tmp_path / "whole" / "workspace"))
    moments = ("check:100", "link:3", "replace:1", "fsync:5", "replace:4", "unlink:2", "mkdir:9", "check:300", "link:7")
    command = [sys.executable, "-m", "tests.jobs.killed_making", str(tmp_path / "killed"), str(file), *moments]
    environment = {**os.environ, "OPENBLAS_NUM_THREADS": "1"}
    ran = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=300, check=False)
    assert ran.returncode == 0, ran.stderr
    deaths, is_finished, outcome, violations = json.loads(ran.stdout)
    assert (deaths, is_finished, violations) == (len(moments), True, [])
    assert outcome == expected


def test_results_of_a_program_have_a_row_each_and_a_broken_file_costs_its_own(tmp_path):
    photos = tmp_path / "photos"
    photos.mkdir()
    for number in range(12):
        Image.fromarray(np.random.default_rng(number).integers(0, 255, (8, 8, 3), np.uint8)).save(photos / f"{number:02}.png")
    (photos / "05.png").write_bytes(b"no picture")
    done = make(tmp_path, OWN / "jpegs.py", "--folder", photos, "--json")
    assert done.status == 0, done.errors
    assert {key: done.json[key] for key in ("items", "ok", "failed")} == {"items": 24, "ok": 22, "failed": 2}
    assert "2 failed" in done.errors
    items = made(tmp_path)
    assert items.column("quality").tolist() == [30, 90] * 11
    assert (np.diff(items.column("bytes").reshape(-1, 2)) > 0).all()
    said = call("status", "--failed", "-w", tmp_path / "workspace").output
    assert "05.png@30  failed: UnidentifiedImageError" in said
    assert "(line 35 of jpegs.py)" in said


def test_what_a_limit_left_is_gone_on_with_by_the_same_command_and_by_work(small, tmp_path):
    assert make(tmp_path, small, "--enqueue-only").status == 0
    assert "0 of 10 are made" in call("status", "-w", tmp_path / "workspace").output
    assert make(tmp_path, small, "--time-limit", "0s").status == 10
    assert call("work", "-w", tmp_path / "workspace").status == 0
    again = make(tmp_path, small)
    assert (again.status, "job_" in again.errors) == (0, False)
    assert made(tmp_path).column("square").tolist() == [number**2 for number in range(10)]
    assert made(tmp_path).column("text") == ["x" * number for number in range(10)]


def test_a_file_that_was_not_allowed_here_is_left_with_one_line_that_names_the_command(small, configuration, tmp_path):
    assert make(tmp_path, small, "--enqueue-only").status == 0
    shutil.rmtree(configuration)
    [kept] = (tmp_path / "workspace").glob("features/made_*/code/small.py")
    left = call("work", "-w", tmp_path / "workspace")
    assert f"headstart allow {kept}" in left.errors
    assert "0 of 10 are made" in call("status", "-w", tmp_path / "workspace").output
    assert call("allow", kept).status == 0
    assert call("work", "-w", tmp_path / "workspace").status == 0
    assert len(made(tmp_path)) == 10


@pytest.mark.parametrize("changed", ["small.py", "beside.py"])
def test_kept_code_that_somebody_changed_does_not_run(changed, small, tmp_path):
    assert make(tmp_path, small, "--enqueue-only").status == 0
    [kept] = (tmp_path / "workspace").glob(f"features/made_*/code/{changed}")
    with kept.open("a") as file:
        file.write("print('other code')\n")
    left = call("work", "-w", tmp_path / "workspace")
    assert "is missing or was changed" in left.errors
    assert "other code" not in left.output


def test_a_changed_file_or_option_is_made_apart(small, tmp_path):
    for words in ((small,), (small, "--count", 5), (small, "--count", 5)):
        assert make(tmp_path, *words).status == 0
    (small.parent / "beside.py").write_text("MORE = 1\n")
    assert make(tmp_path, small).status == 0
    assert len(list((tmp_path / "workspace" / "features").glob("made_small_*"))) == 3
    with pytest.raises(HeadstartError, match="name one of them"):
        made_folder(open_workspace(tmp_path / "workspace"), "small")


def test_what_was_made_can_be_removed_and_made_again(small, tmp_path):
    assert make(tmp_path, small).status == 0
    folder = made_folder(open_workspace(tmp_path / "workspace"), "small")
    assert call("remove", "made", folder.name, "--yes", "-w", tmp_path / "workspace").status == 0
    assert not folder.exists()
    assert make(tmp_path, small).status == 0
    assert len(made(tmp_path)) == 10


def test_an_option_that_is_a_file_goes_by_its_bytes(small, tmp_path):
    (tmp_path / "table").write_text("7")
    small.write_text(
        SMALL.replace("count: int", 'table: Path | None = option(None, "a file")\n    count: int')
        .replace("import numpy", "from pathlib import Path\n\nimport numpy")
        .replace("beside.MORE", "int(options.table.read_text())")
    )
    assert make(tmp_path, small, "--table", tmp_path / "table", "--enqueue-only").status == 0
    (tmp_path / "table").write_text("8")
    left = call("work", "-w", tmp_path / "workspace")
    assert "--table" in left.errors
    assert "is missing or was changed" in left.errors
    (tmp_path / "table").write_text("7")
    assert call("work", "-w", tmp_path / "workspace").status == 0
    assert made(tmp_path).column("square")[0] == 7


def test_a_flipped_bit_of_what_was_made_is_one_line(small, tmp_path):
    assert make(tmp_path, small).status == 0
    path = sorted((tmp_path / "workspace").glob("features/made_*/shards/*/*"))[0]
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
    with pytest.raises(HeadstartError, match="cannot be read"):
        made(tmp_path)


MISTAKES = {
    "no items function": ("def items(", "def itemss(", "has no function items"),
    "no make function": ("def make(", "def makee(", "has no function make"),
    "no number of items": ("return options.count", "return 'ten'", "items() returned 'ten', expected a number, or a list"),
    "no item": ("return options.count", "return 0", "items() says that there is none"),
    "items raises": ("return options.count", "return options.cuont", "items() failed: AttributeError"),
    "no values": ('return {"square"', 'return [1] or {"square"', "make() returned [1], expected values by name"),
    "a name that is taken": ('"square"', '"index"', "make() returned 'index', which is the item's number already"),
    "other names": ('{"square"', '{"a" if item.number else "b": 1, "square"', "Give all items the same names"),
    "shapes that change": (
        "item.number**2",
        "np.ones(item.number + 1)",
        "'square' of item 1 is float64 of shape (2,), of item 0",
    ),
    "types that change": ("item.number**2", "(item.number or 0.5)", "'square' of item 1 is int64 of shape (), of item 0 float64"),
    "a type that is not kept": ("item.number**2", "1j", "'square' is complex128, expected text or one of bool, float16"),
    "an object": ("item.number**2 + beside.MORE", "None", "'square' is object, expected text or one of"),
    "bytes that change": ("item.number**2", "np.random.rand()", "make() gives item 0 other bytes each time"),
    "make raises": ("return {", "return {}[item.name] or {", "make() failed for the first items: KeyError: '0' (line"),
    "jobs of no item": ("ITEMS_A_JOB = 4", "ITEMS_A_JOB = 0", "ITEMS_A_JOB is 0, expected a whole number from 1 on"),
    "options of no class": ("Options(CheckedOptions)", "Options", "Options is no subclass of CheckedOptions"),
    "an import": ("import beside", "import nothing_of_that_name", "cannot be loaded: ModuleNotFoundError"),
    "no Python": ("def make(", "def make(:", "cannot be loaded: SyntaxError"),
    "prepare raises": (
        "def make(",
        "def prepare(options):\n    return 1 / 0\n\n\ndef make(",
        "prepare() failed: ZeroDivisionError",
    ),
}


@pytest.mark.parametrize(("before", "after", "reason"), MISTAKES.values(), ids=MISTAKES)
def test_a_file_that_is_wrong_is_one_line(before, after, reason, small, tmp_path):
    assert before in SMALL
    small.write_text(SMALL.replace(before, after))
    done = make(tmp_path, small)
    assert done.status == 1
    assert reason in done.errors
    assert done.errors.strip().splitlines()[-1].startswith("error: ")
    assert "Traceback" not in done.errors


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        pytest.param(("missing.py",), "missing.py: there is no such file", id="no file"),
        pytest.param(("FILE", "--count", "0"), "count is 0, expected 1 or more", id="a bound"),
        pytest.param(("FILE", "--count", "many"), "count is 'many', expected a whole number", id="no number"),
    ],
)
def test_a_mistake_on_the_command_line_is_one_line(words, reason, small, tmp_path):
    assert reason in make(tmp_path, *(small if word == "FILE" else word for word in words)).reason


def test_an_item_that_ends_its_process_fails_alone(small, tmp_path):
    small.write_text(
        SMALL.replace(
            "    return {", "    if item.number == 6:\n        import os\n\n        os.kill(os.getpid(), 9)\n    return {"
        )
    )
    assert make(tmp_path, small, "--enqueue-only").status == 0
    command = [sys.executable, str(ROOT / "cli.py"), "work", "-w", str(tmp_path / "workspace")]
    ran = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    assert ran.returncode == 0, ran.stderr
    items = made(tmp_path)
    assert items.index.tolist() == [0, 1, 2, 3, 4, 5, 7, 8, 9]
    assert "killed" in call("status", "--failed", "-w", tmp_path / "workspace").output


def test_a_library_call_makes_what_the_command_makes(small, tmp_path):
    heard = []
    ours = make_items(small, {"count": 3}, tmp_path / "workspace", report=heard.append)
    assert (ours.items, ours.ok, ours.is_finished, ours.exit_code) == (3, 3, True, 0)
    assert heard[0].endswith("3 items, 4 a job")
