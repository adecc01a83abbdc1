"""What a kind of job is, and which kinds there are: each is one module in `jobs/`, and its file name is its name."""

import inspect
import pkgutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib import import_module
from typing import Any, ClassVar, Protocol, cast, runtime_checkable

from .errors import HeadstartError
from .job import Job
from .markers import Result
from .workspace import Workspace


@dataclass(frozen=True)
class Settings:
    """How this worker runs, never what it computes.

    Attributes:
        device: 'auto', 'cpu', 'cuda', 'xpu' or 'mps'.
        batch_size: items encoded at once; None means: chosen for the device.
        ram_bytes: resident memory that the process may take; None means: no limit.
        vram_bytes: likewise on a GPU; None means: what the kind thinks right.
    """

    device: str = "auto"
    batch_size: int | None = None
    ram_bytes: int | None = None
    vram_bytes: int | None = None


class Session(Protocol):
    """What is expensive to open (a model, a decoder pool), opened once a worker and source of jobs."""

    def prepare(self, job: Job) -> Any:
        """Reads and decodes; runs ahead in a thread while another job computes, so it must not touch the device."""

    def compute(self, prepared: Any, check: Callable[[], None]) -> Result:
        """Owns the device. Calls `check` between batches; it raises when the worker has to leave."""

    def close(self) -> None:
        """Gives memory and threads back."""


@runtime_checkable
class Examiner(Session, Protocol):
    """A session that can be asked about one item: optional, for kinds whose items go through code that may crash or hang.

    A job that was in hand when two workers died runs in a child process. With these two methods the item that ends the
    process fails alone; without them the job runs as a whole, and is quarantined once it ended three children.
    """

    def examine(self, job: Job, item: int) -> None:
        """Does the dangerous part of one item and forgets the result. Raises nothing for an item that merely fails."""

    def prepare_without(self, job: Job, killers: Mapping[int, str]) -> Any:
        """`prepare`, but these items are not touched: they fail with the code `killed` and this reason."""


class Resumable(Session, Protocol):
    """A session whose jobs keep what they did, so that the next worker goes on there: optional, for jobs of minutes.

    A time limit ends such a job where it is. Any other that is the first of its worker is finished first: else a limit that is
    shorter than a job would do the same part of it for ever.
    """

    KEEPS_PROGRESS: ClassVar[bool]


class Observer(Protocol):
    """Says something of a folder's finished jobs while a worker runs, as a score so far: optional, see `open_observer`.

    A kind that has one defines `open_observer(workspace, job, settings) -> Observer | None` beside the functions of `Kind`: it is
    asked once for each folder and source of jobs, and answers None where there is nothing to observe.
    """

    def look(self, allowance_s: float, is_last: bool) -> str:
        """A line for people, '' for nothing. Takes `allowance_s` at most; `is_last` tells that nothing more comes from here."""

    def close(self) -> None:
        """Gives back what it holds."""


class Kind(Protocol):
    """A module in `jobs/`. Importing it imports nothing heavy.

    One with `PAYLOADS_IN_OBJECTS = True` lets its payloads lie in an object store: it reads them by `Marker.payload_here`.
    """

    def fingerprint(self, workspace: Workspace, folder: str) -> str:
        """Digest of everything that decides the bytes of the results in `folder`. Cheap: `status` asks for it."""

    def open_session(self, workspace: Workspace, job: Job, settings: Settings) -> Session:
        """A session for every job that shares `job.folder` and `job.source`."""


def known_kinds() -> frozenset[str]:
    """Names of the modules in `jobs/`; one that begins with `_` holds what kinds share and is none itself."""
    return frozenset(module.name for module in pkgutil.iter_modules(kind_folders()) if not module.name.startswith("_"))


def kind_folders() -> list[str]:
    """Where kinds lie: `jobs/`, and whatever a program has added to `headstart.jobs.__path__`."""
    return list(import_module("headstart.jobs").__path__)


def look_for_kinds_in(folders: list[str]) -> None:
    """Knows the kinds that the process knew whose `kind_folders` these are."""
    import_module("headstart.jobs").__path__ = folders


def load_kind(name: str) -> Kind:
    if name not in known_kinds():
        known = ", ".join(sorted(known_kinds()))
        raise HeadstartError(f"unknown kind of job {name!r}; this version knows {known}. Upgrade: pip install -U headstart")
    module = import_module(f"headstart.jobs.{name}")
    missing = missing_members(Kind, module)
    if missing:
        raise HeadstartError(f"{module.__file__} is no kind of job yet: {'; '.join(missing)}. CONTRIBUTING.md shows a whole one")
    return cast(Kind, module)


def missing_members(contract: type, offered: object) -> list[str]:
    """One line for each method of a protocol that `offered` lacks, or that takes another number of arguments there.

    Args:
        contract: `Kind`, `Session` or `Examiner`.
        offered: a module, a class or an object that should keep it.
    """
    lines = []
    for name, wanted in vars(contract).items():
        if name.startswith("_") or not callable(wanted):
            continue
        arguments = list(inspect.signature(wanted).parameters)[1:]
        given = getattr(offered, name, None)
        if given is None:
            lines.append(f"{name}({', '.join(arguments)}) is missing")
            continue
        try:
            inspect.signature(given).bind(*([None] * isinstance(offered, type)), *arguments)
        except (TypeError, ValueError):
            lines.append(f"{name} does not take ({', '.join(arguments)})")
    return lines


class ItemCounts:
    """How many items sources have, for one look at a queue, whose rows then must ask for each of them once.

    A kind may say so by `count_items(workspace, source)`; None if it does not know.
    """

    def __init__(self, workspace: Workspace) -> None:
        self._workspace = workspace
        self._by_kind: dict[str, Callable[[Workspace, str], int | None]] = {}

    def of(self, kind: str, source: str) -> int | None:
        if kind not in self._by_kind:
            self._by_kind[kind] = getattr(load_kind(kind), "count_items", lambda workspace, source: None)
        return self._by_kind[kind](self._workspace, source)


class Fingerprints:
    """What would produce the payloads of each folder now, asked once a folder: for one look at a workspace."""

    def __init__(self, workspace: Workspace) -> None:
        self._workspace = workspace
        self._by_folder: dict[str, str] = {}

    def of(self, job: Job) -> str:
        """Raises what the kind raises if the folder is damaged."""
        if job.folder not in self._by_folder:
            self._by_folder[job.folder] = load_kind(job.kind).fingerprint(self._workspace, job.folder)
        return self._by_folder[job.folder]
