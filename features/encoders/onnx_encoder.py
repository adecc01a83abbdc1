"""An encoder's exported graph: `encoder.onnx`, its description `encoder.onnx.json`, and running it in ONNX Runtime on a CPU.

Neither torch nor timm is imported. Both files are derived and may be deleted; making them needs torch: `onnx_export`.
"""

import functools
import hashlib
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from headstart.features.accelerators import DeviceMemory
from headstart.features.devices import cores, is_out_of_memory
from headstart.pipeline.deadlines import Deadlines
from headstart.pipeline.doors import reading
from headstart.pipeline.doors.records import DamagedError, encode, read_record
from headstart.pipeline.errors import HeadstartError
from headstart.pipeline.files import environment_faults
from headstart.pipeline.memory import available_bytes
from headstart.pipeline.text import reason_of
from headstart.pipeline.versions import versions_of

from .precision import LARGEST_GRAPH
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
        with environment_faults(f"cannot read {path}"), reading.opened(path, LARGEST_GRAPH) as file:
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
_MEMORY_SHARE = 0.8


@functools.cache
def _bound_memory() -> None:
    """No graph takes more memory than there is now. One allocator serves all graphs of a process, so it is made once."""
    import onnxruntime

    most = int(_MEMORY_SHARE * available_bytes())
    memory = onnxruntime.OrtMemoryInfo("Cpu", onnxruntime.OrtAllocatorType.ORT_ARENA_ALLOCATOR, 0, onnxruntime.OrtMemType.DEFAULT)
    onnxruntime.create_and_register_allocator(memory, onnxruntime.OrtArenaCfg({"max_mem": most}))


class DamagedGraphError(HeadstartError):
    """A graph is not what was exported here. Deleting it repairs it."""

    def __init__(self, name: str, why: str) -> None:
        super().__init__(f"{name} {why}. Delete it: the same command exports it anew")


class OnnxEncoder:
    """A graph that several threads may run at once. An `runtime.Encoder`.

    Args:
        graph: the file, or its bytes.
        versions: of what exported it.
        is_batch_invariant: False makes it run one image at a time, so that features never depend on the neighbours.
        image_s: how long it may take for each image; None where a worker's watchdog sees to that.
        keeps_memory: what a run took is there for the next one; False gives it back, where only a few images are tried.

    Raises: DamagedGraphError if it takes or gives something else than `spec` says; what ONNX Runtime raises.
    """

    device = "cpu"
    memory: DeviceMemory | None = None

    def __init__(
        self,
        spec: EncoderSpec,
        graph: Path | bytes,
        versions: Mapping[str, str],
        is_batch_invariant: bool = True,
        image_s: float | None = None,
        keeps_memory: bool = True,
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
        if keeps_memory:
            _bound_memory()
            options.add_session_config_entry("session.use_env_allocators", "1")
        options.enable_cpu_mem_arena = keeps_memory
        self.is_batch_invariant = is_batch_invariant
        source = graph if isinstance(graph, bytes) else str(graph)
        self._name = "the graph" if isinstance(graph, bytes) else str(graph)
        self._image_s = image_s
        self._deadlines = Deadlines()
        self._session = onnxruntime.InferenceSession(source, options, providers=["CPUExecutionProvider"])
        self._require_shapes()

    def encode(self, images: NDArray[np.uint8]) -> NDArray[np.float32]:
        require_pixels(images, self.spec)
        if not len(images):
            return np.empty((0, self.spec.row_length), np.float32)
        if not self.is_batch_invariant:
            return np.concatenate([self._run(images[i : i + 1]) for i in range(len(images))])
        return self._run(images)

    def _run(self, images: NDArray[np.uint8]) -> NDArray[np.float32]:
        outputs = self._outputs(images)
        for output, shape in zip(outputs, self._shapes, strict=True):
            if output.shape != (len(images), *shape) or output.dtype != np.float32:
                expected = ", ".join(map(str, (len(images), *shape)))
                raise DamagedGraphError(self._name, f"gave {output.dtype} {output.shape}, expected float32 ({expected})")
        if len(outputs) == 1:
            return outputs[0]
        return np.concatenate([output.reshape(len(images), -1) for output in outputs], axis=1)

    def _outputs(self, images: NDArray[np.uint8]) -> list[NDArray[np.float32]]:
        import onnxruntime

        given = {"images": np.ascontiguousarray(images)}
        if self._image_s is None:
            return self._explained(lambda: self._session.run(None, given))
        options = onnxruntime.RunOptions()
        with self._deadlines.within(self._image_s * len(images), lambda: setattr(options, "terminate", True)) as deadline:
            try:
                return self._explained(lambda: self._session.run(None, given, options))
            except DamagedGraphError:
                if not deadline.is_over:
                    raise
        raise HeadstartError(
            f"{self._name} took more than {self._image_s:g} s for an image. Delete it, and the same command exports it anew; "
            "HEADSTART_PICTURE_S gives it more"
        )

    def _explained(self, run: Callable[[], list[NDArray[np.float32]]]) -> list[NDArray[np.float32]]:
        try:
            return run()
        except Exception as error:
            if is_out_of_memory(error) or not type(error).__module__.startswith("onnxruntime."):
                raise
            raise DamagedGraphError(self._name, f"cannot be run ({reason_of(error)})") from None

    @property
    def _shapes(self) -> list[tuple[int, ...]]:
        """Of one row of each output."""
        return [(self.spec.embed_dim,), *([self.spec.spatial.shape] if self.spec.spatial else [])]

    def _require_shapes(self) -> None:
        inputs = [(each.name, each.type, tuple(each.shape)) for each in self._session.get_inputs()]
        expected = ("images", "tensor(uint8)", (*self.spec.transform.image_size, 3))
        if len(inputs) != 1 or inputs[0][:2] != expected[:2] or not _may_be(inputs[0][2], expected[2]):
            raise DamagedGraphError(self._name, f"takes {inputs[:3]}, expected {expected}")
        outputs = self._session.get_outputs()
        fits = [_may_be(tuple(each.shape), shape) for each, shape in zip(outputs, self._shapes, strict=False)]
        if len(outputs) != len(self._shapes) or not all(fits):
            given = [tuple(each.shape) for each in outputs[:3]]
            raise DamagedGraphError(self._name, f"gives {given}, expected (n, ...) of {self._shapes}")

    def close(self) -> None:
        self._deadlines.close()
        del self._session


def _may_be(declared: tuple[int | str | None, ...], row: tuple[int, ...]) -> bool:
    """Whether a declared shape may be (n, *row): a size that has a name, or none, may be any."""
    return len(declared) == 1 + len(row) and all(
        not isinstance(size, int) or size == wanted for size, wanted in zip(declared[1:], row, strict=True)
    )
