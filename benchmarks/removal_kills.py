"""SIGKILL in `remove` and `clean` before each call that changes the disk, and a worker whose data set is removed meanwhile.

python -m benchmarks.removal_kills [--every 1]

A workspace of 192 drawn images, two data sets, features and two trainings. Each trial copies it and kills one command before a
call of unlink, rename, link or rmdir; `clean` then ends what was begun, as its user would. What was to go must be gone whole,
every other file must have the bytes that it had, and `status`, `runs` and `verify` must find nothing wrong. A worker at work on
640 images gets its data set removed: it must end by itself with 0 and say so in one line. 15 minutes on two quiet cores.
"""

from __future__ import annotations

import argparse
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from PIL import Image

from .photos import HERE, headstart
from .synthetic import verdict

KILLER = """
import os, signal, sys
left = int(sys.argv[1])
def watched(call):
    def killing(*arguments, **words):
        global left
        left -= 1
        if left == 0:
            os.kill(os.getpid(), signal.SIGKILL)
        return call(*arguments, **words)
    return killing
for name in ("unlink", "remove", "rename", "replace", "rmdir", "link"):
    setattr(os, name, watched(getattr(os, name)))
sys.argv = ["headstart", *sys.argv[2:]]
from headstart.cli import main
main()
"""
COMMANDS = {
    "remove run": ("remove", "run", "1"),
    "remove experiment": ("remove", "experiment", "second"),
    "remove encoder": ("remove", "encoder", "encoder_"),
    "remove data": ("remove", "data", "two"),
    "clean": ("clean",),
}
MOST = 400  # calls of one command


def draw(folder: Path, count: int, seed: int) -> Path:
    random = np.random.default_rng(seed)
    for number in range(count):
        path = folder / "ab"[number % 2] / f"{number:04d}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        shade = random.integers(0, 120, (32, 32, 3)) + 100 * (number % 2)
        Image.fromarray(shade.astype(np.uint8)).save(path)
    return folder


def contents(root: Path) -> dict[str, bytes]:
    """All files but those that any look at a workspace may write."""
    skipped = (
        "experiments.db",
        "runs.json",
        ".lock",
        "summaries/",
        "jobs_withdrawn",
        "jobs_queue",
        "workers/",
        ".checked",
        "claims/",
    )
    files = {path.relative_to(root).as_posix(): path for path in root.rglob("*") if path.is_file()}
    return {name: path.read_bytes() for name, path in files.items() if not any(word in name for word in skipped)}


def killed(count: int, words: tuple[str, ...], root: Path) -> bool:
    """Whether the command was killed before its count-th change; False: it was done before."""
    command = [sys.executable, "-c", KILLER, str(count), *words, "--yes", "-w", str(root)]
    code = subprocess.run(command, capture_output=True, env=HERE, check=False).returncode
    if code not in (0, -9):
        raise SystemExit(f"{words} ended with {code}")
    return code == -9


def campaign(name: str, words: tuple[str, ...], whole: Path, scratch: Path, every: int) -> tuple[int, list[str]]:
    """Trials, and what was wrong."""
    wanted_root = scratch / "wanted"
    shutil.copytree(whole, wanted_root)
    headstart(*words, "--yes", "-w", wanted_root)
    headstart("clean", "--yes", "-w", wanted_root)
    wanted, trials, faults = contents(wanted_root), 0, []
    shutil.rmtree(wanted_root)
    shutil.copytree(whole, wanted_root)
    headstart("clean", "--yes", "-w", wanted_root)
    untouched = contents(wanted_root)
    shutil.rmtree(wanted_root)
    for count in range(1, MOST, every):
        root = scratch / "trial"
        shutil.copytree(whole, root)
        was_killed = killed(count, words, root)
        if was_killed:
            trials += 1
            for command in (["status"], ["runs"] if name != "remove encoder" else ["status"], ["clean", "--yes"]):
                headstart(*command, "-w", root)  # each raises unless it ends with 0
            found = contents(root)
            if found != wanted and not (found == untouched and _is_done_again(words, root, wanted)):
                differ = sorted(set(found) ^ set(wanted)) or sorted(n for n in wanted if found[n] != wanted[n])
                faults.append(f"{name}, killed before change {count}: {differ[:3]}")
            headstart("verify", "-w", root)
        shutil.rmtree(root)
        if not was_killed:
            break
    return trials, faults


def _is_done_again(words: tuple[str, ...], root: Path, wanted: dict[str, bytes]) -> bool:
    """Killed before anything was written down, nothing has begun: the same command then does all of it."""
    headstart(*words, "--yes", "-w", root)
    headstart("clean", "--yes", "-w", root)
    return contents(root) == wanted


def worker_loses_its_data(scratch: Path) -> tuple[int, list[str], list[str]]:
    """Exit status of the worker, what it said, and files that are left of the data set."""
    root = scratch / "work"
    headstart("enqueue", draw(scratch / "many", 640, 7), "--weights", "embedded", "--job-size", "16", "-w", root)
    command = [sys.executable, "-m", "headstart.cli", "work", "-w", str(root)]
    worker = subprocess.Popen(command, stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=HERE)
    while not list(root.glob("features/encoder_*/done/*/*.done")):
        time.sleep(0.01)
    headstart("remove", "data", "many", "--yes", "-w", root)
    said = worker.communicate(timeout=300)[1]
    headstart("clean", "--yes", "-w", root)
    left = [path.name for path in root.glob("features/*/*/*/job_*")] + [path.name for path in root.glob("features/manifests/*")]
    return worker.returncode, [line for line in said.splitlines() if "removed" in line or "Traceback" in line], left


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--every", type=int, default=1, help="each so many-th change alone")
    parser.add_argument("--only", choices=COMMANDS)
    options = parser.parse_args()
    faults: list[str] = []
    trials = 0
    with tempfile.TemporaryDirectory() as name:
        scratch = Path(name)
        code, said, left = worker_loses_its_data(scratch)
        print(f"worker whose data set was removed: exit {code}, said {said}, left over {left}", flush=True)
        whole = scratch / "whole"
        for number, data in enumerate(("one", "two")):
            headstart("enqueue", draw(scratch / data, 96, number), "--weights", "embedded", "-w", whole)
        headstart("work", "-w", whole)
        for experiment in ("first", "second"):
            headstart("train-head", "--epochs", "2", "--name", experiment, "-w", whole)
        for title, words in COMMANDS.items():
            if options.only not in (None, title):
                continue
            done, wrong = campaign(title, words, whole, scratch, options.every)
            print(f"{title}: {done} kills, {len(wrong)} wrong", *wrong[:5], sep="\n  ", flush=True)
            trials, faults = trials + done, faults + wrong
    verdict("kills after which something was half gone or touched", len(faults), 0, is_least=False)
    verdict("a worker's lines on its removed data set", len(said), 1, is_least=False)
    verdict("files left of that data set", len(left), 0, is_least=False)
    print(f"{trials} kills")


if __name__ == "__main__":
    main()
