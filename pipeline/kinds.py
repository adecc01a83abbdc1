"""What a kind of job is, and which kinds there are: each is one module in `jobs/`, and its file name is its name."""

import pkgutil
from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from typing import Any, Protocol, cast

from .errors import HeadstartError
from .job import Job
from .markers import Result
from .workspace import Workspace


@dataclass(frozen=True)
class Settings:
    """How this worker runs, never what it computes.

    Attributes:
        device: 'auto', 'cpu' or 'cuda'.
        batch_size: items encoded at once; None means: chosen for the device.
        ram_bytes: resident memory that the process may take; None means: no limit.
        vram_bytes: likewise on a GPU; None means: what the kind thinks right.
    """

    device: str = "auto"
    batch_size: int | None = None
    ram_bytes: int | None = None
    vram_bytes: int | None = None


class Session(Protocol):
    """What is dear to open (a model, a decoder pool), opened once a worker and source of jobs."""

    def prepare(self, job: Job) -> Any:
        """Reads and decodes; runs ahead in a thread while another job computes, so it must not touch the device."""

    def compute(self, prepared: Any, check: Callable[[], None]) -> Result:
        """Owns the device. Calls `check` between batches; it raises when the worker has to leave."""

    def close(self) -> None:
        """Gives memory and threads back."""


class Kind(Protocol):
    """A module in `jobs/`. Importing it imports nothing heavy."""

    def fingerprint(self, workspace: Workspace, folder: str) -> str:
        """Digest of everything that decides the bytes of the results in `folder`. Cheap: `status` asks for it."""

    def open_session(self, workspace: Workspace, job: Job, settings: Settings) -> Session:
        """A session for every job that shares `job.folder` and `job.source`."""


def known_kinds() -> frozenset[str]:
    package = import_module("headstart.jobs")
    return frozenset(module.name for module in pkgutil.iter_modules(package.__path__))


def load_kind(name: str) -> Kind:
    if name not in known_kinds():
        known = ", ".join(sorted(known_kinds()))
        raise HeadstartError(f"unknown kind of job {name!r}; this version knows {known}. Upgrade: pip install -U headstart")
    return cast(Kind, import_module(f"headstart.jobs.{name}"))
