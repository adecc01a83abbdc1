"""Headstart: image features and small heads as resumable micro-jobs on a file-based queue.

In a checkout the rooms of the house stand beside this folder, in a wheel inside it; both answer to `headstart.pipeline`,
`headstart.features` and so on, so no common word such as `jobs` becomes a top-level name of anybody's environment.
"""

from importlib import import_module
from pathlib import Path
from typing import Any

__version__ = "0.1.0"

_HERE = Path(__file__).resolve().parent
if not (_HERE / "pipeline").is_dir():  # a checkout
    __path__ = [str(_HERE), str(_HERE.parent)]

_PUBLIC = {
    "run_job": "headstart.jobs",
    "load_features": "headstart.features.load",
    "Workspace": "headstart.pipeline.workspace",
}
__all__ = ["Workspace", "__version__", "load_features", "run_job"]


def __getattr__(name: str) -> Any:
    # Lazy, because `import headstart` also stands at the start of every command, and some commands answer in milliseconds.
    if name in _PUBLIC:
        return getattr(import_module(_PUBLIC[name]), name)
    raise AttributeError(f"module 'headstart' has no attribute {name!r}")
