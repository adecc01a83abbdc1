"""What turns pixels into features on a device, and how an encoder's folder becomes one. A worker on a CPU never imports torch."""

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from headstart.pipeline import paths
from headstart.pipeline.doors import python
from headstart.pipeline.errors import HeadstartError, TryLaterError
from headstart.pipeline.text import reason_of

from .gpu_memory import DeviceMemory
from .onnx_encoder import GRAPH_FACTS_NAME, GRAPH_NAME, find_graph
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
    """The encoder that `save_encoder` put into `folder`, on `device`: in torch on cuda, cuda:1 ..., in ONNX Runtime on the cpu.

    A graph that is missing or damaged is exported first, in another process; an encoder that cannot have one runs in torch.
    `image_s` is how long a graph may take for an image; None where a worker's watchdog sees to that.
    Raises: HeadstartError if the folder is damaged or newer, timm builds the model differently, or there is no such device.
    """
    if device == "cpu":
        try:
            return _open_graph(folder, image_s)
        except _NoGraph as reason:
            print(f"note: {folder.name} runs in torch, which is slower: {reason}", file=sys.stderr)
    from .torch_encoder import open_torch

    return open_torch(folder, device)


class _NoGraph(Exception):
    """Why an encoder cannot run in ONNX Runtime here."""


def _open_graph(folder: Path, image_s: float | None) -> Encoder:
    from .graph_check import graph_flaw
    from .onnx_encoder import DamagedGraphError, OnnxEncoder

    spec = read_encoder(folder)
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
    try:
        return OnnxEncoder(spec, path, facts.versions, facts.is_batch_invariant, image_s)
    except (MemoryError, DamagedGraphError):
        raise
    except Exception as error:  # ONNX Runtime has its own kinds; an old one may not know what a newer one exported
        raise _NoGraph(f"ONNX Runtime cannot load its graph: {reason_of(error)}") from None


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
