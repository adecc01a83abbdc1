"""An encoder's exported graph: `encoder.onnx`, its description `encoder.onnx.json`, and running it in ONNX Runtime on a CPU.

Neither torch nor timm is imported. Both files are derived and may be deleted; making them needs torch: `onnx_export`.
"""

import hashlib
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from headstart.features.devices import cores
from headstart.pipeline.doors import reading
from headstart.pipeline.doors.records import DamagedError, encode, read_record
from headstart.pipeline.files import environment_faults
from headstart.pipeline.versions import versions_of

from .gpu_memory import DeviceMemory
from .spec import EncoderSpec, require_pixels

GRAPH_NAME = "encoder.onnx"
GRAPH_FACTS_NAME = "encoder.onnx.json"
RECIPE = 1  # counts the ways in which graphs were ever exported; one of another way is made anew


@dataclass(frozen=True)
class GraphFacts:
    """What `encoder.onnx.json` says.

    Attributes:
        fingerprint: of the encoder that was exported.
        sha256: of the graph; '' if the encoder has none.
        refused: one line: why the encoder has no graph; '' if it has one.
        is_batch_invariant: whether an image gave the same bits alone and among others.
        check: how the graph differs from torch on a few images, see onnx_export.
        versions: what exported it.
    """

    fingerprint: str
    sha256: str
    refused: str
    is_batch_invariant: bool
    check: Mapping[str, float]
    versions: Mapping[str, str]
    recipe: int = RECIPE

    def to_json(self) -> bytes:
        return encode(asdict(self))


def find_graph(folder: Path, fingerprint: str) -> GraphFacts | None:
    """What is known of the graph in `folder`; None if it is missing, damaged, or of another encoder, way or version.

    With `refused` there is no graph, and trying again would give none. Raises: TryLaterError if the disk fails.
    """
    facts = _read_facts(folder / GRAPH_FACTS_NAME)
    if facts is None or facts.fingerprint != fingerprint or facts.recipe != RECIPE:
        return None
    if facts.refused:
        return facts
    path = folder / GRAPH_NAME
    try:
        with environment_faults(f"cannot read {path}"), reading.opened(path) as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
    except (FileNotFoundError, IsADirectoryError, reading.UnreadableError):
        return None
    return facts if digest == facts.sha256 else None


def _read_facts(path: Path) -> GraphFacts | None:
    try:
        with environment_faults(f"cannot read {path}"):
            facts = GraphFacts(**read_record(path, None))
    except (FileNotFoundError, DamagedError, TypeError):
        return None
    return facts if isinstance(facts.versions, dict) and isinstance(facts.check, dict) else None


_MOST_THREADS = 8


class OnnxEncoder:
    """A graph that several threads may run at once. An `runtime.Encoder`.

    Args:
        graph: the file, or its bytes.
        versions: of what exported it.
        is_batch_invariant: False makes it run one image at a time, so that features never depend on the neighbours.
    """

    device = "cpu"
    memory: DeviceMemory | None = None

    def __init__(
        self, spec: EncoderSpec, graph: Path | bytes, versions: Mapping[str, str], is_batch_invariant: bool = True
    ) -> None:
        import onnxruntime

        self.spec = spec
        self.versions: Mapping[str, str] = {**versions, **versions_of("onnxruntime")}
        # One batch a core instead of all cores on one batch: no core waits for another at the end of each layer, and what
        # is left over goes to the decoders, or to a second worker. On very many cores it would cost too much memory.
        self.threads = min(cores(), _MOST_THREADS)
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = cores() // self.threads
        options.inter_op_num_threads = 1
        options.log_severity_level = 3
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")  # a waiting thread would take a decoder's core
        self._is_batch_invariant = is_batch_invariant
        source = graph if isinstance(graph, bytes) else str(graph)
        self._session = onnxruntime.InferenceSession(source, options, providers=["CPUExecutionProvider"])

    def encode(self, images: NDArray[np.uint8]) -> NDArray[np.float32]:
        require_pixels(images, self.spec)
        if not len(images):
            return np.empty((0, self.spec.row_length), np.float32)
        if not self._is_batch_invariant:
            return np.concatenate([self._run(images[i : i + 1]) for i in range(len(images))])
        return self._run(images)

    def _run(self, images: NDArray[np.uint8]) -> NDArray[np.float32]:
        outputs: list[NDArray[np.float32]] = self._session.run(None, {"images": np.ascontiguousarray(images)})
        if len(outputs) == 1:
            return outputs[0]
        return np.concatenate([output.reshape(len(images), -1) for output in outputs], axis=1)

    def close(self) -> None:
        del self._session
