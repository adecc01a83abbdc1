"""Seconds to list, split and write 100,000 files in 100 class folders, from a warm cache: python -m benchmarks.manifest_100k"""

import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from headstart.features.manifest.adding import add_images
from headstart.features.sources.find import find_images
from headstart.features.sources.source import SourceOptions
from headstart.pipeline.workspace import open_or_create_workspace

T = TypeVar("T")


def timed(name: str, action: Callable[[], T]) -> T:
    start = time.perf_counter()
    result = action()
    print(f"{name:12} {time.perf_counter() - start:6.2f} s")
    return result


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        data, workspace = Path(folder) / "data", open_or_create_workspace(Path(folder) / "workspace")
        for label in range(100):
            (data / f"class_{label:03d}").mkdir(parents=True)
            for number in range(1000):
                (data / f"class_{label:03d}" / f"image_{number:06d}.jpg").touch()
        source = timed("find_images", lambda: find_images(data, SourceOptions()))
        added = timed("add_images", lambda: add_images(workspace, source, 0))  # splits included
        timed("add again", lambda: add_images(workspace, source, 0))
        timed("first rows", lambda: added.manifest.rows(added.manifest.parts[0].name, 64_000, 64_064))


if __name__ == "__main__":
    main()
