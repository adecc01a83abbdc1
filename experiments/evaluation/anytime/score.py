"""While features are extracted: what a simple head would score on those that are there so far.

Ridge needs sums over rows and nothing else, so each shard is read once, when it is new. Nothing waits for the score, and an
error of it costs the score alone.
"""

from __future__ import annotations

import contextlib
import os
import time
import zlib
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from headstart.experiments.data.statistics import Statistics
from headstart.experiments.evaluation.anytime.record import Score, read_scores, score_path, write_scores
from headstart.experiments.evaluation.intervals import Sample
from headstart.experiments.linear.closed_form import LinearHead, fit_ridge_path
from headstart.features.encoders.spec import read_encoder
from headstart.features.manifest.parts import Row
from headstart.features.manifest.reading import open_manifest
from headstart.features.sources.source import Image
from headstart.features.store import shards
from headstart.pipeline import paths
from headstart.pipeline.doors import locks
from headstart.pipeline.errors import ExplainedError
from headstart.pipeline.job import Job
from headstart.pipeline.liveness import process_token
from headstart.pipeline.markers import NotDone, finished_job, read_marker
from headstart.pipeline.workspace import Workspace

PENALTY = 1.0  # per row, the same throughout: a penalty chosen anew at each point would make the curve jump
FEWEST = 20  # images of each of the two splits
_GROWTH = 1.25  # from one score to the next: about forty in all, however long the queue is
_MOST_CLASSES = 2000
_MOST_JUDGED = 5000  # validation images that are kept in memory: the first ones, and jobs are drawn at random
_AT_ONCE = 1024  # rows
_SPARED = 10  # where the data has no validation split, one image of so many is set aside for it
_FLOPS = 5e9  # a core's at least, until a first score has told how long one takes
_A_JOB_S = 0.02


def score_bytes(embed_dim: int) -> int:
    """Memory that a score takes at most while it is computed."""
    return 4 * 8 * embed_dim**2 + 2 * 6 * _MOST_JUDGED * embed_dim


class RunningStatistics:
    """Sums over rows of classes that become known as they come. `shift`: a point near the mean, from the first rows."""

    def __init__(self) -> None:
        self.count = 0
        self._shift = np.zeros(0, np.float32)
        self._sums, self._gram = np.zeros(0), np.zeros((0, 0))
        self._counts: Counter[str] = Counter()
        self._totals: dict[str, NDArray[np.float64]] = {}
        self._waiting: list[tuple[NDArray[np.float16], NDArray[np.str_]]] = []

    @property
    def classes(self) -> list[str]:
        return sorted(self._counts)

    def add(self, half: NDArray[np.float16], labels: NDArray[np.str_]) -> None:
        """Args: half: (n, d), labels: (n,)."""
        self._waiting.append((half, labels))
        self.count += len(half)
        for label, count in zip(*np.unique(labels, return_counts=True), strict=True):
            self._counts[str(label)] += int(count)
        if sum(len(rows) for rows, _ in self._waiting) >= _AT_ONCE:
            self._sum()

    def _sum(self) -> None:
        """Many rows in one product: adding a Gram matrix costs as much as a product of a hundred rows."""
        if not self._waiting:
            return
        rows = np.concatenate([half for half, _ in self._waiting]).astype(np.float32)
        labels = np.concatenate([names for _, names in self._waiting])
        self._waiting.clear()
        if not len(self._shift):
            self._shift = rows.mean(axis=0)
            self._sums, self._gram = np.zeros(rows.shape[1]), np.zeros((rows.shape[1],) * 2)
        rows -= self._shift
        self._sums += rows.sum(axis=0)
        self._gram += rows.T @ rows
        for label in np.unique(labels).tolist():
            total = self._totals.get(label, np.zeros(rows.shape[1]))
            self._totals[label] = total + rows[labels == label].sum(axis=0)

    def ridge(self) -> LinearHead:
        """One-hot targets of `classes`, in their order; on raw features."""
        self._sum()
        counts = np.array([self._counts[name] for name in self.classes], np.float64)
        products = np.stack([self._totals[name] for name in self.classes], axis=1)
        statistics = Statistics(self.count, self._shift.astype(np.float64), self._sums, self._gram, counts, products, counts)
        [head] = fit_ridge_path(statistics, (PENALTY,))
        return head


class _Kept:
    """Rows that a head is judged by."""

    def __init__(self) -> None:
        self.rows: list[Row] = []
        self._blocks: list[NDArray[np.float16]] = []

    @property
    def features(self) -> NDArray[np.float16]:
        return np.concatenate(self._blocks)

    def add(self, half: NDArray[np.float16], rows: Sequence[Row], chosen: NDArray[np.bool_]) -> None:
        if chosen.any():
            self.rows += [rows[i] for i in np.flatnonzero(chosen).tolist()]
            self._blocks.append(half[chosen])


def _labels(rows: Sequence[Row]) -> NDArray[np.str_]:
    return np.array([row.image.label for row in rows], np.str_)


def _is_spared(image: Image) -> bool:
    """The same for all images of a group, and for copies."""
    return zlib.crc32((image.group or image.digest or image.path).encode("utf-8", "surrogateescape")) % _SPARED == 0


class AnytimeScore:
    """Of one data set's images and one encoder. One worker at a time computes it; where another does, this one does nothing."""

    def __init__(self, workspace: Workspace, folder: Path, dataset: Path) -> None:
        """Args: folder: the encoder's; dataset: the manifest's folder."""
        self._workspace, self._folder, self._dataset = workspace, folder, dataset
        self._path = score_path(folder, dataset.name)
        self._spec = read_encoder(folder)
        self._manifest = open_manifest(dataset)
        self._holding = contextlib.ExitStack()
        self._is_holder = False
        self._seen: set[str] = set()
        self._labels_of: dict[str, Counter[str]] = {}  # by part
        self._train = RunningStatistics()
        self._val, self._spare = _Kept(), _Kept()
        self._images = self._last = 0
        self._solve_s = 3 * self._spec.embed_dim**3 / _FLOPS + 0.1
        self._known = read_scores(folder).get(dataset.name, [])

    def close(self) -> None:
        self._holding.close()

    def look(self, allowance_s: float, is_last: bool) -> str:
        """A score that is new, in words; '' where there is none."""
        score = self.score(allowance_s, is_last)
        return "" if score is None else f"so far: {score.words}"

    def score(self, allowance_s: float, is_last: bool = False) -> Score | None:
        """Takes in what is new and may score it, in about so many seconds.

        Args:
            is_last: nothing more will come, so that a score of everything is worth it whatever the last one was of.

        Returns: a score that is new, and recorded; None where there is nothing to say yet, no time, or another worker says it.
        """
        until = time.monotonic() + allowance_s
        if not self._hold():
            return None
        # While a score is due all time is saved for it: there are always more jobs to take in.
        if is_last or not self._is_due(is_last):
            self._take_in(until)
        if not self._is_due(is_last) or until < time.monotonic() + self._solve_s:
            return None
        solving = time.monotonic()
        score = self._score()
        self._last = self._images
        self._known.append(score)
        write_scores(self._workspace, self._path, self._known)
        self._solve_s = time.monotonic() - solving
        return score

    def _is_due(self, is_last: bool) -> bool:
        return self._images > (self._last if is_last else self._last * _GROWTH) and self._is_enough()

    def _hold(self) -> bool:
        if not self._is_holder:
            self._workspace.make_folder(self._path.parent)
            with contextlib.suppress(locks.LockTimeout):
                self._holding.enter_context(locks.held(self._path.with_suffix(".lock"), 0.0))
                self._is_holder = True
                self._known = read_scores(self._folder).get(self._dataset.name, [])
        return self._is_holder

    def _is_enough(self) -> bool:
        few, classes = min(self._train.count, len(self._judged.rows)), len(self._train.classes)
        # Where nearly each image has a label of its own, labels are numbers, or no classes of which ridge could tell.
        return few >= FEWEST and 2 <= classes <= min(_MOST_CLASSES, self._train.count // 3)

    def _take_in(self, until: float) -> None:
        """What is done and was not taken in yet, as far as time allows."""
        for job_id, job in self._new_jobs():
            if time.monotonic() + _A_JOB_S > until:
                return
            self._seen.add(job_id)
            if job is not None:
                with contextlib.suppress(NotDone, ExplainedError):  # who trains on it will be told what is wrong with it
                    self._add(job)

    def _new_jobs(self) -> Iterator[tuple[str, Job | None]]:
        for group in paths.matching(self._folder, "done/*"):
            for path in paths.matching(group, "job_*.done"):
                if path.stem not in self._seen:
                    yield path.stem, finished_job(self._workspace, path)

    def _add(self, job: Job) -> None:
        source, _, part = job.source.rpartition("/")
        if self._workspace.root / source != self._dataset:
            return
        if part not in self._labels_of:
            self._labels_of[part] = self._manifest.label_counts(part)
        arrays = shards.read_finished(read_marker(self._workspace, job, self._spec.fingerprint), self._spec.embed_dim)
        index, half = arrays["index"], arrays["global_pool"]
        by_index = {row.index: row for row in self._manifest.rows(part, job.start, job.stop)}
        rows = [by_index[position] for position in index.tolist()]
        self._images += len(rows)
        labelled = [bool(row.image.label) and not row.retired for row in rows]
        is_spare = [not self._val.rows and row.image.split == "train" and _is_spared(row.image) for row in rows]
        val = np.array([row.image.split == "val" and knows for row, knows in zip(rows, labelled, strict=True)], np.bool_)
        spare = np.array([spares and knows for spares, knows in zip(is_spare, labelled, strict=True)], np.bool_)
        train = np.array([row.image.split == "train" and knows for row, knows in zip(rows, labelled, strict=True)], np.bool_)
        spare &= len(self._spare.rows) < _MOST_JUDGED
        self._val.add(half, rows, val & (len(self._val.rows) < _MOST_JUDGED))
        self._spare.add(half, rows, spare)
        self._train.add(half[train & ~spare], _labels(rows)[train & ~spare])
        if self._val.rows and self._spare.rows:  # there is a validation split after all
            self._train.add(self._spare.features, _labels(self._spare.rows))
            self._spare = _Kept()

    @property
    def _judged(self) -> _Kept:
        return self._val if self._val.rows else self._spare

    def _score(self) -> Score:
        head, classes = self._train.ridge(), np.array(self._train.classes)
        judged, features = self._judged.rows, self._judged.features.astype(np.float32)
        said = classes[(features @ head.weight.T.astype(np.float32) + head.bias.astype(np.float32)).argmax(axis=1)]
        is_right = said == _labels(judged)
        low, high = Sample(len(judged), np.array([row.image.group for row in judged], np.str_)).proportion(is_right)
        accuracy = float(is_right.mean())
        labels = sum(self._labels_of.values(), Counter[str]())
        coming = {label: count for label, count in labels.items() if label not in self._train.classes}
        unseen = sum(coming.values()) / max(1, labels.total())
        low = 0.0 if low is None else min(low, accuracy)
        high = 1.0 if high is None else max(high, accuracy)
        return Score(
            images=self._images,
            classes=len(classes),
            trained=self._train.count,
            judged=len(judged),
            accuracy=accuracy,
            low=low * (1 - unseen),
            high=high * (1 - unseen) + unseen,
            at=round(time.time(), 3),
            worker=process_token(os.getpid()),
            unseen=unseen,
            coming=len(coming),
        )
