"""What a kind of job in a user's file says: how many items there are and what one becomes, in functions found by their names.

Such a file says no job, no claim, no file name and no loop: one job is so many items in a row, and one payload.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any, Protocol, cast

from headstart.experiments.training.options import CheckedOptions
from headstart.pipeline.doors.code import Code, run_code, said_by
from headstart.pipeline.errors import HeadstartError, InterruptedWork, TryLaterError

ITEMS_A_JOB = 64  # unless the file says another number under this name


@dataclass(frozen=True)
class Item:
    """What one call of `make` is about.

    Attributes:
        number: from 0 on.
        name: as `items` gave it, else the number.
    """

    number: int
    name: str


class ItemKind(Protocol):
    """What a user's kind has. `Options` may be left out."""

    Options: type[CheckedOptions]

    def items(self, options: Any) -> int | Sequence[str]:
        """How many items there are, or a name of each: frozen when the jobs are queued."""

    def make(self, item: Item, options: Any) -> Mapping[str, Any]:
        """One item: an array, a number or a text by name, the same names, shapes and types for all items.

        A function of item and options alone: randomness comes from `np.random.default_rng((options.seed, item.number))`. An item
        that raises is left out, counted and named.
        """


class Preparing(Protocol):
    """May be there: what is expensive to open, once a worker."""

    def prepare(self, options: Any) -> Any:
        """What `make(item, options, prepared)` gets as a third argument."""


def load_kind_file(code: Code) -> ItemKind:
    """Runs the file, so whoever calls this has asked whether it may. Raises: HeadstartError if it raises or lacks something."""
    return checked_kind(run_code(code), code.path)


def checked_kind(module: ModuleType, path: Path) -> ItemKind:
    """A loaded module as a kind. Raises: HeadstartError if it lacks something."""
    kind: Any = module
    if not hasattr(kind, "Options"):
        kind.Options = CheckedOptions
    lacking = [name for name in ("items", "make") if not callable(getattr(kind, name, None))]
    if lacking:
        raise HeadstartError(f"{path} has no function {', '.join(lacking)}. See docs/making.md for what such a file says")
    if not (isinstance(kind.Options, type) and issubclass(kind.Options, CheckedOptions)):
        raise HeadstartError(f"{path}: Options is no subclass of CheckedOptions. Write: class Options(CheckedOptions)")
    size = items_a_job(kind)
    if not isinstance(size, int) or not 0 < size <= 1_000_000:
        raise HeadstartError(f"{path}: ITEMS_A_JOB is {size!r}, expected a whole number from 1 on")
    return cast(ItemKind, kind)


def items_a_job(kind: ItemKind) -> int:
    size: int = getattr(kind, "ITEMS_A_JOB", ITEMS_A_JOB)
    return size


def counted(kind: ItemKind, options: CheckedOptions) -> tuple[int, tuple[str, ...] | None]:
    """How many items there are, and their names if they have any. Raises: HeadstartError if that is no number of items."""
    said = called("items", lambda: kind.items(options))
    if isinstance(said, int) and not isinstance(said, bool):
        count, names = said, None
    elif isinstance(said, str) or not isinstance(said, Sequence) or not all(isinstance(name, str) for name in said):
        raise HeadstartError(f"items() returned {_short(said)}, expected a number, or a list of names")
    else:
        count, names = len(said), tuple(said)
    if count < 1:
        raise HeadstartError("items() says that there is none. Look at its options: they may name a folder that is empty")
    return count, names


def open_maker(kind: ItemKind, options: CheckedOptions) -> Maker:
    """Opens what the kind opens once a worker."""
    is_preparing = callable(getattr(kind, "prepare", None))
    prepared = (called("prepare", lambda: cast(Preparing, kind).prepare(options)),) if is_preparing else ()
    return Maker(kind, options, prepared)


@dataclass(frozen=True)
class Maker:
    """A kind that is ready to make items."""

    kind: Any
    options: CheckedOptions
    prepared: tuple[Any, ...]

    def make(self, item: Item) -> Mapping[str, Any]:
        """Raises whatever the kind raises; HeadstartError if it returns something else."""
        made = self.kind.make(item, self.options, *self.prepared)
        if not isinstance(made, Mapping) or not made or not all(isinstance(name, str) and name.isidentifier() for name in made):
            raise HeadstartError(f"make() returned {_short(made)}, expected values by name, such as {{'image': pixels}}")
        if "index" in made:
            raise HeadstartError("make() returned 'index', which is the item's number already. Give it another name")
        return made


def called(function: str, call: Any) -> Any:
    """Calls a function of the file: what it raises becomes one line."""
    try:
        return call()
    except (HeadstartError, TryLaterError, InterruptedWork, MemoryError):
        raise
    except Exception as error:
        raise HeadstartError(f"{function}() failed: {said_by(error)}. Mend the file, then run the same command again") from error


def _short(value: Any) -> str:
    text = " ".join(repr(value).split())
    return text if len(text) <= 60 else f"{text[:57]}..."
