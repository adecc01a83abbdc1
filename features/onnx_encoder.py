"""An encoder's exported graph on a CPU, in ONNX Runtime: neither torch nor timm is imported."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from .devices import cores
from .encoder_spec import EncoderSpec, require_pixels
from .vram_plan import DeviceMemory

_MOST_LANES = 8


class OnnxEncoder:
    """A graph that several threads may run at once. An `opening.Encoder`.

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
        self.versions: Mapping[str, str] = {**versions, "onnxruntime": onnxruntime.__version__}
        # One batch a core instead of all cores on one batch: no core waits for another at the end of each layer, and what
        # is left over goes to the decoders, or to a second worker. On very many cores it would cost too much memory.
        self.lanes = min(cores(), _MOST_LANES)
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = cores() // self.lanes
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
