"""Drives of other file systems, really mounted: from an image file, in memory, or a FUSE of the tests' own."""

import contextlib
import importlib.util
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from tests.support import ROOT

from .machines import JUDGE, MACHINES

_SIZE = "400M"  # xfs takes no less than 300
_IMAGES = {
    "ext4": (["mkfs.ext4", "-q"], "ext4"),
    "xfs": (["mkfs.xfs", "-q"], "xfs"),
    "NTFS": (["mkfs.ntfs", "-F", "-Q", "-q"], "ntfs-3g"),
    "exFAT": (["mkfs.exfat"], "exfat-fuse"),
}
CLOUD = "cloud drive"
DRIVES = ("ext4", "xfs", "tmpfs", "overlay", "NTFS", "exFAT", CLOUD)


class CannotMountError(Exception):
    """Why this machine has no such drive."""


@dataclass(frozen=True)
class Drive:
    """A mounted drive.

    Attributes:
        machines: what each of some machines sees of it; but for a cloud drive that is the same folder.
        judge: what is really there, without delay and errors.
    """

    machines: tuple[Path, ...]
    judge: Path

    @property
    def folder(self) -> Path:
        """What one machine sees."""
        return self.machines[0]


@contextlib.contextmanager
def mounted(kind: str, base: Path, late_s: float = 3.0, spell_every_s: float = 20.0) -> Iterator[Drive]:
    """A new drive, one of `DRIVES`, below `base`; unmounted and deleted at the end. Two arguments are of a cloud drive alone.

    Raises: CannotMountError.
    """
    if sys.platform != "linux" or os.geteuid() != 0:
        raise CannotMountError("needs root on Linux, to mount a drive")
    place = base / "mount"
    place.mkdir(parents=True)
    with contextlib.ExitStack() as stack:
        if kind == CLOUD:
            stack.enter_context(_cloud(place, late_s, spell_every_s))
            yield Drive(tuple(place / machine for machine in MACHINES), place / JUDGE)
            return
        if kind == "tmpfs":
            _run(["mount", "-t", "tmpfs", "tmpfs", place])
        elif kind == "overlay":
            layers = stack.enter_context(mounted("tmpfs", base / "layers")).folder
            for layer in ("lower", "upper", "work"):
                (layers / layer).mkdir()
            options = f"lowerdir={layers}/lower,upperdir={layers}/upper,workdir={layers}/work"
            _run(["mount", "-t", "overlay", "overlay", "-o", options, place])
        else:
            make, system = _IMAGES[kind]
            image = base / "image"
            with image.open("wb") as file:
                file.truncate(int(_SIZE[:-1]) << 20)
            stack.callback(image.unlink)
            _run([*make, image])
            _run(["mount", "-t", system, "-o", "loop", image, place])
        # Lazily: a test that ran commands in its own process holds folders open until it ends.
        stack.callback(subprocess.run, ["umount", "-l", place], check=True)
        yield Drive((place, place), place)


@contextlib.contextmanager
def _cloud(place: Path, late_s: float, spell_every_s: float) -> Iterator[None]:
    if importlib.util.find_spec("fuse") is None:
        raise CannotMountError("needs fusepy, to imitate a cloud drive: pip install fusepy")
    command = [sys.executable, "-m", "tests.drives.cloud_drive", place, "--late-s", late_s, "--spell-every-s", spell_every_s]
    process = subprocess.Popen([str(part) for part in command], cwd=ROOT, stderr=subprocess.PIPE, text=True)
    try:
        while not place.is_mount():
            if process.poll() is not None:
                raise CannotMountError(f"no FUSE here: {process.communicate()[1].strip().splitlines()[-1:]}")
            time.sleep(0.02)
        yield
    finally:
        subprocess.run(["umount", "-l", place], check=False, capture_output=True)
        process.terminate()
        process.communicate()


def _run(command: list[str | Path]) -> None:
    if shutil.which(str(command[0])) is None:
        raise CannotMountError(f"needs {command[0]}")
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise CannotMountError(f"{command[0]}: {(done.stderr or done.stdout).strip().splitlines()[-1:]}")
