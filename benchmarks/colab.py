"""A notebook machine that vanishes: in an extraction, in a training and in the middle of `sync`. What is lost, in seconds?

    python -m benchmarks.colab [--cores 2] [--memory-gb 12] [--disk-gb 12] [--every 5] [--epochs 800] [--images 8000]

Needs root, Linux and cgroups of version 1. Each machine is a root of its own: an overlay over this one whose changes lie in
memory, in a PID and mount namespace, with cores and memory limited. `/content` is part of it and goes with it; images lie
read-only below `/content/input`, and `/content/drive` is a folder that outlives it. In it runs what docs/cron.md says, with short
times: bring the workspace back, work for some seconds, `sync`, again. A disconnect is SIGKILL to the whole namespace. Prints a
table for RESULTS.md; exits with 1 if the end differs from that of a machine that lived.
"""

import argparse
import hashlib
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

from .photos import ROOT, headstart, repeat

SAVE_S = 2  # between checkpoints of a training
PATIENCE_S = 600
JOB_SIZE = 8
GROUP = Path("/sys/fs/cgroup/memory/headstart-colab")

BEGIN = """
set -e
echo 0 > {group}/cgroup.procs
mount -t tmpfs -o size={disk}g none {scratch}
mkdir {scratch}/changes {scratch}/work {scratch}/root
mount -t overlay -o lowerdir=/,upperdir={scratch}/changes,workdir={scratch}/work none {scratch}/root
cd {scratch}/root
mkdir -p content/input content/drive
mount --bind {images} content/input
mount -o remount,ro,bind content/input
mount --bind {drive} content/drive
mount -t proc none proc
mount --rbind /dev dev
exec chroot . /bin/bash /content/drive/cell.sh
"""
EXTRACTION = """
cd /content
h() {{ {python} -P -m headstart.cli "$@" -w /content/workspace; }}
h sync /content/drive/copy || h enqueue /content/input --weights embedded --job-size {job_size}
touch /content/drive/ready
while true; do
  h work --time-limit {every}s --exit-status; status=$?
  h sync /content/drive/copy || exit 1
  [ $status -eq 10 ] || break
done
touch /content/drive/finished
"""
TRAINING = """
cd /content
h() {{ {python} -P -m headstart.cli "$@" -w /content/workspace; }}
h sync /content/drive/copy
touch /content/drive/ready
while true; do
  h train tiny --epochs {epochs} --patience 0 --save-seconds {save}s --time-limit {every}s; status=$?
  h sync /content/drive/copy || exit 1
  [ $status -eq 10 ] || break
done
touch /content/drive/finished
"""
CELLS = {"extraction": EXTRACTION, "training": TRAINING}


@dataclass
class Machines:
    """What they have in common, and the folder that outlives them."""

    images: Path
    drive: Path
    scratch: Path
    cores: int
    disk: int
    every_s: int
    epochs: int

    def start(self, cell: str) -> subprocess.Popen:
        """A machine that runs `cell`; whoever kills it kills all that runs in it, and takes its disk away."""
        for name in ("ready", "finished"):
            (self.drive / name).unlink(missing_ok=True)
        (self.drive / "cell.sh").write_text(
            cell.format(python=sys.executable, every=self.every_s, save=SAVE_S, epochs=self.epochs, job_size=JOB_SIZE)
        )
        begin = BEGIN.format(group=GROUP, disk=self.disk, scratch=self.scratch, images=self.images, drive=self.drive)
        cores = ",".join(map(str, sorted(os.sched_getaffinity(0))[: self.cores]))
        command = ["unshare", "--mount", "--pid", "--fork", "--kill-child", "taskset", "-c", cores, "bash", "-c", begin]
        environment = {**os.environ, "PYTHONPATH": str(ROOT), "HEADSTART_CEILING": "/content"}
        with (self.drive / "log").open("a") as log:
            return subprocess.Popen(command, stdout=log, stderr=log, env=environment)

    def until(self, machine: subprocess.Popen, is_reached: Callable[[], bool], tick_s: float = 0.01) -> float:
        """Seconds until then. Raises: RuntimeError if the machine ended before."""
        begun = time.monotonic()
        while not is_reached():
            if machine.poll() is not None or time.monotonic() - begun > PATIENCE_S:
                raise RuntimeError(
                    f"the machine ended with {machine.poll()} too early: {(self.drive / 'log').read_text()[-1500:]}"
                )
            time.sleep(tick_s)
        return time.monotonic() - begun

    def packs(self) -> list[Path]:
        return sorted(self.drive.glob("copy/pack_*.pack"))

    def half_packs(self) -> list[int]:
        """What a sync has begun to write: beyond what it tries the folder out with."""
        sizes = [path.stat().st_size for path in self.drive.glob("copy/.*") if path.exists()]
        return [size for size in sizes if size > 64]


def disconnect(machine: subprocess.Popen) -> None:
    machine.send_signal(signal.SIGKILL)
    machine.wait()


def lived(machines: Machines, cell: str) -> dict[str, str]:
    """What a machine that nobody disconnects leaves on the drive."""
    machine = machines.start(cell)
    machines.until(machine, (machines.drive / "finished").exists)
    machine.wait()
    return outcome(machines)


def outcome(machines: Machines) -> dict[str, str]:
    """Digests of what counts in the copy: features, and weights of trainings."""
    with tempfile.TemporaryDirectory(dir=machines.scratch.parent) as name:
        root = Path(name) / "w"
        headstart("sync", machines.drive / "copy", "-w", root)
        headstart("verify", "--deep", "-w", root)
        files = [*root.glob("features/encoder_*/shards/*/*"), *root.glob("experiments/*/checkpoints/final.safetensors")]
        if not files:
            raise RuntimeError("the drive has nothing of what was to be made")
        return {path.relative_to(root).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def walked(machines: Machines, cell: str, where: str) -> tuple[dict[str, str], str]:
    """The same with two disconnects: in the middle of the work after the second sync, and in the middle of the fourth sync."""
    machine = machines.start(cell)
    machines.until(machine, lambda: len(machines.packs()) >= 2)
    kept = time.monotonic()
    time.sleep(machines.every_s * 0.7)
    if (machines.drive / "finished").exists():
        raise RuntimeError(f"the {where} was over before the disconnect: make it longer")
    lost_s = time.monotonic() - kept
    disconnect(machine)
    machine = machines.start(cell)
    back_s = machines.until(machine, (machines.drive / "ready").exists)
    count = len(machines.packs())
    machines.until(machine, lambda: len(machines.packs()) >= count + 1)
    kept = time.monotonic()
    machines.until(machine, lambda: bool(machines.half_packs()), tick_s=0)
    disconnect(machine)
    in_sync_s = time.monotonic() - kept
    half = sum(machines.half_packs())
    whole = len(machines.packs())
    machine = machines.start(cell)
    machines.until(machine, (machines.drive / "finished").exists)
    machine.wait()
    found = outcome(machines)
    row = (
        f"| {where} | {lost_s:.1f} s of work, {back_s:.1f} s until the next machine goes on | {in_sync_s:.1f} s of work: "
        f"{half:,} bytes of a pack half written, {whole} whole ones kept |"
    )
    return found, row


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cores", type=int, default=2)
    parser.add_argument("--memory-gb", type=int, default=12)
    parser.add_argument("--disk-gb", type=int, default=12)
    parser.add_argument("--every", type=int, default=5, help="seconds of work between two syncs")
    parser.add_argument("--epochs", type=int, default=800)
    parser.add_argument("--images", type=int, default=8000)
    parser.add_argument("--only", choices=CELLS, help="one of the two walks")
    arguments = parser.parse_args()
    GROUP.mkdir(exist_ok=True)
    (GROUP / "memory.limit_in_bytes").write_text(str(arguments.memory_gb << 30))
    is_same = True
    print("| machine gone in | while it worked | in the middle of sync | in the end |\n|---|---|---|---|", flush=True)
    with tempfile.TemporaryDirectory(prefix="headstart-colab-") as name:
        from headstart.features.sources.digits import write_digits

        folder = Path(name)
        write_digits(folder / "digits")
        repeat(folder / "digits", folder / "images", arguments.images)
        (folder / "scratch").mkdir()
        for where, cell in CELLS.items():
            if arguments.only not in (None, where):
                continue
            (folder / "drive").mkdir()
            limits = (arguments.cores, arguments.disk_gb, arguments.every, arguments.epochs)
            machines = Machines(folder / "images", folder / "drive", folder / "scratch", *limits)
            if where == "training":
                headstart("enqueue", folder / "images", "--weights", "embedded", "-w", folder / "w")
                headstart("sync", folder / "drive" / "copy", "-w", folder / "w")
            shutil.copytree(folder / "drive", folder / "before")
            expected = lived(machines, cell)
            shutil.rmtree(folder / "drive")
            (folder / "before").rename(folder / "drive")
            found, row = walked(machines, cell, where)
            is_same &= found == expected
            print(f"{row} {len(found)} files, {'the same bytes' if found == expected else 'OTHER BYTES'} |", flush=True)
            shutil.rmtree(folder / "drive")
    GROUP.rmdir()
    return 0 if is_same else 1


if __name__ == "__main__":
    sys.exit(main())
