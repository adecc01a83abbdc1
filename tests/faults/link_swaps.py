"""A folder swapped for a link by a second process, again and again, while files below it are read, made, renamed and removed.

python -m tests.faults.link_swaps            10,000 swaps
"""

import argparse
import contextlib
import itertools
import os
import shutil
import sys
import tempfile
import time
from pathlib import Path

from headstart.pipeline import paths
from headstart.pipeline.doors import reading
from headstart.pipeline.errors import HeadstartError
from headstart.pipeline.files import FileSystem

SWAPS = 10_000


def run(swaps: int) -> tuple[int, int, int]:
    """Swaps, calls, and escapes: calls that read, made, changed or removed something outside."""
    base = Path(tempfile.mkdtemp(prefix="headstart-swaps-"))
    root, outside = base / "w", base / "outside"
    (root / "a" / "b").mkdir(parents=True)
    outside.mkdir()
    for folder, text in ((root / "a" / "b", "mine"), (outside, "thesis")):
        (folder / "file").write_text(text)
    (outside / "gold").write_text("gold")
    (root / "a" / "beside").write_text("mine")
    paths.enter(root)
    here = root / "a" / "b"
    counter = base / "counter"
    counter.write_bytes(bytes(8))
    child = os.fork()
    if child == 0:
        _swap(here, outside, counter)
    escapes = calls = 0
    before = _state(outside)
    try:
        while int.from_bytes(counter.read_bytes(), "little") < swaps:
            for way in range(len(WAYS)):
                with contextlib.suppress(HeadstartError, OSError):
                    escapes += WAYS[way](here)
                calls += 1
            now = _state(outside)
            escapes += now != before
            before = now
        return int.from_bytes(counter.read_bytes(), "little"), calls, escapes
    finally:
        os.kill(child, 9)
        os.waitpid(child, 0)
        shutil.rmtree(base, ignore_errors=True)


def _read(here: Path) -> int:
    return int(reading.read(here / "file") == b"thesis")


def _publish(here: Path) -> int:
    FileSystem(fsync=False).publish(here / "new", b"x")
    return 0


def _remove(here: Path) -> int:
    paths.remove(here / "new")
    return 0


def _replace(here: Path) -> int:
    FileSystem(fsync=False).replace(here / "file", b"mine")
    return 0


def _list(here: Path) -> int:
    return int("gold" in paths.names(here))


def _make_and_remove_a_tree(here: Path) -> int:
    paths.make_folder(here / "folder")
    paths.make_folder(here / "folder" / "deep")
    paths.remove_tree(here / "folder")
    return 0


def _link_by_name(here: Path) -> int:
    held = paths.Held(here)
    paths.link_held(here.parent / "beside", here / "second", paths.Held(here.parent), held)
    held.may_have("gold")
    paths.remove(here / "second")
    return 0


# Each touches the folder in one way; 1 if what it read is from outside.
WAYS = (_read, _publish, _remove, _replace, _list, _make_and_remove_a_tree, _link_by_name)


def _swap(here: Path, outside: Path, counter: Path) -> None:
    try:
        descriptor = os.open(counter, os.O_WRONLY)
        for number in itertools.count(1):
            here.rename(here.with_name("real"))
            here.symlink_to(outside)
            here.unlink()
            here.with_name("real").rename(here)
            os.pwrite(descriptor, number.to_bytes(8, "little"), 0)
            time.sleep(1e-4)  # else the true folder is hardly ever there
    finally:
        os._exit(0)


def _state(folder: Path) -> list[tuple[str, bytes, int]]:
    return [(path.name, path.read_bytes(), path.stat().st_mtime_ns) for path in sorted(folder.iterdir())]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--swaps", type=int, default=SWAPS)
    swaps, calls, escapes = run(parser.parse_args().swaps)
    print(f"{swaps:,} swaps, {calls:,} calls meanwhile, {escapes} escapes")
    return 1 if escapes else 0


if __name__ == "__main__":
    sys.exit(main())
