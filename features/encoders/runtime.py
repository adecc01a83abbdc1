"""What turns pixels into features on a device, and how an encoder's folder becomes one. A worker on a CPU never imports torch."""

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from headstart.features.accelerators import DeviceMemory
from headstart.features.devices import choose_device
from headstart.pipeline import paths
from headstart.pipeline.doors import python, reading
from headstart.pipeline.errors import HeadstartError, TryLaterError
from headstart.pipeline.text import reason_of

from .onnx_encoder import GRAPH_FACTS_NAME, GRAPH_NAME, DamagedGraphError, GraphFacts, OnnxEncoder, find_graph
from .precision import CALIBRATED_NAME, FLOAT32, LARGEST_GRAPH, require_precision
from .spec import EncoderSpec, read_encoder


class Encoder(Protocol):
    """A network on a device, for images that `spec.transform` made.

    Attributes:
        spec: what it is.
        device: where it runs, as torch names it.
        threads: how many threads may usefully call `encode` at once.
        versions: of what decides the last bits of the features, by package.
        memory: of the GPU that it runs on; None on a CPU.
    """

    spec: EncoderSpec
    device: str
    threads: int
    versions: Mapping[str, str]
    memory: DeviceMemory | None

    def encode(self, images: NDArray[np.uint8]) -> NDArray[np.float32]:
        """What a classifier would see of each image, then its map if `spec.spatial` asks for one, flattened, in float32:
        (n, h, w, 3) uint8 in, (n, spec.row_length) out.

        On a CPU the same images give the same bits. Raises: ValueError if the shape or dtype is another.
        """

    def close(self) -> None:
        """Gives the network's memory back."""


def open_encoder(folder: Path, device: str, image_s: float | None = None) -> Encoder:
    """The encoder that `save_encoder` put into `folder`, on `device`: in torch on a GPU (cuda, mps ...), in ONNX Runtime on cpu.

    An encoder of another precision than float32 runs in OpenVINO, on a CPU that has the instructions, and nowhere else.
    A graph that is missing or damaged is exported first, in another process; an encoder that cannot have one runs in torch.
    `image_s` is how long a graph may take for an image; None where a worker's watchdog sees to that.
    Raises: HeadstartError if the folder is damaged or newer, timm builds the model differently, or there is no such device.
    """
    precise = read_encoder(folder)
    if precise.precision != FLOAT32:
        return _open_precise(folder, precise, device, image_s)
    if device == "cpu":
        try:
            return _open_graph(folder, image_s)
        except _NoGraph as reason:
            print(f"note: {folder.name} runs in torch, which is slower: {reason}", file=sys.stderr)
    from .torch_encoder import open_torch

    return open_torch(folder, device)


class _NoGraph(Exception):
    """Why an encoder cannot run in ONNX Runtime here."""


def device_of_encoder(folder: Path, asked: str) -> str:
    """The device that --device means for the encoder in `folder`: auto is the CPU for one that runs only there."""
    return "cpu" if asked == "auto" and read_encoder(folder).precision != FLOAT32 else choose_device(asked)


def _open_precise(folder: Path, spec: EncoderSpec, device: str, image_s: float | None) -> Encoder:
    if device != "cpu":
        raise HeadstartError(f"{folder.name} computes in {spec.precision}, which is for CPUs. Pass --device cpu")
    require_precision(spec.precision)
    from .openvino_encoder import OpenvinoEncoder, calibrated_graph

    if spec.calibrated_sha256:
        return OpenvinoEncoder(spec, calibrated_graph(folder, spec), str(folder / CALIBRATED_NAME), {}, image_s)
    try:
        facts, path = _ready_graph(folder, spec)
    except _NoGraph as reason:
        raise HeadstartError(
            f"{folder.name} cannot run in {spec.precision}: {reason}. Enqueue with --precision float32"
        ) from None
    data = reading.read(path, LARGEST_GRAPH)
    return OpenvinoEncoder(spec, data, str(path), facts.versions, image_s)


def open_for_onnx_runtime(
    folder: Path, image_s: float | None = None, remedy: str = "Export the head alone: leave out --with-encoder"
) -> tuple[Path, OnnxEncoder]:
    """The graph of an encoder in another precision, and it in ONNX Runtime, for files that leave Headstart.

    Its features are close to those of extraction, not the same: that computes bfloat16 in float32 and rounds int8 elsewhere.
    """
    spec = read_encoder(folder)
    if spec.calibrated_sha256:
        from .graph_check import flaw_of
        from .openvino_encoder import calibrated_graph

        path, data = folder / CALIBRATED_NAME, calibrated_graph(folder, spec)
        flaw = flaw_of(data)
        if flaw:
            raise DamagedGraphError(str(path), flaw)
        return path, OnnxEncoder(spec, data, {}, image_s=image_s)
    try:
        facts, path = _ready_graph(folder, spec)
    except _NoGraph as reason:
        raise HeadstartError(f"{folder.name} has no ONNX graph ({reason}). {remedy}") from None
    return path, OnnxEncoder(spec, path, facts.versions, facts.is_batch_invariant, image_s)


def _open_graph(folder: Path, image_s: float | None) -> Encoder:
    spec = read_encoder(folder)
    facts, path = _ready_graph(folder, spec)
    try:
        return OnnxEncoder(spec, path, facts.versions, facts.is_batch_invariant, image_s)
    except (MemoryError, DamagedGraphError):
        raise
    except Exception as error:  # ONNX Runtime has its own kinds; an old one may not know what a newer one exported
        raise _NoGraph(f"ONNX Runtime cannot load its graph: {reason_of(error)}") from None


def _ready_graph(folder: Path, spec: EncoderSpec) -> tuple[GraphFacts, Path]:
    """The float32 graph, exported if need be. Raises: _NoGraph if there can be none; DamagedGraphError."""
    from .graph_check import graph_flaw

    facts = find_graph(folder, spec.fingerprint)
    if facts is None:
        for name in (GRAPH_NAME, GRAPH_FACTS_NAME):
            if paths.is_folder(folder / name):
                raise DamagedGraphError(str(folder / name), "is a folder, expected a file")
        _export_elsewhere(folder)
        facts = find_graph(folder, spec.fingerprint)
    if facts is None or facts.refused:
        raise _NoGraph(facts.refused if facts else "its graph vanished")
    path = folder / GRAPH_NAME
    flaw = graph_flaw(path)
    if flaw:
        raise DamagedGraphError(str(path), flaw)
    return facts, path


def _export_elsewhere(folder: Path) -> None:
    done = python.run(
        python.module_command("headstart.features.encoders.onnx_export", str(folder)),
        capture_output=True,
        text=True,
        errors="replace",
    )
    said = (done.stderr.strip().splitlines() or [f"exit status {done.returncode}"])[-1]
    if done.returncode == TryLaterError.exit_code:
        raise TryLaterError(said)
    if done.returncode == HeadstartError.exit_code and "Traceback" not in done.stderr:
        raise HeadstartError(said)
    if done.returncode:
        raise _NoGraph(f"its export failed: {said}")
