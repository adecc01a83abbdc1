"""An encoder's graph in OpenVINO on a CPU, in bfloat16 or int8: ONNX files, checked as those for ONNX Runtime are."""

import hashlib
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from headstart.features.accelerators import DeviceMemory
from headstart.features.devices import cores, is_out_of_memory
from headstart.pipeline.doors import reading
from headstart.pipeline.errors import HeadstartError
from headstart.pipeline.files import environment_faults
from headstart.pipeline.text import reason_of
from headstart.pipeline.versions import versions_of

from .compiled import compiled
from .graph_check import flaw_of
from .onnx_encoder import DamagedGraphError
from .precision import BFLOAT16, CALIBRATED_NAME, LARGEST_GRAPH
from .spec import DamagedEncoderError, EncoderSpec, require_pixels

_MOST_THREADS = 8


def calibrated_graph(folder: Path, spec: EncoderSpec) -> bytes:
    """The bytes of the graph that `spec` names by digest. Raises: DamagedEncoderError if they are not there."""
    path = folder / CALIBRATED_NAME
    repair = f"Run the same enqueue again, with --encoder {spec.model} --precision {spec.precision}: it calibrates anew"
    try:
        with environment_faults(f"cannot read {path}"):
            data = reading.read(path, LARGEST_GRAPH)
    except (FileNotFoundError, IsADirectoryError, reading.UnreadableError):
        raise DamagedEncoderError(f"{path} is missing. {repair}") from None
    digest = hashlib.sha256(data).hexdigest()
    if digest != spec.calibrated_sha256:
        raise DamagedEncoderError(f"{path} has digest {digest[:16]}, expected {spec.calibrated_sha256[:16]}. {repair}")
    return data


class OpenvinoEncoder:
    """A graph that several threads may run at once. An `runtime.Encoder`.

    Everything but int8 products is computed in float32 with int8, and products in bfloat16 with bfloat16. The bits do not depend
    on the batch or the number of threads: `planning.precise` looks before a precision is taken.

    Args:
        graph: its bytes, and `name`, what errors call it.
        versions: of what exported it.
        image_s: how long it may take for each image; None where a worker's watchdog sees to that.

    Raises: DamagedGraphError if OpenVINO cannot load it, or it takes or gives something else than `spec` says.
    """

    device = "cpu"
    memory: DeviceMemory | None = None

    def __init__(
        self, spec: EncoderSpec, graph: bytes, name: str, versions: Mapping[str, str], image_s: float | None = None
    ) -> None:
        self.spec = spec
        self.threads = min(cores(), _MOST_THREADS)
        self._name = name
        self._image_s = image_s
        flaw = flaw_of(graph)  # of the very bytes that OpenVINO is given
        if flaw:
            raise DamagedGraphError(name, flaw)
        settings = {
            "INFERENCE_PRECISION_HINT": "bf16" if spec.precision == BFLOAT16 else "f32",
            "NUM_STREAMS": self.threads,  # one batch a core, see OnnxEncoder
            "INFERENCE_NUM_THREADS": cores(),
            "ENABLE_CPU_PINNING": False,  # decoders need the cores, too
        }
        try:
            self._compiled = compiled(graph, settings)
        except Exception as error:
            if is_out_of_memory(error):
                raise
            raise DamagedGraphError(name, f"cannot be run ({reason_of(error)})") from None
        # Only now that `compiled` has imported it without its tools: to ask for a version imports what is not there yet.
        self.versions: Mapping[str, str] = {**versions, **versions_of("openvino")}
        self._shapes = [(spec.embed_dim,), *([spec.spatial.shape] if spec.spatial else [])]
        self._outputs = self._compiled.outputs
        self._require_shapes()
        self._local = threading.local()

    def encode(self, images: NDArray[np.uint8]) -> NDArray[np.float32]:
        require_pixels(images, self.spec)
        if not len(images):
            return np.empty((0, self.spec.row_length), np.float32)
        request = self._request()
        try:
            request.start_async([np.ascontiguousarray(images)])
            if self._image_s is None:
                request.wait()
            elif not request.wait_for(int(1000 * self._image_s * len(images))):
                request.cancel()
                raise HeadstartError(
                    f"{self._name} took more than {self._image_s:g} s for an image. HEADSTART_PICTURE_S gives it more"
                )
        except RuntimeError as error:
            if is_out_of_memory(error):
                raise
            raise DamagedGraphError(self._name, f"cannot be run ({reason_of(error)})") from None
        rows = []
        for output, shape in zip(self._outputs, self._shapes, strict=True):
            made = request.get_tensor(output).data
            if made.shape != (len(images), *shape) or made.dtype != np.float32:
                expected = ", ".join(map(str, (len(images), *shape)))
                raise DamagedGraphError(self._name, f"gave {made.dtype} {made.shape}, expected float32 ({expected})")
            rows.append(made.reshape(len(images), -1))
        return np.concatenate(rows, axis=1)  # a copy: the next call writes over what the request holds

    def close(self) -> None:
        self._local = threading.local()
        del self._compiled

    def _request(self) -> Any:
        if not hasattr(self._local, "request"):
            self._local.request = self._compiled.create_infer_request()
        return self._local.request

    def _require_shapes(self) -> None:
        inputs = [
            (each.any_name, each.element_type.to_string(), each.partial_shape.to_string()) for each in self._compiled.inputs
        ]
        height, width = self.spec.transform.image_size
        if len(inputs) != 1 or inputs[0][:2] != ("images", "u8") or not inputs[0][2].endswith(f",{height},{width},3]"):
            raise DamagedGraphError(self._name, f"takes {inputs[:3]}, expected images u8 (n, {height}, {width}, 3)")
        if len(self._outputs) != len(self._shapes):
            raise DamagedGraphError(self._name, f"gives {len(self._outputs)} arrays, expected {len(self._shapes)}")
