"""What a method is that fits a baseline, and which there are: each is one module in `methods/`, and its file name is its name.

Asking which there are loads no array: the list of runs says at once which of two heads is the simpler one.
"""

from __future__ import annotations

import functools
import pkgutil
import re
from dataclasses import dataclass
from importlib import import_module
from typing import TYPE_CHECKING, Any, Protocol, cast

from headstart.pipeline.errors import HeadstartError
from headstart.pipeline.kinds import missing_members

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from numpy.typing import NDArray

    from headstart.experiments.config import BaselineOptions
    from headstart.experiments.data.feature_source import FeatureSource
    from headstart.experiments.data.statistics import Statistics
    from headstart.experiments.data.training_data import TrainingData
    from headstart.experiments.training.state.kept_parts import Parts

    from .axes import Axes
    from .closed_form import LinearHead

_PACKAGE = "headstart.experiments.linear.methods"


@dataclass(frozen=True)
class Baseline:
    """A head that needed no training.

    Attributes:
        name: the method's, with '-' for '_', or one that its `NAMES` describes.
        settings: what was chosen on validation, or by folds: with `cross_validation`, how those scored.
        head: on features and auxiliary columns.
        has_log_odds: whether scores of classes are these; otherwise they only rank classes, and validation scales them.
    """

    name: str
    settings: dict[str, Any]
    head: LinearHead
    has_log_odds: bool = False


@dataclass(frozen=True)
class FittingData:
    """What methods fit from. What several of them need is there once.

    Attributes:
        data: the rows; source: what a head sees of each, auxiliary columns included.
        wanted: baselines that are asked for beyond the usual ones.
        statistics: of the training rows.
        axes: of these, where a method that is wanted goes along them.
        fold_of: (len(data.train),) fold of each training row, where folds are wanted.
        check: called between passes over the rows; may raise to leave.
        parts: keeps what took long; report: told what is fitted.
    """

    data: TrainingData
    source: FeatureSource
    wanted: BaselineOptions
    statistics: Statistics
    axes: Axes | None
    fold_of: NDArray[Any] | None
    check: Callable[[], None]
    parts: Parts | None
    report: Callable[[str], None]


class Method(Protocol):
    """A module in `methods/`. Importing it imports nothing heavy.

    One whose baselines are not named after its file has `NAMES` beside, a regular expression that their names match whole;
    `TITLE`, what people call it, stands beside them in tables.

    Attributes:
        SIMPLICITY: of heads that do equally well, that of the method with the least is chosen: fewer choices first.
        PLACE: of its baselines in tables, the least first.
    """

    SIMPLICITY: int
    PLACE: int

    def fit(self, fitting: FittingData) -> Iterator[Baseline]:
        """The baselines of these rows: none where it does not fit their targets, or was not asked for."""


@dataclass(frozen=True)
class NamedMethod:
    """A method, the names that its baselines may have, and what people call it, or ''."""

    method: Method
    names: re.Pattern[str]
    title: str


def known_methods() -> tuple[NamedMethod, ...]:
    """The simplest first. Raises: HeadstartError if a module lacks something."""
    return _methods_in(tuple(import_module(_PACKAGE).__path__))


def is_baseline(name: str) -> bool:
    """Whether a baseline may have this name, or one that differs in case alone: files of heads are named after them."""
    return any(each.names.fullmatch(name) for each in known_methods())


def title_of_baseline(name: str) -> str:
    """What people call its method; '' if that says nothing more, or no method here fits one of this name."""
    return next((each.title for each in known_methods() if each.names.fullmatch(name)), "")


def simplicity_of_baseline(name: str) -> int:
    """Less is simpler; of one that no method here fits, more than of all others."""
    methods = known_methods()
    return next((place for place, each in enumerate(methods) if each.names.fullmatch(name)), len(methods))


def least_simplicity_of_trained() -> int:
    """More than any baseline has."""
    return len(known_methods()) + 1


@functools.cache
def _methods_in(folders: tuple[str, ...]) -> tuple[NamedMethod, ...]:
    names = sorted(module.name for module in pkgutil.iter_modules(folders) if not module.name.startswith("_"))
    return tuple(sorted(map(_loaded, names), key=lambda each: each.method.SIMPLICITY))


def _loaded(name: str) -> NamedMethod:
    module = import_module(f"{_PACKAGE}.{name}")
    missing = [f"{each} is missing" for each in ("SIMPLICITY", "PLACE") if not isinstance(getattr(module, each, None), int)]
    missing += missing_members(Method, module)
    if missing:
        raise HeadstartError(
            f"{module.__file__} fits no baseline yet: {'; '.join(missing)}. {__name__}.Method says what it needs"
        )
    names = getattr(module, "NAMES", re.escape(name.replace("_", "-")))
    return NamedMethod(cast(Method, module), re.compile(names, re.IGNORECASE), getattr(module, "TITLE", ""))
