"""Tries a precision out on images of the user before anything is queued: calibrates, and compares with float32 by the rule."""

from __future__ import annotations

import hashlib
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from headstart.features.encoders.folder import encoder_folders
from headstart.features.encoders.onnx_encoder import GRAPH_FACTS_NAME, GRAPH_NAME, GraphFacts, find_graph
from headstart.features.encoders.onnx_export import export_graph
from headstart.features.encoders.openvino_encoder import OpenvinoEncoder, calibrated_graph
from headstart.features.encoders.precision import (
    CALIBRATED_NAME,
    FLOAT32,
    INT8,
    LARGEST_GRAPH,
    Agreement,
    PrecisionError,
    require_installed,
    require_precision,
)
from headstart.features.encoders.resolve import EncoderRequest
from headstart.features.encoders.runtime import Encoder, open_encoder
from headstart.features.encoders.saved import save_encoder
from headstart.features.encoders.similarity import cosines, right_without_itself
from headstart.features.encoders.spec import EncoderSpec, read_encoder
from headstart.features.networks.embedded_encoder import EmbeddedWeights
from headstart.features.sources.source import Source
from headstart.pipeline.doors import python, reading
from headstart.pipeline.doors.records import seal
from headstart.pipeline.errors import HeadstartError
from headstart.pipeline.files import temporary_folder
from headstart.pipeline.workspace import Workspace, open_or_create_workspace

from .sample import decoded_sample

PRECISION_FACTS_NAME = "encoder.precision.json"
_CALIBRATED, _COMPARED, _LABELLED = 128, 64, 256  # images; compared ones are others, as long as there are so many
_BATCH = 4
_LEAST_LABELLED, _LEAST_A_CLASS = 40, 3
_PAYS = 1.1
_CALIBRATION_S = 1800.0


@dataclass(frozen=True)
class Precise:
    """An encoder in a precision, tried out.

    Attributes:
        spec: with that precision.
        agreement: with float32.
        images_per_second, exact_images_per_second: of the encoder alone, here and now, in this precision and in float32.
        files: what its folder needs beside description and weights, by name.
    """

    spec: EncoderSpec
    agreement: Agreement
    images_per_second: float
    exact_images_per_second: float
    files: dict[str, bytes]

    @property
    def speed_up(self) -> float:
        return self.images_per_second / self.exact_images_per_second


@dataclass(frozen=True)
class Trial:
    """An encoder in float32 in a temporary workspace, and what it made of some images of the user.

    Attributes:
        folder: the encoder's.
        pixels: (n, h, w, 3) of all images; the first `calibrated` are for calibration, the others are compared.
        names, labels: of these images.
        exact: (n, row_length) features in float32.
        exact_rate: images/s at which they were made.
    """

    folder: Path
    spec: EncoderSpec
    pixels: NDArray[np.uint8]
    names: Sequence[str]
    labels: Sequence[str]
    exact: NDArray[np.float32]
    exact_rate: float

    def precise(self, precision: str) -> Precise:
        """The encoder in this precision. Raises: HeadstartError if it cannot be had, PrecisionError if this processor cannot."""
        require_precision(precision)
        spec = replace(self.spec, precision=precision)
        graph = self._graph(precision)
        if precision == INT8:
            spec = replace(spec, calibrated_sha256=hashlib.sha256(graph).hexdigest())
        encoder = OpenvinoEncoder(spec, graph, "the graph", {})
        try:
            features, rate = _timed(encoder, self.pixels)
            is_invariant = _is_batch_invariant(encoder, self.pixels, features)
        finally:
            encoder.close()
        agreement = self._agreement(features, is_invariant)
        facts = {"format": 1, "precision": precision, **agreement.facts()}
        files = {CALIBRATED_NAME: graph} if precision == INT8 else self._float32_files(spec, graph)
        return Precise(spec, agreement, rate, self.exact_rate, {**files, PRECISION_FACTS_NAME: seal(facts)})

    def _graph(self, precision: str) -> bytes:
        if precision != INT8:
            return reading.read(self.folder / GRAPH_NAME, LARGEST_GRAPH)
        require_installed("nncf", "onnx")
        images = self.pixels[:_CALIBRATED]
        command = python.module_command("headstart.features.encoders.calibrate", str(self.folder), str(len(images)))
        try:
            done = python.run(command, input=images.tobytes(), capture_output=True, timeout=_CALIBRATION_S)
        except subprocess.TimeoutExpired:
            raise HeadstartError(
                f"calibration for int8 took more than {_CALIBRATION_S / 60:.0f} min. Try again, or --precision bfloat16"
            ) from None
        if done.returncode:
            lines = done.stderr.decode(errors="replace").strip().splitlines() or [f"exit status {done.returncode}"]
            raise HeadstartError(f"calibration for int8 failed: {lines[-1]}")
        return reading.read(self.folder / CALIBRATED_NAME, LARGEST_GRAPH)

    def _float32_files(self, spec: EncoderSpec, graph: bytes) -> dict[str, bytes]:
        facts = find_graph(self.folder, self.spec.fingerprint)
        assert facts is not None
        its_own: GraphFacts = replace(facts, fingerprint=spec.fingerprint)
        return {GRAPH_NAME: graph, GRAPH_FACTS_NAME: its_own.to_json()}

    def _agreement(self, features: NDArray[np.float32], is_invariant: bool) -> Agreement:
        compared = slice(_CALIBRATED if len(features) >= _CALIBRATED + _COMPARED else 0, None)
        vector = slice(0, self.spec.embed_dim)
        alike = cosines(self.exact[compared, vector], features[compared, vector])
        if self.spec.spatial is not None:  # a large map would hide a wrong vector
            maps = slice(self.spec.embed_dim, None)
            alike = np.minimum(alike, cosines(self.exact[compared, maps], features[compared, maps]))
        alike = np.nan_to_num(alike, nan=-1.0)
        worst = int(alike.argmin())
        found = Agreement(len(alike), float(np.median(alike)), float(alike[worst]), self.names[compared][worst], is_invariant)
        kept, classes = _classes(self.labels)
        if not len(kept):
            return found
        exact, right = (right_without_itself(made[kept][:, vector], classes) for made in (self.exact, features))
        return replace(
            found,
            labelled=len(kept),
            exact_right=int(exact.sum()),
            right=int(right.sum()),
            lost=int((exact & ~right).sum()),
            won=int((right & ~exact).sum()),
        )


@contextmanager
def trial_of(source: Source, spec: EncoderSpec, weights: EmbeddedWeights | Path, seed: int) -> Iterator[Trial]:
    """The encoder and a seeded sample of `source`, until the context ends.

    Args:
        weights: see `save_encoder`.

    Raises: HeadstartError if the encoder has no graph, or hardly an image can be decoded.
    """
    with temporary_folder("precision") as place:
        workspace = open_or_create_workspace(place / "workspace")
        folder = save_encoder(workspace, spec, weights)
        refused = export_graph(folder, weights if isinstance(weights, Path) else None).refused
        if refused:
            raise HeadstartError(f"{spec.model} has no ONNX graph ({refused}), so it runs in float32 only. Leave out --precision")
        has_labels = any(image.label for image in source.images)
        count = _CALIBRATED + (_LABELLED if has_labels else _COMPARED)
        pixels, rows = decoded_sample(workspace, source, spec, seed, count, "--precision")
        encoder = open_encoder(folder, "cpu")
        try:
            exact, rate = _timed(encoder, pixels)
        finally:
            encoder.close()
        yield Trial(folder, spec, pixels, [row.image.path for row in rows], [row.image.label for row in rows], exact, rate)


def chosen_precision(
    workspace: Workspace,
    source: Source,
    spec: EncoderSpec,
    weights: EmbeddedWeights | Path,
    request: EncoderRequest,
    seed: int,
    report: Callable[[str], None],
) -> EncoderSpec:
    """`spec` in the precision that is asked for, its graph in its folder; or as it is, where that was allowed and has to be.

    What was calibrated once in a workspace serves all its data sets: another sample would give other features.
    Raises: HeadstartError if it cannot be had, or its features are not good enough, see `Agreement.refusal`.
    """
    if request.precision == FLOAT32:
        return spec
    try:
        require_precision(request.precision)
        before = _calibrated_before(workspace, spec, request.precision)
        if before is not None:
            report(f"precision {request.precision}, as before")
            return before
        with trial_of(source, spec, weights, seed) as trial:
            precise = trial.precise(request.precision)
        agreement = precise.agreement
        report(f"precision {request.precision}: {precise.speed_up:.1f} times as fast as float32 here, {agreement.describe()}")
        if agreement.refusal:
            raise PrecisionError(
                f"--precision {request.precision}: {agreement.refusal}. Use --precision float32, or add --else-float32"
            )
    except PrecisionError as error:
        if not request.else_float32:
            raise
        report(f"note: float32 instead, as --else-float32 allows: {error}")
        return spec
    if agreement.warning:
        report(f"note: {agreement.warning}")
    if precise.speed_up < _PAYS:
        report(
            f"note: {request.precision} does not pay for {spec.model} on this machine: leave out --precision for exact features"
        )
    folder = workspace.features / precise.spec.folder_name
    workspace.make_folder(folder)
    for name, data in precise.files.items():
        workspace.files.replace(folder / name, data)
    return precise.spec


def _calibrated_before(workspace: Workspace, spec: EncoderSpec, precision: str) -> EncoderSpec | None:
    for folder in encoder_folders(workspace):
        try:
            there = read_encoder(folder)
            if there.precision != precision or there.in_float32.fingerprint != spec.fingerprint:
                continue
            if there.calibrated_sha256:
                calibrated_graph(folder, there)
        except HeadstartError:
            continue  # damaged: it is made anew, and if nothing changed it is the same
        return there
    return None


def _timed(encoder: Encoder, pixels: NDArray[np.uint8]) -> tuple[NDArray[np.float32], float]:
    encoder.encode(pixels[:_BATCH])
    begun = time.perf_counter()
    with ThreadPoolExecutor(encoder.threads) as pool:
        made = list(pool.map(encoder.encode, (pixels[at : at + _BATCH] for at in range(0, len(pixels), _BATCH))))
    return np.concatenate(made), len(pixels) / (time.perf_counter() - begun)


def _is_batch_invariant(encoder: Encoder, pixels: NDArray[np.uint8], together: NDArray[np.float32]) -> bool:
    bounds = ((0, 1), (1, 2), (2, 4), (4, 7), (7, 8), (0, 8))
    return all(np.array_equal(encoder.encode(pixels[start:stop]), together[start:stop]) for start, stop in bounds)


def _classes(labels: Sequence[str]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Positions of images of classes with enough images for a score, and numbers of their classes; none if that is too few."""
    names, numbers, counts = np.unique(np.array(labels, dtype=str), return_inverse=True, return_counts=True)
    usable = (counts >= _LEAST_A_CLASS) & (names != "")
    kept = np.flatnonzero(usable[numbers])
    if len(kept) < _LEAST_LABELLED or usable.sum() < 2:
        return np.empty(0, np.int64), np.empty(0, np.int64)
    return kept, np.unique(numbers[kept], return_inverse=True)[1]
