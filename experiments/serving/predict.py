"""What a trained head answers, in numpy alone: the few matrix products of a prediction do not pay for importing torch."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from headstart.experiments.evaluation.metrics import probabilities_of
from headstart.experiments.heads.trained_head import TrainedHead
from headstart.features.extraction.new_images import NewImage, encode_new_images
from headstart.features.images.decode import ImageError
from headstart.pipeline.errors import HeadstartError

if TYPE_CHECKING:
    from headstart.features.encoders.spec import EncoderSpec
    from headstart.features.extraction.batching import Batching


@dataclass(frozen=True)
class Prediction:
    """Probabilities or numbers (k,) for an image, or why there are none."""

    name: str
    answer: NDArray[np.float64] | None
    error: ImageError | None


def answering(head: TrainedHead) -> Callable[[NDArray[Any]], NDArray[np.float64]]:
    """A function from raw features (b, d) to probabilities of classes, or predicted numbers, (b, k).

    It computes in float64, so that an answer does not depend on its batch; `TrainedHead.scores` is float32's rounding away.
    It raises: HeadstartError if rows have another length than the head takes.
    """
    layers = [(weight.T.astype(np.float64), bias.astype(np.float64)) for weight, bias in head.layers]
    expected, output = head.inputs, head.config.output_for(head.task)

    def answer(rows: NDArray[Any]) -> NDArray[np.float64]:
        if rows.shape[1] != expected:
            raise HeadstartError(
                f"the head takes rows of {expected} numbers, got {rows.shape[1]}. Was it trained on this encoder?"
            )
        values = rows.astype(np.float64)
        for number, (weight, bias) in enumerate(layers):
            if number:
                values = _activated(values, head.config.activation)
            values = values @ weight + bias
        if head.task == "classification":
            return probabilities_of(values, output)
        return 1 / (1 + np.exp(-values)) if output == "sigmoid" else values

    return answer


def predict_images(
    head: TrainedHead,
    images: Sequence[NewImage],
    spec: EncoderSpec,
    auxiliary: Sequence[float],
    open_batching: Callable[[], Batching],
    device: str = "cpu",
) -> Iterator[Prediction]:
    """What the head says of each image, in order.

    Args:
        spec: of the encoder; open_batching: opens it; device: see `encode_new_images`.
        auxiliary: numbers that stand after each image's features.

    Raises: HeadstartError if the head was trained on features of another length.
    """
    answer, beside = answering(head), np.array(auxiliary, np.float32)
    for encoded in encode_new_images(images, spec, open_batching, device):
        if encoded.features is None:
            yield Prediction(encoded.image.name, None, encoded.error)
        else:
            row = np.concatenate([encoded.features.astype(np.float32), beside])
            yield Prediction(encoded.image.name, answer(row[None])[0], None)


def _activated(values: NDArray[np.float64], activation: str) -> NDArray[np.float64]:
    if activation == "relu":
        return np.maximum(values, 0)
    from scipy.special import ndtr

    return np.asarray(values * ndtr(values))  # GELU
