"""The anytime score on disk: `status`, `watch` and the report read it. Imports no numpy."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from headstart.pipeline import paths
from headstart.pipeline.doors.records import Record, read_record, seal
from headstart.pipeline.errors import ExplainedError
from headstart.pipeline.workspace import Workspace

FORMAT = 1
_MOST = 500  # points of a file: a queue of years must not make it grow for ever
_FOLDER = "anytime"


@dataclass(frozen=True)
class Score:
    """What ridge, fitted to the training images that had features, says of the validation images that had.

    Attributes:
        images: that had features, of all splits.
        classes: that training has seen so far.
        trained, judged: images of the two splits; accuracy is of the latter.
        low, high: 95 % interval of what these features will score on all classes: images of one that training has not seen may
            all turn out wrong or right.
        unseen: part of the labelled images, of parts that were opened, whose class training has not seen.
        coming: such classes.
        at: seconds since 1970; worker: who computed it.
    """

    images: int
    classes: int
    trained: int
    judged: int
    accuracy: float
    low: float
    high: float
    at: float
    worker: str
    unseen: float = 0.0
    coming: int = 0

    @property
    def words(self) -> str:
        """For people, on one line."""
        return (
            f"ridge {self.accuracy * 100:.1f} % ({self.low * 100:.1f} to {self.high * 100:.1f}) of {self.judged:,} validation "
            f"images, {self.classes_words}, trained on {self.trained:,}"
        )

    @property
    def classes_words(self) -> str:
        """`10 classes`, or `4 of 10 classes` while others have no features yet."""
        return f"{self.classes:,} {f'of {self.classes + self.coming:,} ' if self.coming else ''}classes"


def score_path(encoder_folder: Path, dataset: str) -> Path:
    return encoder_folder / _FOLDER / f"{dataset}.json"


def read_scores(encoder_folder: Path) -> dict[str, list[Score]]:
    """By data set, oldest first; one that cannot be read is left out: it is derived, and the next worker writes it anew."""
    scores = {}
    for path in paths.matching(encoder_folder, f"{_FOLDER}/*.json"):
        with contextlib.suppress(OSError, ExplainedError):
            points = [_score(point) for point in read_record(path, FORMAT).records("scores")]
            if points:
                scores[path.stem] = points
    return scores


def write_scores(workspace: Workspace, path: Path, scores: Sequence[Score]) -> None:
    """Derived and never trusted blindly, so not durable. Raises: what the disk says."""
    workspace.make_folder(path.parent)
    data = seal({"format": FORMAT, "scores": [asdict(score) for score in scores[-_MOST:]]})
    replace(workspace.files, fsync=False).replace(path, data)


def _score(facts: Record) -> Score:
    return Score(
        images=facts.integer("images"),
        classes=facts.integer("classes"),
        trained=facts.integer("trained"),
        judged=facts.integer("judged"),
        accuracy=facts.number("accuracy", 0.0, 1.0),
        low=facts.number("low", 0.0, 1.0),
        high=facts.number("high", 0.0, 1.0),
        at=facts.number("at"),
        worker=facts.text("worker"),
        # Scores that older versions wrote lack these.
        unseen=facts.number("unseen", 0.0, 1.0) if "unseen" in facts else 0.0,
        coming=facts.integer("coming") if "coming" in facts else 0,
    )
