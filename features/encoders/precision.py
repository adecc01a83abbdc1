"""Precisions that an encoder may compute in on a CPU: what each needs of the processor, and the rule that refuses one."""

import importlib.util
from collections.abc import Collection
from dataclasses import asdict, dataclass
from typing import Any

from headstart.features.devices import processor_features
from headstart.pipeline.errors import HeadstartError
from headstart.pipeline.text import plural, printable

FLOAT32, BFLOAT16, INT8 = "float32", "bfloat16", "int8"
PRECISIONS = (FLOAT32, BFLOAT16, INT8)
CALIBRATED_NAME = "encoder.int8.onnx"
LARGEST_GRAPH = 2**31 - 1  # bytes; protobuf knows no larger message

# As Linux spells them. Without them OpenVINO takes a detour that is slower than float32, and rounds in other places.
_INSTRUCTIONS = {
    FLOAT32: frozenset[str](),
    BFLOAT16: frozenset({"avx512_bf16", "amx_bf16", "bf16"}),
    INT8: frozenset({"avx512_vnni", "avx_vnni", "amx_int8", "i8mm"}),
}
_INSTALL = "Install them: pip install 'headstart[fast]'"

_LEAST_MEDIAN, _LEAST_WORST, _GOOD_WORST = 0.97, 0.85, 0.95
_MOST_POINTS_LOST, _DEVIATIONS = 2.0, 2.0


class PrecisionError(HeadstartError):
    """This processor cannot do it, or features in this precision are not good enough."""


def parse_precision(value: Any) -> str:
    """Raises: ValueError if it is none."""
    if value not in PRECISIONS:
        raise ValueError(f"precision {str(value)[:40]!r} is none of {', '.join(PRECISIONS)}")
    return str(value)


def require_precision(precision: str, features: Collection[str] | None = None) -> None:
    """Raises: PrecisionError if the processor has no instructions for it; HeadstartError if OpenVINO is not installed.

    Args:
        features: of the processor; None: of this one.
    """
    if precision == FLOAT32:
        return
    needed = _INSTRUCTIONS[precision]
    if needed.isdisjoint(processor_features() if features is None else features):
        raise PrecisionError(
            f"this processor has no instructions for {precision} (one of {', '.join(sorted(needed))}). "
            "Work on another machine, or enqueue with --precision float32"
        )
    require_installed("openvino")


def require_installed(*libraries: str) -> None:
    """Raises: HeadstartError if one of the libraries of the extra `fast` is absent."""
    missing = [name for name in libraries if importlib.util.find_spec(name) is None]
    if missing:
        raise HeadstartError(f"--precision needs {' and '.join(missing)}, not installed here. {_INSTALL}")


@dataclass(frozen=True)
class Agreement:
    """How features in a precision compare with those of the same images in float32.

    Attributes:
        images: compared.
        median_cosine, worst_cosine: between the two vectors of an image; worst_image: its name.
        is_batch_invariant: whether an image gave the same bits alone, among others, and in another thread.
        labelled: images that were classified by ridge regression, each by a head fitted on all others; 0: too few have labels.
        exact_right, right: of these, classified rightly in float32 and in this precision.
        lost, won: rightly in float32 alone, in this precision alone.
    """

    images: int
    median_cosine: float
    worst_cosine: float
    worst_image: str
    is_batch_invariant: bool
    labelled: int = 0
    exact_right: int = 0
    right: int = 0
    lost: int = 0
    won: int = 0

    @property
    def score(self) -> float | None:
        """Percent right in this precision; None without labels."""
        return 100 * self.right / self.labelled if self.labelled else None

    @property
    def exact_score(self) -> float | None:
        """Likewise in float32."""
        return 100 * self.exact_right / self.labelled if self.labelled else None

    @property
    def refusal(self) -> str:
        """Why features in this precision must not be made, on one line; '' if they may.

        The rule: an image's features must not depend on its neighbours; the median cosine is at least 0.97 and the worst one
        0.85; and ridge regression loses no more than 2 points, unless that is within two standard errors of the difference.
        """
        if not self.is_batch_invariant:
            return "an image's features depend on which other images are with it"
        if not self.median_cosine >= _LEAST_MEDIAN:
            return f"the median cosine to float32 is {self.median_cosine:.4f}, at least {_LEAST_MEDIAN} is expected"
        if not self.worst_cosine >= _LEAST_WORST:
            name = printable(self.worst_image)
            return f"{name} has cosine {self.worst_cosine:.4f} to float32, at least {_LEAST_WORST} is expected"
        net = self.lost - self.won
        if self.labelled and 100 * net / self.labelled > _MOST_POINTS_LOST and net > _DEVIATIONS * (self.lost + self.won) ** 0.5:
            return f"ridge regression falls from {self.exact_score:.1f} to {self.score:.1f} % on {plural(self.labelled, 'image')}"
        return ""

    @property
    def warning(self) -> str:
        """What the user should know although it may be used; '' if nothing."""
        if self.worst_cosine < _GOOD_WORST:
            return f"{printable(self.worst_image)} has cosine {self.worst_cosine:.4f} to float32"
        return ""

    def describe(self) -> str:
        """One line."""
        scores = f", ridge {self.exact_score:.1f} -> {self.score:.1f} % right of {self.labelled:,}" if self.labelled else ""
        return (
            f"cosine to float32 {self.median_cosine:.4f}, worst {self.worst_cosine:.4f} of {plural(self.images, 'image')}{scores}"
        )

    def facts(self) -> dict[str, Any]:
        """For JSON."""
        return asdict(self)
