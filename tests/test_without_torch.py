"""requirements-without-torch.txt is true: with nothing else installed, features are extracted and heads predict on a CPU."""

import re
import shutil
import subprocess
import sys
import tomllib
from importlib import metadata
from pathlib import Path

import pytest
from PIL import Image

from tests.support import ROOT, run_cli

LINES = [line.split("#")[0].strip() for line in (ROOT / "requirements-without-torch.txt").read_text().splitlines()]
LISTED = {re.split("[<>=]", line)[0]: line for line in LINES if line}


def packages_with_theirs(names: list[str]) -> set[str]:
    """The names of packages, and of all that these need here."""
    known: set[str] = set()
    while names:
        name = re.sub(r"[-_.]+", "-", names.pop()).lower()
        if name in known:
            continue
        known.add(name)
        for line in metadata.requires(name) or ():
            marker = line.partition(";")[2]
            needed = re.match(r"[\w.-]+", line)
            if needed and "extra" not in marker and _is_here(needed[0]):
                names.append(needed[0])
    return known


def _is_here(name: str) -> bool:
    try:
        return bool(metadata.version(name))
    except metadata.PackageNotFoundError:
        return False  # for another system or another Python


@pytest.fixture(scope="module")
def bare(tmp_path_factory) -> Path:
    """Python of an environment that has what the file lists, and what that needs, and nothing more."""
    folder = tmp_path_factory.mktemp("bare")
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", folder], check=True)
    [site] = [*folder.glob("lib/python*/site-packages"), *folder.glob("Lib/site-packages")]
    for name in packages_with_theirs(list(LISTED)):
        for file in metadata.files(name) or ():
            top = file.parts[0]
            if top not in ("..", "__pycache__") and not (site / top).exists():
                (site / top).symlink_to(
                    Path(str(file.locate())).parents[len(file.parts) - 2] if len(file.parts) > 1 else file.locate()
                )
    (site / "headstart.pth").write_text(f"{ROOT}\n")
    return next(path for path in (folder / "bin/python", folder / "Scripts/python.exe") if path.exists())


@pytest.fixture(scope="module")
def place(tmp_path_factory) -> Path:
    """A workspace that an installation with torch left: a head on features of half of the pictures, and `new` to predict."""
    folder = tmp_path_factory.mktemp("place")
    for number in range(36):
        path = folder / "data" / "ab"[number % 2] / f"{number:02d}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (16, 16), (100 + 60 * (number % 2) + number, 90, number)).save(path)
    shutil.copytree(folder / "data" / "a", folder / "new")
    words = ("--weights", "embedded", "--job-size", "12", "-w", folder / "w")
    for command in (
        ("enqueue", folder / "data", *words),
        ("work", *words[-2:]),
        ("train-head", "--hidden", "8", "--activation", "gelu", "--epochs", "2", *words[-2:]),
    ):
        done = run_cli(*command)
        assert done.returncode == 0, done.stderr
    return folder


def call(python: Path, *arguments: object) -> subprocess.CompletedProcess:
    return subprocess.run(
        [python, "-m", "headstart.cli", *map(str, arguments)], capture_output=True, text=True, timeout=300, check=False
    )


def test_the_file_asks_for_what_the_package_asks_for_but_torch_and_timm():
    said = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["dependencies"]
    of_package = {re.split("[<>=]", line)[0]: line for line in said}
    assert {"torch", "timm"} <= of_package.keys()
    assert not {"torch", "timm"} & packages_with_theirs(list(LISTED))
    assert {name: of_package.get(name) for name in LISTED} == LISTED


def test_nothing_else_is_there(bare):
    others = ["torch", "timm", "pandas", "sklearn", "scipy", "onnx"]
    code = f"import importlib.util as u; print([name for name in {others} if u.find_spec(name)])"
    assert subprocess.run([bare, "-c", code], capture_output=True, text=True, check=True).stdout == "[]\n"


def test_features_are_extracted_and_are_the_same_bytes(bare, place, tmp_path):
    def shards(root: Path) -> dict[str, bytes]:
        return {path.name: path.read_bytes() for path in root.glob("features/encoder_*/shards/*/*.npz")}

    for command in (("enqueue", place / "data", "--weights", "embedded", "--job-size", "12"), ("work",), ("verify", "--deep")):
        done = call(bare, *command, "-w", tmp_path / "w")
        assert done.returncode == 0, done.stderr
    assert len(shards(tmp_path / "w")) == 3
    assert shards(tmp_path / "w") == shards(place / "w")


def test_a_head_predicts_the_same(bare, place):
    words = ("predict", place / "new", "--run", "2", "--csv", "-w", place / "w")
    expected = run_cli(*words)
    assert len(expected.stdout.splitlines()) == 19
    found = call(bare, *words)
    assert (found.returncode, found.stdout) == (0, expected.stdout), found.stderr


NEEDS_MORE = {
    "train a head": (("train-head", "--name", "more"), "torch"),
    "resolve an encoder": (("enqueue", "DATA", "--encoder", "resnet18", "--weights", "random:0"), "timm"),
    "evaluate": (("evaluate", "1"), "torch"),
    "report": (("report",), "torch"),
    "train a recipe": (("train", "tiny"), "torch"),
    "a network with GELU": (("predict", "DATA", "--run", "1"), "scipy"),
}


@pytest.mark.parametrize(("command", "package"), NEEDS_MORE.values(), ids=NEEDS_MORE)
def test_what_needs_more_says_which_package_and_blames_no_job(bare, place, command, package):
    done = call(bare, *(place / "data" if word == "DATA" else word for word in command), "-w", place / "w")
    *_, last = done.stderr.splitlines()
    said = f"error: {package} is not installed here, and this needs it. Install it: pip install {package}"
    assert (done.returncode, last) == (1, said)
    assert not list((place / "w").rglob("*.failed*"))
