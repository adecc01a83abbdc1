"""Small disks that really fill up, turn read-only and vanish."""

import contextlib
import os
import subprocess

import pytest


def mount(place, *options):
    return subprocess.run(["mount", *options, "tmpfs", place], capture_output=True, check=False).returncode == 0


@contextlib.contextmanager
def small_disk(place, size):
    """A tmpfs at `place`; skips the test where none can be mounted."""
    if os.name == "nt" or os.geteuid() != 0:
        pytest.skip("needs root, to mount a small file system")
    place.mkdir()
    if not mount(place, "-t", "tmpfs", "-o", f"size={size}"):
        pytest.skip("this machine cannot mount a tmpfs")
    try:
        yield place
    finally:
        subprocess.run(["umount", "-l", place], check=False, capture_output=True)
