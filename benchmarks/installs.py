"""The built wheel in clean environments, by pip, uv and pipx, and without torch: does it run there, how large is it?

    python -m benchmarks.installs [--only pip ...] [--python python3.11]

In each: `headstart demo`; then an extraction by the installed command, killed with SIGKILL in the middle and run again, until
`verify --deep` finds all of it. Without torch: the extraction goes through a graph that the installation by pip exported, and
`predict` has to say what that one said. One environment stands at a time; each with torch takes about 6 GB. Where wheels come
from is the installers' own configuration. Prints a table for RESULTS.md; exits with 1 if anything failed.
"""

import argparse
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from .photos import ROOT

LIGHT = ROOT / "requirements-without-torch.txt"
JOBS_BEFORE_THE_KILL = 3
PATIENCE_S = 300


@dataclass
class Scene:
    """Folders of one run: `tools` has uv and pipx, `kept` what the installation by pip leaves for the one without torch."""

    python: str
    wheel: Path
    tools: Path
    kept: Path

    @property
    def digits(self) -> Path:
        return self.kept / "demo" / "digits"

    @property
    def new(self) -> Path:
        return self.kept / "demo" / "new"


def run(*command: object, **variables: object) -> str:
    """What it printed. Raises: CalledProcessError with its last words."""
    environment = {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "VIRTUAL_ENV", "PYTHONHOME")}
    environment |= {name: str(value) for name, value in variables.items()}
    done = subprocess.run(
        list(map(str, command)), env=environment, cwd="/", capture_output=True, text=True, errors="replace", check=False
    )
    if done.returncode:
        raise subprocess.CalledProcessError(done.returncode, command, done.stdout[-2000:], done.stderr[-2000:])
    return done.stdout


def by_pip(scene: Scene, place: Path) -> Path:
    run(scene.python, "-m", "venv", place / "env")
    run(place / "env/bin/python", "-m", "pip", "install", "--quiet", "--no-cache-dir", scene.wheel)
    return place / "env/bin/headstart"


def by_uv(scene: Scene, place: Path) -> Path:
    # The cache lies beside the environment, so that files are linked, not copied, and it goes with it.
    folders = {"UV_TOOL_DIR": place / "env", "UV_TOOL_BIN_DIR": place / "bin", "UV_CACHE_DIR": place / "cache"}
    run(scene.tools / "bin/uv", "tool", "install", "--quiet", "--python", scene.python, scene.wheel, **folders)
    return place / "bin/headstart"


def by_pipx(scene: Scene, place: Path) -> Path:
    folders = {"PIPX_HOME": place / "env", "PIPX_BIN_DIR": place / "bin", "PIPX_MAN_DIR": place / "man"}
    run(scene.tools / "bin/pipx", "install", "--python", scene.python, "--pip-args=--no-cache-dir", scene.wheel, **folders)
    return place / "bin/headstart"


def without_torch(scene: Scene, place: Path) -> Path:
    run(scene.python, "-m", "venv", place / "env")
    pip = [place / "env/bin/python", "-m", "pip", "install", "--quiet", "--no-cache-dir"]
    run(*pip, "-r", LIGHT)
    run(*pip, "--no-deps", scene.wheel)
    return place / "env/bin/headstart"


def size_bytes(folder: Path) -> int:
    """On the disk, a file that has several names counted once."""
    files = {(stat.st_dev, stat.st_ino): stat.st_blocks * 512 for path in folder.rglob("*") if (stat := path.lstat())}
    return sum(files.values())


def kill_and_go_on(headstart: Path, workspace: Path) -> str:
    """Kills the whole group of a `work` after some jobs, works on, and has everything verified; says how it was."""
    with subprocess.Popen(
        [headstart, "work", "-w", workspace], stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL, start_new_session=True
    ) as worker:
        deadline = time.monotonic() + PATIENCE_S
        while len(markers(workspace)) < JOBS_BEFORE_THE_KILL:
            if worker.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(f"the worker in {workspace} was not killed: it ended with {worker.poll()}")
            time.sleep(0.005)
        os.killpg(worker.pid, signal.SIGKILL)
    before = {path: path.read_bytes() for path in markers(workspace)}
    run(headstart, "work", "-w", workspace)
    run(headstart, "verify", "--deep", "--repair", "-w", workspace)
    if any(path.read_bytes() != data for path, data in before.items()):
        raise RuntimeError(f"a job that was done before the kill was done again in {workspace}")
    return f"{len(before)} of {len(markers(workspace))} jobs kept"


def markers(workspace: Path) -> list[Path]:
    return list(workspace.glob("features/*/done/*/*.done"))


def with_torch(scene: Scene, headstart: Path, place: Path) -> tuple[str, str]:
    """The demo, and an extraction of its digits; what is for the environment without torch stays in `kept` the first time."""
    demo = place / "demo"
    said = run(headstart, "demo", "--folder", demo)
    if "Proved" not in said:
        raise RuntimeError(f"the demo proved nothing: {said[-500:]}")
    run(headstart, "enqueue", demo / "digits", "--weights", "embedded", "-w", place / "own")
    killed = kill_and_go_on(headstart, place / "own")
    if not scene.kept.exists():
        scene.kept.mkdir()
        shutil.copytree(demo, scene.kept / "demo")
        network = ("--encoder", "mobilenetv2_100", "--weights", "random:0")
        run(headstart, "enqueue", scene.digits, *network, "-w", scene.kept / "exported")
        answers = run(headstart, "predict", scene.new, "-w", scene.kept / "demo/workspace")
        (scene.kept / "answers").write_text(answers)
    return "ran", killed


def light(scene: Scene, headstart: Path, place: Path) -> tuple[str, str]:
    killed = kill_and_go_on(headstart, scene.kept / "exported")
    answers = run(headstart, "predict", scene.new, "-w", scene.kept / "demo/workspace")
    if answers != (scene.kept / "answers").read_text():
        raise RuntimeError("predict says something else without torch")
    count = sum(line.startswith(str(scene.new)) for line in answers.splitlines())
    return f"`predict`: the same for {count} images", killed


INSTALLERS: dict[str, tuple[Callable[[Scene, Path], Path], Callable[[Scene, Path, Path], tuple[str, str]]]] = {
    "pip": (by_pip, with_torch),
    "uv tool": (by_uv, with_torch),
    "pipx": (by_pipx, with_torch),
    "without torch": (without_torch, light),
}


def measured(name: str, scene: Scene, place: Path) -> str:
    """A row of the table."""
    install, use = INSTALLERS[name]
    begun = time.monotonic()
    headstart = install(scene, place)
    seconds = time.monotonic() - begun
    has_torch = "torch" in run(
        headstart.resolve().parent / "python", "-c", "import importlib.util as u; print(u.find_spec('torch') and 'torch')"
    )
    if has_torch == (name == "without torch"):
        raise RuntimeError(f"{name}: torch is {'there' if has_torch else 'missing'}")
    size = size_bytes(place / "env")
    shown, killed = use(scene, headstart, place)
    return f"| {name} | {seconds:,.0f} s | {size / 1e6:,.0f} MB | {shown} | {killed} |"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="+", choices=INSTALLERS, default=list(INSTALLERS))
    parser.add_argument("--python", default=sys.executable)
    arguments = parser.parse_args()
    if "without torch" in arguments.only and "pip" not in arguments.only:
        parser.error("without torch needs what the installation by pip leaves: add pip")
    failures = 0
    with tempfile.TemporaryDirectory(prefix="headstart-installs-") as name:
        folder = Path(name)
        build = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(folder / "dist")]
        subprocess.run(build, cwd=ROOT, check=True, capture_output=True)
        [wheel] = (folder / "dist").glob("*.whl")
        scene = Scene(arguments.python, wheel, folder / "tools", folder / "kept")
        run(scene.python, "-m", "venv", scene.tools)
        run(scene.tools / "bin/python", "-m", "pip", "install", "--quiet", "uv", "pipx")
        print("| installed by | took | environment | demo | killed, run again |\n|---|---|---|---|---|", flush=True)
        for installer in arguments.only:
            place = folder / "place"
            place.mkdir()
            try:
                print(measured(installer, scene, place), flush=True)
            except (subprocess.CalledProcessError, RuntimeError) as error:
                failures += 1
                print(f"| {installer} | failed: {error} {getattr(error, 'stderr', '') or ''} |", flush=True)
            finally:
                shutil.rmtree(place)
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
