"""Multinomial logistic regression for a whole path of penalties: all of them share each pass over the rows.

L-BFGS, one problem a penalty, along the principal axes that ridge needs anyway: there the curvature is nearly diagonal and known,
so a few dozen passes do what takes plain L-BFGS hundreds. The first step, Newton's from the priors, costs no pass at all. Few
rows are turned to these axes once and kept, many are read in each pass. Blocks of rows are worked on beside each other and added
up in their order: the result does not depend on how many cores there are.
"""

import contextlib
import functools
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from headstart.experiments.data.feature_source import FeatureSource, as_float32
from headstart.experiments.data.statistics import Statistics, standardization_of
from headstart.experiments.data.targets import Targets
from headstart.experiments.training.kept_parts import NoParts, Parts
from headstart.features.devices import cores
from headstart.pipeline.errors import HeadstartError

from .closed_form import LinearHead

_Array = NDArray[np.float64]
_MEMORY = 12  # steps whose change of the gradient is remembered
_MOST_PASSES = 200
_ENOUGH = 1e-4  # part of the promised decrease that a step must bring (Armijo)
_FLATTEST = 1e-6
_AT_ONCE = 6  # penalties that share a pass: more would save little and lose more to a kill
_MOST_COLUMNS = 2048  # of one wide product, which bounds the memory that many classes take
_FEW = 4  # times as many rows as channels, or fewer: turning them once costs less than turning heads in each pass
_MOST_KEPT = 1 << 25  # numbers of turned rows in memory
_KEPT_ROWS = 512  # a block of them, so that few rows keep all cores busy, too
_FLAT = 1e-10  # part of the largest variance below which rows do not differ along an axis


@dataclass(frozen=True)
class Axes:
    """Standardized features along the principal axes of the training rows.

    Attributes:
        mean, scale: (d,) of the raw channels.
        vectors: (d, r), an axis a column, of all along which rows differ; variances: (r,) along them.
        products: (k, r) mean of target times standardized feature.
        priors, shares: (k,) of the classes; a prior is never 0.
    """

    mean: _Array
    scale: _Array
    vectors: _Array
    variances: _Array
    products: _Array
    priors: _Array
    shares: _Array

    def start(self, penalty: float) -> _Array:
        """(k, r + 1): Newton's first step from the priors, with the curvature that classes of equal size have."""
        k = len(self.priors)
        curvature = (self.priors * (1 - self.priors) * k / max(1, k - 1))[:, None] * self.variances
        return np.concatenate([self.products / (curvature + penalty), np.log(self.priors)[:, None]], axis=1)

    def ridge(self, penalty: float) -> LinearHead:
        """As `fit_ridge_path`: along these axes each weight has an equation of its own."""
        weights = (self.products / (self.variances + penalty)) @ self.vectors.T / self.scale
        return LinearHead(weights, self.shares - weights @ self.mean)

    def raw(self, points: _Array) -> tuple[_Array, _Array]:
        """Weights (p, k, d) and biases (p, k) on raw features less their mean, of points (p, k, r + 1)."""
        return points[..., :-1] @ self.vectors.T / self.scale, points[..., -1]


def axes_of(source: FeatureSource, positions: NDArray[np.int64], statistics: Statistics) -> Axes:
    """Of the rows at `positions`, which have classes and which `statistics` are of."""
    standard, offset = standardization_of(statistics), statistics.sums / statistics.count
    products = (statistics.products - np.outer(offset, statistics.target_sums)).T / statistics.count / standard.scale
    if len(positions) <= len(offset):  # the axes of few rows lie in what these span: a smaller problem
        rows = (source.take(np.sort(positions)).astype(np.float64) - standard.mean) / standard.scale
        values, turned = np.linalg.eigh(rows @ rows.T / len(rows))
        lasts = values > _FLAT * values[-1]
        values = values[lasts]
        vectors = rows.T @ (turned[:, lasts] / np.sqrt(len(rows) * values))
    else:
        gram = statistics.gram / statistics.count - np.outer(offset, offset)
        values, vectors = np.linalg.eigh(gram / np.outer(standard.scale, standard.scale))
    shares = statistics.target_sums / statistics.count
    priors = np.maximum(statistics.target_sums, 0.5) / statistics.count
    return Axes(standard.mean, standard.scale, vectors, np.maximum(values, 0), products @ vectors, priors, shares)


class _Problem:
    """The course of one penalty: the best point (k, d + 1) so far, and a trial beyond it. Weights first, the bias last."""

    def __init__(self, penalty: float, axes: Axes) -> None:
        self.trial = axes.start(penalty)
        self.is_done = False
        self._l2 = np.append(np.full(len(axes.variances), penalty), 0.0)
        self._variances = np.append(axes.variances, 1.0)
        self._pairs: list[tuple[_Array, _Array]] = []
        self._point, self._value, self._length, self._slope = self.trial, np.inf, 1.0, 0.0
        self._gradient = self._direction = np.zeros_like(self.trial)

    def take_or_shorten(self, loss: float, gradient: _Array, hessian_diagonal: _Array, tolerance: float) -> None:
        """Takes the trial or not, by its likelihood, and makes the next one."""
        value = loss + 0.5 * float((self._l2 * self.trial**2).sum())
        if value <= self._value + _ENOUGH * self._length * self._slope:
            self._go_on(value, gradient + self._l2 * self.trial, hessian_diagonal)
            self.is_done = -self._slope < tolerance
        else:  # to the minimum of the parabola through what is known of this direction
            excess = value - self._value - self._length * self._slope
            self._length *= min(0.5, max(0.1, -self._slope * self._length / (2 * excess)))
            self.is_done = self._length < 1e-3  # rounding is all that is left
        self.trial = self._point if self.is_done else self._point + self._length * self._direction

    def _go_on(self, value: float, gradient: _Array, hessian_diagonal: _Array) -> None:
        if np.isfinite(self._value):
            step, change = self.trial - self._point, gradient - self._gradient
            if (step * change).sum() > 0:
                self._pairs = [*self._pairs, (step, change)][-_MEMORY:]
        self._point, self._value, self._gradient, self._length = self.trial, value, gradient, 1.0
        curvature = np.maximum(hessian_diagonal, _FLATTEST)[:, None] * self._variances + self._l2
        self._direction = self._descent(curvature)
        self._slope = float((gradient * self._direction).sum())

    def _descent(self, curvature: _Array) -> _Array:
        """Nocedal & Wright 2006, algorithm 7.4, from a diagonal curvature."""
        result, parts = -self._gradient, []
        for step, change in reversed(self._pairs):
            parts.append((step * result).sum() / (step * change).sum())
            result = result - parts[-1] * change
        if self._pairs:  # as curved as the last step showed it to be
            step, change = self._pairs[-1]
            curvature = curvature * ((change * change / curvature).sum() / (step * change).sum())
        result = result / curvature
        for step, change in self._pairs:
            result = result + (parts.pop() - (change * result).sum() / (step * change).sum()) * step
        return np.asarray(result)


def fit_logistic_path(
    source: FeatureSource,
    targets: Targets,
    positions: NDArray[np.int64],
    statistics: Statistics,
    penalties: Sequence[float],
    tolerance: float = 1e-5,
    check: Callable[[], None] = lambda: None,
    parts: Parts | None = None,
    report: Callable[[str], None] = lambda text: None,
    axes: Axes | None = None,
) -> list[LinearHead]:
    """Softmax regression for each penalty, features standardized on the training rows, the bias not penalized.

    Args:
        positions: rows to learn from, those of `statistics`; rows without a class do not count.
        penalties: a row, above 0; scikit-learn's C is 1 / (penalty * rows), of two classes twice that.
        tolerance: of the loss a row, with which the minimum is good enough.
        check: called before each pass over the rows; may raise to leave.
        parts: keeps what is solved, a few penalties at a time, and gives back what an earlier call kept.
        report: told how far it is.
        axes: of these rows, if they are known already.

    Returns: heads whose weights act on raw, unstandardized features.
    Raises: HeadstartError if targets are numbers, or a penalty is not above 0.
    """
    if targets.task != "classification":
        raise HeadstartError("logistic regression needs classes, these targets are numbers. Use ridge")
    if not all(0 < penalty < np.inf for penalty in penalties):
        wrong = next(penalty for penalty in penalties if not 0 < penalty < np.inf)
        raise HeadstartError(f"a logistic penalty is {wrong}, expected a number above 0")
    positions = positions[targets.is_known[positions]]
    axes = axes or axes_of(source, positions, statistics)
    kept = parts or NoParts()
    width = max(1, min(_AT_ONCE, _MOST_COLUMNS // targets.outputs))
    points: list[_Array] = []
    with _likelihoods(source, targets, positions, axes) as along_axes:
        for first in range(0, len(penalties), width):
            solved = kept.load(f"logistic_{first}")
            if solved is None or solved.shape[2] != len(axes.variances) + 1:  # an earlier version had other axes
                report(f"logistic regression, penalties {first + 1} to {min(first + width, len(penalties))} of {len(penalties)}")
                problems = [_Problem(penalty, axes) for penalty in penalties[first : first + width]]
                _solve(along_axes, problems, tolerance, check)
                solved = np.stack([problem.trial for problem in problems])
                kept.keep(f"logistic_{first}", solved)
            points.extend(solved)
    return [_head(axes, point) for point in points]


@dataclass(frozen=True)
class _AlongAxes:
    """loss (p,), gradient (p, k, r + 1) and hessian_diagonal (p, k), see Likelihood, at points along the axes."""

    loss: _Array
    gradient: _Array
    hessian_diagonal: _Array


@contextlib.contextmanager
def _likelihoods(
    source: FeatureSource, targets: Targets, positions: NDArray[np.int64], axes: Axes
) -> Iterator[Callable[[_Array], _AlongAxes]]:
    """What gives the likelihood of points (p, k, r + 1)."""
    if len(positions) > _FEW * len(axes.mean) or len(positions) * len(axes.variances) > _MOST_KEPT:

        def read(points: _Array) -> _AlongAxes:
            means = likelihood(source, targets, positions, axes.mean, *axes.raw(points))
            gradient = np.concatenate([means.weights / axes.scale @ axes.vectors, means.biases[..., None]], axis=-1)
            return _AlongAxes(means.loss, gradient, means.hessian_diagonal)

        yield read
        return
    turn, mean = (axes.vectors / axes.scale[:, None]).astype(np.float32), axes.mean.astype(np.float32)
    with _workers() as pool:
        turned = [
            ((as_float32(half) - mean) @ turn, targets.codes[block]) for block, half in source.blocks(positions, _KEPT_ROWS)
        ]

        def remembered(points: _Array) -> _AlongAxes:
            heads = _Heads(points[..., :-1], points[..., -1])
            means = _summed(pool.map(lambda rows: heads.sums(*rows), turned), points[..., :-1].shape, len(positions))
            gradient = np.concatenate([means.weights, means.biases[..., None]], axis=-1)
            return _AlongAxes(means.loss, gradient, means.hessian_diagonal)

        yield remembered


def _solve(
    along_axes: Callable[[_Array], _AlongAxes], problems: Sequence[_Problem], tolerance: float, check: Callable[[], None]
) -> None:
    for _ in range(_MOST_PASSES):
        active = [problem for problem in problems if not problem.is_done]
        if not active:
            return
        check()
        means = along_axes(np.stack([problem.trial for problem in active]))
        for number, problem in enumerate(active):
            problem.take_or_shorten(float(means.loss[number]), means.gradient[number], means.hessian_diagonal[number], tolerance)


def _head(axes: Axes, point: _Array) -> LinearHead:
    weights, biases = axes.raw(point)
    return LinearHead(weights, biases - weights @ axes.mean)


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
        flat = self.weights @ rows.T
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
    source: FeatureSource, targets: Targets, positions: NDArray[np.int64], shift: _Array, weights: _Array, biases: _Array
) -> Likelihood:
    """Of heads that take x - shift.

    Args:
        positions: rows with a class, at least one.
        shift: (d,); weights: (p, k, d); biases: (p, k).
    """
    heads, shift32 = _Heads(weights, biases), shift.astype(np.float32)

    def sums(half: NDArray[np.float16], codes: NDArray[np.int64]) -> tuple[NDArray[np.floating[Any]], ...]:
        rows = as_float32(half)
        rows -= shift32
        return heads.sums(rows, codes)

    def in_turn(pool: ThreadPoolExecutor) -> Iterator[tuple[NDArray[np.floating[Any]], ...]]:
        under_way: deque[Future[tuple[NDArray[np.floating[Any]], ...]]] = deque()
        for block, half in source.blocks(positions):
            under_way.append(pool.submit(sums, half, targets.codes[block]))
            if len(under_way) > cores():
                yield under_way.popleft().result()
        while under_way:
            yield under_way.popleft().result()

    with _workers() as pool:
        return _summed(in_turn(pool), weights.shape, len(positions))


@contextlib.contextmanager
def _workers() -> Iterator[ThreadPoolExecutor]:
    """A thread a core, each with products of its own: how a sum is split must not depend on the cores."""
    with _libraries().limit(limits=1, user_api="blas"), ThreadPoolExecutor(cores(), "likelihood") as pool:
        yield pool


@functools.cache
def _libraries() -> Any:
    from threadpoolctl import ThreadpoolController

    return ThreadpoolController()  # looking for them takes 10 ms, once


def _summed(blocks: Iterable[tuple[NDArray[np.floating[Any]], ...]], shape: tuple[int, ...], rows: int) -> Likelihood:
    """The mean over so many rows of what blocks add up to; shape: (p, k, d)."""
    p, k, d = shape
    sums = [np.zeros(p), np.zeros((p * k, d)), np.zeros((p, k)), np.zeros((p, k))]
    for block in blocks:
        for total, part in zip(sums, block, strict=True):
            np.add(total, part, out=total)
    loss, product, bias, hessian_diagonal = (each / rows for each in sums)
    return Likelihood(loss, product.reshape(shape), bias, hessian_diagonal)
