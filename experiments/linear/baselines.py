"""What every experiment is measured against: the baselines of all methods in `methods/`, from one pass over the training rows."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from headstart.experiments.config import USUAL_BASELINES, BaselineOptions
from headstart.experiments.data.feature_source import FeatureSource, as_float32
from headstart.experiments.data.statistics import Statistics, gather_statistics
from headstart.experiments.data.training_data import TrainingData
from headstart.experiments.training.state.kept_parts import Parts
from headstart.pipeline.errors import HeadstartError

from .axes import Axes, axes_of
from .blas import libraries
from .method import Baseline, FittingData, NamedMethod, known_methods


@dataclass(frozen=True)
class WithColumns:
    """A source whose rows are followed by auxiliary values (n, a), as float32."""

    source: FeatureSource
    auxiliary: NDArray[np.float32]

    @property
    def digest(self) -> str:
        return self.source.digest

    @property
    def embed_dim(self) -> int:
        return self.source.embed_dim + int(self.auxiliary.shape[1])

    def __len__(self) -> int:
        return len(self.source)

    def take(self, positions: NDArray[np.int64], out: NDArray[Any] | None = None) -> NDArray[Any]:
        rows = np.concatenate([as_float32(self.source.take(positions)), self.auxiliary[positions]], axis=1)
        if out is None:
            return rows
        out[:] = rows
        return out

    def blocks(self, positions: NDArray[np.int64], size: int = 2048) -> Iterator[tuple[NDArray[np.int64], NDArray[Any]]]:
        for block, half in self.source.blocks(positions, size):
            yield block, np.concatenate([as_float32(half), self.auxiliary[block]], axis=1)


def inputs_of(data: TrainingData) -> FeatureSource:
    """What a head sees of each row."""
    return data.source if data.auxiliary is None else WithColumns(data.source, data.auxiliary)


@dataclass(frozen=True)
class Prepared:
    """Statistics of the training rows, and the axes of these, where a method that is wanted goes along them."""

    statistics: Statistics
    axes: Axes | None


def prepare_baselines(data: TrainingData, wanted: BaselineOptions, load: Callable[[], None] | None = None) -> Prepared:
    """From one pass over the training rows.

    Args: load: imports something that takes long, which leaves another core idle; the axes are computed there meanwhile.
    """
    source = inputs_of(data)
    statistics = gather_statistics(source, data.targets, {"train": data.train})["train"]
    libraries()  # see there
    with ThreadPoolExecutor(1, "axes") as beside:
        has_axes = wanted.logistic and data.targets.task == "classification"
        axes = beside.submit(axes_of, source, data.train, statistics) if has_axes else None
        if load:
            load()
        return Prepared(statistics, axes.result() if axes else None)


def fit_baselines(
    data: TrainingData,
    wanted: BaselineOptions = USUAL_BASELINES,
    fold_of: NDArray[np.int64] | None = None,
    check: Callable[[], None] = lambda: None,
    parts: Parts | None = None,
    report: Callable[[str], None] = lambda text: None,
    prepared: Prepared | None = None,
) -> tuple[list[Baseline], Statistics]:
    """Baselines of the training rows, penalties as validation likes them best; and the statistics they are from.

    Args:
        fold_of: (len(data.train),) fold of each training row; given, the penalty of one more ridge is chosen by them.
        check: called between passes over the rows; may raise to leave.
        parts: keeps what took long; report: told what is fitted.
        prepared: of these arguments, if it is there already.

    Raises: HeadstartError if logistic regression is wanted of numbers, or a method gives a baseline a name of another's.
    """
    have = prepared or prepare_baselines(data, wanted)
    fitting = FittingData(data, inputs_of(data), wanted, have.statistics, have.axes, fold_of, check, parts, report)
    by_place = sorted(known_methods(), key=lambda each: each.method.PLACE)
    return [baseline for each in by_place for baseline in _fitted(each, fitting)], have.statistics


def _fitted(named: NamedMethod, fitting: FittingData) -> Iterator[Baseline]:
    for baseline in named.method.fit(fitting):
        # By its name it is told later how simple a head is, and that a trained one may not be called so.
        if not named.names.fullmatch(baseline.name):
            raise HeadstartError(f"a method names a baseline '{baseline.name}', expected {named.names.pattern}. Mend its NAMES")
        yield baseline
