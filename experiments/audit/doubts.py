"""What an audit says: images that are in doubt, and why."""

from __future__ import annotations

from dataclasses import dataclass

from .clean_score import CleanScore
from .label_errors import LabelAudit

LABELS, DUPLICATES, LEAKS, OUTLIERS = PARTS = ("labels", "duplicates", "leaks", "outliers")


@dataclass(frozen=True)
class AuditedImage:
    """An image by its row: dataset is the folder of its manifest, relative to the workspace."""

    dataset: str
    row: int
    path: str
    split: str
    label: str


@dataclass(frozen=True)
class CopyPair:
    """Two images that show one picture; attributes as of `near_duplicates.Copy`.

    Attributes:
        is_leak: whether one is in val or test and the other in train or the other of the two.
    """

    first: AuditedImage
    second: AuditedImage
    cosine: float | None
    likeness: float
    how: str

    @property
    def is_leak(self) -> bool:
        return self.first.split != self.second.split and bool(self.first.split and self.second.split)


@dataclass(frozen=True)
class OddImage:
    """Attributes:
    oddness: robust standard deviations by which it is farther from its neighbours than images usually are.
    """

    image: AuditedImage
    oddness: float


@dataclass(frozen=True)
class DataAudit:
    """What was asked for; the others are empty.

    Attributes:
        digest: of the rows that were audited. images: how many.
        parts: of PARTS, what was looked for.
        labels: None if it was not asked for.
        copies: the most alike first; of LEAKS without DUPLICATES only those across splits.
        unread: images that pixels were wanted of and that could not be read.
        outliers: the oddest first.
        scores: of ridge on test, see `clean_scores`.
    """

    digest: str
    images: int
    parts: tuple[str, ...]
    labels: LabelAudit | None
    copies: tuple[CopyPair, ...]
    unread: int
    outliers: tuple[OddImage, ...]
    scores: tuple[CleanScore, ...]
