"""Fault campaign: three workers are killed again and again on drives of other file systems, one of them like a cloud drive.

    python -m tests.faults.drives [--kills 100] [--only NTFS exFAT] [--photos DIR] [--write]

Each drive is mounted for the purpose; photos, workspace and all are on it. The work is real extraction, by the command line as
users call it; the reference is one uninterrupted worker on the machine's own disk. A command that ends with 75 is called again,
as its line says. On the cloud drive calls fail in spells; there two machines also work on one workspace, of which only bytes and
losses are judged: that they do no job twice is not promised.
"""

import argparse
import random
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from benchmarks.kills import committed, digests, leftovers
from benchmarks.real_kills import storm
from headstart.features.devices import cores
from headstart.pipeline.files import TEMPORARY_PREFIX
from tests.drives.mounting import CLOUD, DRIVES, CannotMountError, Drive, mounted
from tests.support import ROOT

from .__main__ import write_table
from .report import HEADER, Report, report_of

WORKERS = 3
_ENQUEUED = ("--weights", "embedded", "--job-size", "2")
_TRY_LATER = 75
_TRIES = 50
_OWN_PROCESSES = ["unshare", "--pid", "--fork", "--mount-proc", "--kill-child"]


@dataclass
class Scene:
    """One drive with photos on it, and what was wrong so far.

    Attributes:
        ends: how processes ended that nobody killed, by exit status.
    """

    drive: Drive
    errors: Path
    violations: list[str] = field(default_factory=list)
    ends: Counter[int] = field(default_factory=Counter)
    started: list[subprocess.Popen] = field(default_factory=list)

    def start(self, *arguments: object, machine: int = 0, alone: bool = False) -> subprocess.Popen:
        """Starts a command of Headstart. Args: alone: as another machine would, which cannot look up who lives here."""
        command = [*(_OWN_PROCESSES if alone else []), sys.executable, ROOT / "cli.py", *arguments]
        root = self.drive.machines[machine] / "workspace"
        with (self.errors / str(len(self.started))).open("w") as errors:
            process = subprocess.Popen([*map(str, command), "-w", str(root)], stdout=subprocess.DEVNULL, stderr=errors)
        self.started.append(process)
        return process

    def call(self, *arguments: object) -> None:
        """Calls a command until it no longer says that the drive is out of reach."""
        for _ in range(_TRIES):
            if self.start(*arguments).wait() != _TRY_LATER:
                return
        self.violations.append(f"wedged: {arguments[0]} still ended with {_TRY_LATER} after {_TRIES} times")

    def look_at_ends(self) -> None:
        """What is wrong with how processes ended that nobody killed."""
        for number, process in enumerate(self.started):
            if process.returncode is None or process.returncode < 0:
                continue
            self.ends[process.returncode] += 1
            if process.returncode not in (0, _TRY_LATER):
                said = (self.errors / str(number)).read_text().strip().splitlines()[-1:]
                self.violations.append(f"wedged: {process.args[2:]} ended with {process.returncode}: {''.join(said)[:300]}")


@dataclass(frozen=True)
class Reference:
    """What one uninterrupted worker makes on the machine's own disk.

    Attributes:
        photos: a folder of images.
        digests: sha256 of each payload, by the payload's name.
        first_job_s: how long a worker takes to its first job, while as many as in the storm start at once.
    """

    photos: Path
    digests: dict[str, str]
    first_job_s: float


def run_on(kind: str, reference: Reference, kills: int, seed: int) -> Report:
    """The storm on one drive, of fewer kills where the work is done before."""
    begun = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="headstart-drives-") as base, mounted(kind, Path(base) / "drive") as drive:
        scene = _begun(drive, reference, Path(base))
        root, jobs = drive.judge / "workspace", len(reference.digests)

        def longest_s(hits: int) -> float:
            done = committed(root)
            # Short lives while the work is ahead of the kills, so that the kills fall over the whole run, none too late.
            return 0 if done == jobs else reference.first_job_s * (1 if done / jobs >= 0.6 * hits / kills else 3)

        hits = storm([lambda: scene.start("work")] * WORKERS, kills, longest_s, random.Random(seed))
        left = len(leftovers(root))
        _finish(scene, reference)
        again = f"; {scene.ends[_TRY_LATER]} ended with {_TRY_LATER}" if scene.ends[_TRY_LATER] else ""
        notes = f"{jobs} jobs, {len(scene.started)} processes{again}; the killed left {left} files, one repair swept them"
        return report_of(kind, hits, scene.violations, time.monotonic() - begun, notes)


def run_two_machines(reference: Reference) -> Report:
    """Two machines that see each other's files late work on one workspace; nobody is killed."""
    begun = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="headstart-drives-") as base, mounted(CLOUD, Path(base) / "drive") as drive:
        scene = _begun(drive, reference, Path(base))
        _wait_until((drive.machines[1] / "workspace/features/jobs_queue.csv").is_file)
        for _ in range(_TRIES):
            both = [scene.start("work", machine=machine, alone=True) for machine in range(2)]
            if {process.wait() for process in both} == {0}:
                break
        done = Counter(job for path in scene.errors.iterdir() for job in re.findall(r"(?m)^job_\d+", path.read_text()))
        _finish(scene, reference)
        # A machine that cannot look up whether the other's process lives leaves what it made for as long as a lease.
        scene.violations = [violation for violation in scene.violations if not violation.startswith("orphan:")]
        twice = sum(times > 1 for times in done.values())
        notes = f"{len(reference.digests)} jobs, of which {twice} were done by both; what is left over is not judged"
        return report_of("cloud drive, two machines", 0, scene.violations, time.monotonic() - begun, notes)


def _begun(drive: Drive, reference: Reference, base: Path) -> Scene:
    errors = base / "errors"
    errors.mkdir()
    scene = Scene(drive, errors)
    shutil.copytree(reference.photos, drive.judge / "photos")
    names = {path.name for path in reference.photos.iterdir()}
    for machine in drive.machines:
        _wait_until(lambda machine=machine: {path.name for path in (machine / "photos").iterdir()} == names)
    scene.call("enqueue", drive.folder / "photos", *_ENQUEUED)
    return scene


def _finish(scene: Scene, reference: Reference) -> None:
    """One fresh worker, a repair and the same enqueue again; then the files are judged."""
    expected = reference.digests
    scene.call("work")
    scene.call("verify", "--deep", "--repair")
    scene.call("enqueue", scene.drive.folder / "photos", *_ENQUEUED)
    scene.call("verify", "--deep")
    scene.look_at_ends()
    root = scene.drive.judge / "workspace"
    found = {name: digest for name, digest in digests(root).items() if not name.startswith(TEMPORARY_PREFIX)}
    scene.violations += [f"lost: {name}" for name in sorted(expected.keys() - found.keys())]
    scene.violations += [f"wrong: {name}" for name in sorted(expected) if found.get(name, expected[name]) != expected[name]]
    scene.violations += [f"duplicated: {name}" for name in sorted(found.keys() - expected.keys())]
    if committed(root) != len(expected):
        scene.violations.append(f"lost: {committed(root)} jobs are done, of {len(expected)}")
    rows = (root / "features/jobs_queue.csv").read_text().splitlines()[1:]
    if len(rows) != len(expected):
        scene.violations.append(f"lost: the queue has {len(rows)} rows, of {len(expected)}")
    scene.violations += [f"orphan: {name}" for name in leftovers(root)]


def _wait_until(is_so: Callable[[], bool], longest_s: float = 60) -> None:
    end = time.monotonic() + longest_s
    while time.monotonic() < end:
        try:
            if is_so():
                return
        except OSError:
            pass  # late, or a spell
        time.sleep(0.1)
    raise TimeoutError("the drive does not show what was written to it")


def reference_of(photos: Path) -> Reference:
    """What one uninterrupted worker makes of these images."""
    with tempfile.TemporaryDirectory() as folder:

        def call(*words: object) -> float:
            begun = time.monotonic()
            command = [sys.executable, ROOT / "cli.py", *words, "-w", folder]
            subprocess.run([str(word) for word in command], check=True, capture_output=True)
            return time.monotonic() - begun

        call("enqueue", photos, *_ENQUEUED)
        seconds = call("work", "--max-jobs", 1)
        call("work")
        return Reference(photos, digests(Path(folder)), seconds * max(1, WORKERS / cores()))


def make_photos(folder: Path, count: int = 360) -> Path:
    """Noise as JPEG: images that nobody has to have."""
    import numpy as np
    from PIL import Image

    folder.mkdir()
    noise = np.random.default_rng(0)
    for number in range(count):
        pixels = noise.integers(0, 256, (96, 96, 3), np.uint8)
        Image.fromarray(pixels).save(folder / f"{number:03d}.jpg")
    return folder


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("--kills", type=int, default=100)
    parser.add_argument("--only", nargs="*", choices=DRIVES)
    parser.add_argument("--photos", type=Path, help="a folder of images without subfolders; some are made otherwise")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--write", action="store_true", help="write the figures into docs/reliability.md")
    arguments = parser.parse_args()
    reports: list[Report] = []
    with tempfile.TemporaryDirectory() as folder:
        reference = reference_of(arguments.photos or make_photos(Path(folder) / "photos"))
        for kind in arguments.only or DRIVES:
            try:
                reports.append(run_on(kind, reference, arguments.kills, arguments.seed))
                print(reports[-1].row(), flush=True)
                if kind == CLOUD:
                    reports.append(run_two_machines(reference))
                    print(reports[-1].row(), flush=True)
            except CannotMountError as error:
                print(f"{kind}: left out, {error}", flush=True)
    if arguments.write:
        rows = [report.row() for report in reports]
        write_table(HEADER, rows, "make drives", is_whole=not arguments.only, workspaces="on the drives")
    return int(any(report.violations for report in reports))


if __name__ == "__main__":
    sys.exit(main())
