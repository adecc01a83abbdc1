"""The environment in which a Python process that this one starts finds this very package."""

import os
from pathlib import Path


def child_environment() -> dict[str, str]:
    """This process's environment, in which `import headstart` finds what is running here, installed or a checkout."""
    import headstart

    home = str(Path(headstart.__file__).resolve().parent.parent)
    return {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, [home, os.environ.get("PYTHONPATH")]))}
