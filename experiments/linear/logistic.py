"""Multinomial logistic regression for a whole path of penalties.

L-BFGS along the principal axes that ridge needs anyway: there the curvature is nearly diagonal and known. The first step,
Newton's from the priors, costs no pass at all. Penalties are solved from the largest on: what one showed of the curvature is that
of the next but for their difference, so half a dozen passes do what takes plain L-BFGS a hundred. Few rows are kept, turned to
the axes once where that is less than turning the head in each pass; many are read in each pass. Blocks of rows are worked on
beside each other and added up in their order: the result does not depend on how many cores there are.
"""

from __future__ import annotations

import contextlib
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from headstart.experiments.data.feature_source import FeatureSource, as_float32
from headstart.experiments.data.statistics import Statistics
from headstart.experiments.data.targets import Targets
from headstart.experiments.training.state.kept_parts import NoParts, Parts
from headstart.features.devices import cores
from headstart.pipeline.errors import HeadstartError

from .axes import Axes, axes_of
from .blas import one_thread
from .closed_form import LinearHead

_Array = NDArray[np.float64]
_MEMORY = 12  # steps whose change of the gradient is remembered
_MOST_PASSES = 200
_ENOUGH = 1e-4  # part of the promised decrease that a step must bring (Armijo)
_FLATTEST = 1e-6
_KEPT_TOGETHER = 6  # penalties of a part of many rows: what they showed of the curvature is not kept for the next part
_FEW = 4  # times as many rows as channels, or fewer: the path over so many is too short to be taken in parts
_TURNED_ONCE = 2  # times as many, or fewer: to turn them once costs less than to turn the head to the channels in each pass
_MOST_KEPT = 1 << 25  # numbers of rows in memory
_BLOCK_ROWS = 512  # as float32 they stay in the cache of a core


class _Problem:
    """The course of one penalty: the best point (k, r + 1) so far, and a trial beyond it. Weights first, the bias last."""

    def __init__(self, penalty: float, axes: Axes) -> None:
        """Begins with Newton's step from the priors."""
        self.trial = axes.start(penalty)
        self.is_done = False
        self.penalty = penalty
        self._l2 = np.append(np.full(len(axes.variances), penalty), 0.0)
        self._variances = np.append(axes.variances, 1.0)
        self._pairs: list[_Pair] = []
        self._point, self._value, self._length, self._slope = self.trial, np.inf, 1.0, 0.0
        self._gradient = np.zeros_like(self.trial)
        self._hessian_diagonal = np.zeros(len(self.trial))
        self._direction = self._gradient

    def take_or_shorten(self, there: _AlongAxes, tolerance: float) -> None:
        """Takes the trial or not, by the likelihood there, and makes the next one."""
        value = there.loss + 0.5 * float((self._l2 * self.trial**2).sum())
        if value <= self._value + _ENOUGH * self._length * self._slope:
            new = there.gradient + self._l2 * self.trial
            if np.isfinite(self._value):
                self._remember(self.trial - self._point, new - self._gradient)
            self._point, self._value, self._gradient, self._hessian_diagonal = self.trial, value, new, there.hessian_diagonal
            self._turn(tolerance)
        else:  # to the minimum of the parabola through what is known of this direction
            excess = value - self._value - self._length * self._slope
            self._length *= min(0.5, max(0.1, -self._slope * self._length / (2 * excess)))
            self.is_done = self._length < 1e-3  # rounding is all that is left
            self.trial = self._point if self.is_done else self._point + self._length * self._direction

    def begin_at(self, point: _Array) -> None:
        """Instead of Newton's step."""
        self.trial = self._point = point

    def go_on_from(self, solved: _Problem, tolerance: float) -> None:
        """From the end of another penalty of the same rows: curvature and gradient differ by that of the penalties alone."""
        more = np.zeros(len(self._l2))
        more[:-1] = self.penalty - solved.penalty
        spread = np.broadcast_to(more, self.trial.shape).ravel()
        pairs = [_Pair.of(pair.step, pair.change + spread * pair.step) for pair in solved._pairs]
        self._pairs = [pair for pair in pairs if pair is not None]
        self._point = solved._point
        self._value = solved._value + 0.5 * float((more * self._point**2).sum())
        self._gradient, self._hessian_diagonal = solved._gradient + more * self._point, solved._hessian_diagonal
        self._turn(tolerance)

    def _remember(self, step: _Array, change: _Array) -> None:
        pair = _Pair.of(step.ravel(), change.ravel())
        if pair is not None:
            self._pairs = [*self._pairs, pair][-_MEMORY:]

    def _turn(self, tolerance: float) -> None:
        self._length = 1.0
        curvature = np.maximum(self._hessian_diagonal, _FLATTEST)[:, None] * self._variances + self._l2
        self._direction = self._descent(curvature.ravel()).reshape(self._point.shape)
        self._slope = float((self._gradient * self._direction).sum())
        # What curvature of earlier steps promises may be too little, what the axes alone promise, too.
        self.is_done = max(-self._slope, float((self._gradient**2 / curvature).sum())) < tolerance
        self.trial = self._point if self.is_done else self._point + self._direction

    def _descent(self, curvature: _Array) -> _Array:
        """Nocedal & Wright 2006, algorithm 7.4, from a diagonal curvature."""
        result, parts = -self._gradient.ravel(), []
        for pair in reversed(self._pairs):
            parts.append(float(pair.step @ result) / pair.product)
            result -= parts[-1] * pair.change
        if self._pairs:  # as curved as the last step showed it to be
            last = self._pairs[-1]
            curvature = curvature * (float(last.change @ (last.change / curvature)) / last.product)
        result /= curvature
        for pair in self._pairs:
            result += (parts.pop() - float(pair.change @ result) / pair.product) * pair.step
        return result


@dataclass(frozen=True)
class _Pair:
    """A step (k (r + 1),) and how the gradient changed along it; their product is above 0."""

    step: _Array
    change: _Array
    product: float

    @classmethod
    def of(cls, step: _Array, change: _Array) -> _Pair | None:
        product = float(step @ change)
        return cls(step, change, product) if product > 0 else None


def fit_logistic_path(
    source: FeatureSource,
    targets: Targets,
    positions: NDArray[np.int64],
    statistics: Statistics,
    penalties: Sequence[float],
    tolerance: float = 1e-4,
    check: Callable[[], None] = lambda: None,
    parts: Parts | None = None,
    report: Callable[[str], None] = lambda text: None,
    axes: Axes | None = None,
) -> list[LinearHead]:
    """Softmax regression for each penalty, features standardized on the training rows, the bias not penalized.

    Args:
        positions: rows to learn from, those of `statistics`; rows without a class do not count.
        axes: of these rows, if they are known already.
        others: see `LogisticRows.path`.

    Returns: heads whose weights act on raw, unstandardized features.
    Raises: HeadstartError if targets are numbers, or a penalty is not above 0.
    """
    with logistic_rows(source, targets, positions, statistics, axes) as rows:
        return rows.path(penalties, tolerance, check, parts, report)


@contextlib.contextmanager
def logistic_rows(
    source: FeatureSource,
    targets: Targets,
    positions: NDArray[np.int64],
    statistics: Statistics,
    axes: Axes | None = None,
) -> Iterator[LogisticRows]:
    """The rows of one or more paths. Args and Raises: see `fit_logistic_path`."""
    if targets.task != "classification":
        raise HeadstartError("logistic regression needs classes, these targets are numbers. Use ridge")
    positions = positions[targets.is_known[positions]]
    axes = axes or axes_of(source, positions, statistics)
    channels = len(axes.mean)
    is_few = len(positions) <= _FEW * channels and len(positions) * channels <= _MOST_KEPT
    with workers() as pool, (_remembered if is_few else _read)(source, targets, positions, axes, pool) as along_axes:
        yield LogisticRows(along_axes, axes, is_few)


class LogisticRows:
    """Rows to fit heads on; kept in memory where they are few."""

    def __init__(self, along_axes: _Likelihoods, axes: Axes, is_few: bool) -> None:
        """Made by `logistic_rows`."""
        self._along_axes, self._axes, self._is_few = along_axes, axes, is_few

    def path(
        self,
        penalties: Sequence[float],
        tolerance: float = 1e-4,
        check: Callable[[], None] = lambda: None,
        parts: Parts | None = None,
        report: Callable[[str], None] = lambda text: None,
        begin_at: LinearHead | None = None,
        name: str = "logistic_heads",
    ) -> list[LinearHead]:
        """A head for each penalty.

        Args:
            penalties: a row, above 0; scikit-learn's C is 1 / (penalty * rows), of two classes twice that.
            tolerance: of the loss a row, with which the minimum is good enough.
            check: called before each pass over the rows; may raise to leave.
            parts: keeps what is solved, a few penalties at a time, and gives back what an earlier call kept.
            report: told how far it is.
            begin_at: a head of about these penalties, instead of Newton's step from the priors.
            name: of its parts, another one for each path of the same rows.

        Raises: HeadstartError if a penalty is not above 0.
        """
        if not all(0 < penalty < np.inf for penalty in penalties):
            wrong = next(penalty for penalty in penalties if not 0 < penalty < np.inf)
            raise HeadstartError(f"a logistic penalty is {wrong}, expected a number above 0")
        axes, kept = self._axes, parts or NoParts()
        falling = sorted(range(len(penalties)), key=lambda place: -penalties[place])
        heads: dict[int, LinearHead] = {}
        together = len(penalties) if self._is_few else _KEPT_TOGETHER
        for first in range(0, len(penalties), together):
            places = falling[first : first + together]
            raw = kept.load(f"{name}_{first}")
            if raw is None:
                which = f"{first + 1} to {first + len(places)} of " if len(places) < len(penalties) else ""
                report(f"logistic regression: trying {which}{len(penalties)} strengths of regularization")
                problems = [_Problem(penalties[place], axes) for place in places]
                before = heads[falling[first - 1]] if first else begin_at
                if before is not None:  # from the head alone, as whoever goes on after a kill has to
                    problems[0].begin_at(axes.point(before))
                _solve_in_turn(self._along_axes, problems, tolerance, check)
                raw = axes.raw(np.stack([problem.trial for problem in problems]))
                kept.keep(f"{name}_{first}", raw)
            heads |= {place: _head(axes, each) for place, each in zip(places, raw, strict=True)}
        return [heads[place] for place in range(len(penalties))]


@dataclass(frozen=True)
class _AlongAxes:
    """loss, gradient (k, r + 1) and hessian_diagonal (k,), see Likelihood, at a point along the axes."""

    loss: float
    gradient: _Array
    hessian_diagonal: _Array

    @classmethod
    def of(cls, means: Likelihood, weights: _Array) -> _AlongAxes:
        """Args: means: of one head; weights: (k, r) its gradient along the axes."""
        gradient = np.concatenate([weights, means.biases[0][:, None]], axis=1)
        return cls(float(means.loss[0]), gradient, means.hessian_diagonal[0])


_Likelihoods = Callable[[_Array], _AlongAxes]  # of a point (k, r + 1)


@contextlib.contextmanager
def _read(
    source: FeatureSource, targets: Targets, positions: NDArray[np.int64], axes: Axes, pool: ThreadPoolExecutor
) -> Iterator[_Likelihoods]:
    """Reads the rows for each point."""
    turn = _turn_of(axes)

    def of(point: _Array) -> _AlongAxes:
        weights = _on_channels(point, turn)[None]
        means = likelihood(source, targets, positions, axes.mean, weights, point[None, :, -1], pool)
        return _AlongAxes.of(means, _on_axes(means.weights[0], turn))

    yield of


@contextlib.contextmanager
def _remembered(
    source: FeatureSource, targets: Targets, positions: NDArray[np.int64], axes: Axes, pool: ThreadPoolExecutor
) -> Iterator[_Likelihoods]:
    """Keeps the rows; turned to the axes, if that is less than to turn the head to the channels and back for each point."""
    turn, mean = _turn_of(axes), axes.mean.astype(np.float32)
    is_turned = len(positions) <= _TURNED_ONCE * len(axes.mean)

    def prepared(block: NDArray[np.int64]) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
        rows = as_float32(source.take(block))
        rows -= mean
        return rows @ turn if is_turned else rows, targets.codes[block]

    ordered = np.sort(positions)
    kept = list(pool.map(prepared, [ordered[start : start + _BLOCK_ROWS] for start in range(0, len(ordered), _BLOCK_ROWS)]))

    def of(point: _Array) -> _AlongAxes:
        weights = point[:, :-1] if is_turned else _on_channels(point, turn)
        heads = _Heads(weights[None], point[None, :, -1])
        means = _summed(pool.map(lambda rows: heads.sums(*rows), kept), (1, *weights.shape), len(positions))
        return _AlongAxes.of(means, means.weights[0] if is_turned else _on_axes(means.weights[0], turn))

    yield of


def _turn_of(axes: Axes) -> NDArray[np.float32]:
    """(d, r) that raw rows less their mean are multiplied with to lie along the axes."""
    return (axes.vectors / axes.scale[:, None]).astype(np.float32)


def _on_channels(point: _Array, turn: NDArray[np.float32]) -> _Array:
    """(k, d) weights on raw rows of a point (k, r + 1)."""
    return np.asarray(point[:, :-1].astype(np.float32) @ turn.T, np.float64)


def _on_axes(gradient: _Array, turn: NDArray[np.float32]) -> _Array:
    """(k, r) a gradient (k, d) of raw rows along the axes."""
    return np.asarray(gradient.astype(np.float32) @ turn, np.float64)


def _solve_in_turn(along_axes: _Likelihoods, problems: Sequence[_Problem], tolerance: float, check: Callable[[], None]) -> None:
    """Args: problems: penalties fall, so that each is a small step from the one before."""
    for number, problem in enumerate(problems):
        if number:
            problem.go_on_from(problems[number - 1], tolerance)
        _solve(along_axes, problem, tolerance, check)


def _solve(along_axes: _Likelihoods, problem: _Problem, tolerance: float, check: Callable[[], None]) -> None:
    for _ in range(_MOST_PASSES):
        if problem.is_done:
            return
        check()
        problem.take_or_shorten(along_axes(problem.trial), tolerance)


def _head(axes: Axes, raw: _Array) -> LinearHead:
    bias = raw[:, -1] - raw[:, -1].mean()  # what all classes share says nothing, and is no one's minimum
    return LinearHead(raw[:, :-1], bias - raw[:, :-1] @ axes.mean)


@dataclass(frozen=True)
class Likelihood:
    """Of p heads with k classes each, a row, float64.

    Attributes:
        loss: (p,) mean of minus the logarithm of the true class's probability.
        weights: (p, k, d), biases: (p, k): its gradient.
        hessian_diagonal: (p, k) mean of q (1 - q) of each class's probability q, which is how curved the loss is.
    """

    loss: _Array
    weights: _Array
    biases: _Array
    hessian_diagonal: _Array


class _Heads:
    """float32 copies of heads, wide: those of all heads and classes below each other."""

    def __init__(self, weights: _Array, biases: _Array) -> None:
        self.shape = biases.shape
        self.weights = weights.reshape(biases.size, -1).astype(np.float32)
        self.biases = biases.reshape(-1, 1).astype(np.float32)

    def sums(self, rows: NDArray[np.float32], codes: NDArray[np.int64]) -> tuple[NDArray[np.floating[Any]], ...]:
        """Sums over the rows of a block: loss, the gradients, hessian_diagonal."""
        flat = np.ascontiguousarray((rows @ self.weights.T).T)  # of few classes faster than weights @ rows.T
        flat += self.biases
        logits = flat.reshape(*self.shape, len(rows))
        logits -= logits.max(axis=1, keepdims=True)
        every = np.arange(len(rows))
        chosen = logits[:, codes, every]
        np.exp(logits, out=logits)
        total = logits.sum(axis=1, keepdims=True)
        loss = (np.log(total[:, 0]) - chosen).sum(axis=1)
        logits /= total
        biases = logits.sum(axis=2)
        hessian_diagonal = biases - np.einsum("pkb,pkb->pk", logits, logits)
        logits[:, codes, every] -= 1
        return loss, flat @ rows, biases - np.bincount(codes, minlength=self.shape[1]), hessian_diagonal


def likelihood(
    source: FeatureSource,
    targets: Targets,
    positions: NDArray[np.int64],
    shift: _Array,
    weights: _Array,
    biases: _Array,
    pool: ThreadPoolExecutor,
) -> Likelihood:
    """Of heads that take x - shift.

    Args:
        positions: rows with a class, at least one.
        shift: (d,); weights: (p, k, d); biases: (p, k).
        pool: of `workers`.
    """
    heads, shift32 = _Heads(weights, biases), shift.astype(np.float32)
    ordered, memory = np.sort(positions), threading.local()

    def sums(start: int) -> tuple[NDArray[np.floating[Any]], ...]:
        block = ordered[start : start + _BLOCK_ROWS]
        if not hasattr(memory, "rows"):  # new memory for each block costs more than the arithmetic on it
            memory.rows = np.empty((_BLOCK_ROWS, source.embed_dim), np.float32)
        rows = as_float32(source.take(block), memory.rows)
        rows -= shift32
        return heads.sums(rows, targets.codes[block])

    def in_turn() -> Iterator[tuple[NDArray[np.floating[Any]], ...]]:
        under_way: deque[Future[tuple[NDArray[np.floating[Any]], ...]]] = deque()
        for start in range(0, len(ordered), _BLOCK_ROWS):
            under_way.append(pool.submit(sums, start))
            if len(under_way) > cores():
                yield under_way.popleft().result()
        while under_way:
            yield under_way.popleft().result()

    return _summed(in_turn(), weights.shape, len(positions))


@contextlib.contextmanager
def workers() -> Iterator[ThreadPoolExecutor]:
    """A thread a core, each with products of its own: how a sum is split must not depend on the cores."""
    with one_thread(), ThreadPoolExecutor(cores(), "likelihood") as pool:
        yield pool


def _summed(blocks: Iterable[tuple[NDArray[np.floating[Any]], ...]], shape: tuple[int, ...], rows: int) -> Likelihood:
    """The mean over so many rows of what blocks add up to; shape: (p, k, d)."""
    p, k, d = shape
    sums = [np.zeros(p), np.zeros((p * k, d)), np.zeros((p, k)), np.zeros((p, k))]
    for block in blocks:
        for total, part in zip(sums, block, strict=True):
            np.add(total, part, out=total)
    loss, product, bias, hessian_diagonal = (each / rows for each in sums)
    return Likelihood(loss, product.reshape(shape), bias, hessian_diagonal)
