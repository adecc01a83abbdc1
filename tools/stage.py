"""Lays the checkout out as the wheel does, by links: tools that read files and run nothing see one package `headstart`.

python tools/stage.py build/stage
"""

import shutil
import sys
from pathlib import Path

ROOMS = ("pipeline", "features", "experiments", "jobs", "commands", "cli.py")


def stage(target: Path) -> None:
    root = Path(__file__).resolve().parent.parent
    shutil.rmtree(target, ignore_errors=True)
    package = target / "headstart"
    package.mkdir(parents=True)
    (package / "__init__.py").symlink_to(root / "headstart" / "__init__.py")
    for room in ROOMS:
        (package / room).symlink_to(root / room)


if __name__ == "__main__":
    stage(Path(sys.argv[1]))
