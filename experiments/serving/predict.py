"""What a trained head answers, in numpy alone: the few matrix products of a prediction do not pay for importing torch."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from headstart.experiments.data.sigmoid import sigmoid
from headstart.experiments.evaluation.metrics import probabilities_of
from headstart.experiments.explain.overlay_files import OverlayFiles
from headstart.experiments.heads.trained_head import TrainedHead, read_head
from headstart.experiments.runs.catalog import BEST, Chosen, choose_run
from headstart.features.extraction.new_images import NewImage, encode_new_images, find_new_images
from headstart.features.images.decode import ImageError
from headstart.pipeline.errors import HeadstartError
from headstart.pipeline.text import printable
from headstart.pipeline.workspace import Workspace, as_workspace

if TYPE_CHECKING:
    from headstart.features.encoders.spec import EncoderSpec
    from headstart.features.extraction.batching import Batching


@dataclass(frozen=True)
class Prediction:
    """Probabilities or numbers (k,) for an image, or why there are none.

    Attributes:
        overlay: a picture of what speaks for the most probable class, or raises the first number, if that was asked for.
    """

    name: str
    answer: NDArray[np.float64] | None
    error: ImageError | None
    overlay: Path | None = None


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
        if head.auxiliary is not None:
            count = len(head.auxiliary.mean)
            values[:, -count:] = (values[:, -count:] - head.auxiliary.mean) / head.auxiliary.scale
        for number, (weight, bias) in enumerate(layers):
            if number:
                values = _activated(values, head.config.activation)
            values = values @ weight + bias
        if head.task == "classification":
            return probabilities_of(values, output)
        if head.outputs is not None:
            return head.outputs.undo(values)
        return sigmoid(values) if output == "sigmoid" else values

    return answer


@dataclass(frozen=True)
class Predictions:
    """What a head says of images; each is decoded and encoded when the iteration comes to it, and one that cannot be read has an
    error instead of an answer.

    Attributes:
        chosen: the run that answers.
        task, names: see TrainedHead.
        images: that were listed, in the order of the answers.
    """

    chosen: Chosen
    task: str
    names: tuple[str, ...]
    images: Sequence[NewImage]
    _answers: Iterator[Prediction]

    def __iter__(self) -> Iterator[Prediction]:
        return self._answers


def predict(
    images: Sequence[Path | str],
    workspace: Workspace | Path | str | None = None,
    *,
    run: str | int = BEST,
    auxiliary: Sequence[str] | Mapping[str, float] = (),
    device: str = "auto",
    allow_symlinks: bool = False,
    explain_to: Path | None = None,
) -> Predictions:
    """What the head of a run says of image files and folders of them, decoded and encoded as `work` would do it.

    Args:
        workspace: a folder; None is the one that every command would take, see `find_root`.
        run: its number, or 'best', see `choose_run`.
        auxiliary: the numbers that the head was trained with beside the image, by name.
        device: auto, cpu, cuda, xpu or mps.
        allow_symlinks: follow symbolic links out of a folder.
        explain_to: a folder for a picture of each image with what in it speaks for the answer, see `OverlayFiles`; the encoder
            then runs on a CPU.

    Raises: HeadstartError if there is no such run, its encoder is gone, there are no images, auxiliary numbers are missing, or
        the encoder averages no map that could be explained.
    """
    chosen = choose_run(as_workspace(workspace), str(run))
    beside = auxiliary_values(chosen.experiment.auxiliary, auxiliary)
    head = read_head(chosen.head_path)
    listed = find_new_images([Path(image) for image in images], allow_symlinks)
    overlays = None if explain_to is None else OverlayFiles(explain_to, head)
    if overlays is not None:
        overlays.require_apart(listed)
    open_batching = partial(_open_batching, chosen.experiment.encoder, device, overlays is not None)
    answers = predict_images(head, listed, chosen.encoder_spec(), beside, open_batching, device, overlays)
    return Predictions(chosen, head.task, head.names, listed, answers)


def _open_batching(encoder: Path, device: str, with_map: bool = False) -> Batching:
    from headstart.features.encoders.pooled_map import open_with_pooled_map
    from headstart.features.encoders.runtime import device_of_encoder, open_encoder
    from headstart.features.extraction.memory_budget import plan_batching
    from headstart.features.images.watch import picture_seconds

    if with_map:
        return plan_batching(open_with_pooled_map(encoder, picture_seconds()), None, None, None, 0)[0]
    opened = open_encoder(encoder, device_of_encoder(encoder, device), picture_seconds())
    return plan_batching(opened, None, None, None, 0)[0]


def auxiliary_values(names: Sequence[str], given: Sequence[str] | Mapping[str, float]) -> list[float]:
    """Numbers by name, or from 'name=value' texts, in the order of `names`.

    Raises: HeadstartError that says which are missing, unknown or no numbers.
    """
    if isinstance(given, Mapping):
        given = [f"{name}={float(value)!r}" for name, value in given.items()]
    values: dict[str, float] = {}
    for text in given:
        name, equals, value = text.rpartition("=") if "=" in text else (text, "", "")
        if name not in names:
            known = f"the head takes {', '.join(map(printable, names))}" if names else "the head takes none"
            raise HeadstartError(f"--aux {printable(text)}: {known}")
        try:
            values[name] = float(value)
        except ValueError:
            values[name] = float("nan")
        if not equals or not abs(values[name]) < float("inf"):
            raise HeadstartError(f"--aux {printable(text)}: expected a number, such as --aux {printable(name)}=0.5")
    missing = [name for name in names if name not in values]
    if missing:
        wanted = " ".join(f"--aux {printable(name)}=VALUE" for name in missing)
        raise HeadstartError(f"the head was trained with columns beside the image, and they are missing: {wanted}")
    return [values[name] for name in names]


def predict_images(
    head: TrainedHead,
    images: Sequence[NewImage],
    spec: EncoderSpec,
    auxiliary: Sequence[float],
    open_batching: Callable[[], Batching],
    device: str = "cpu",
    overlays: OverlayFiles | None = None,
) -> Iterator[Prediction]:
    """What the head says of each image, in order.

    Args:
        spec: of the encoder; open_batching: opens it; device: see `encode_new_images`.
        auxiliary: numbers that stand after each image's features.
        overlays: where pictures of what speaks for the answers go; the encoder gives maps then.

    Raises: HeadstartError if the head was trained on features of another length.
    """
    answer, beside = answering(head), np.array(auxiliary, np.float64)
    for encoded in encode_new_images(images, spec, open_batching, device):
        if encoded.features is None:
            yield Prediction(encoded.image.name, None, encoded.error)
        else:
            row = np.concatenate([encoded.features.astype(np.float32), beside])
            said = answer(row[None])[0]
            asked = int(said.argmax()) if head.task == "classification" else 0
            picture = None if overlays is None else overlays.write(encoded, row, asked)
            yield Prediction(encoded.image.name, said, None, picture)


def _activated(values: NDArray[np.float64], activation: str) -> NDArray[np.float64]:
    if activation == "relu":
        return np.maximum(values, 0)
    from scipy.special import ndtr

    return np.asarray(values * ndtr(values))  # GELU
