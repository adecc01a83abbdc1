"""Exports of heads: what a file says about itself, how far its answers are from torch's, and how long one row takes."""

from __future__ import annotations

import io
import time
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from headstart.experiments.heads.trained_head import TrainedHead
from headstart.experiments.runs.catalog import Chosen
from headstart.experiments.runs.head_experiment import HeadExperiment
from headstart.features.encoders.precision import FLOAT32
from headstart.features.encoders.spec import EncoderSpec, read_encoder
from headstart.features.store import shards
from headstart.features.store.load import finished_markers
from headstart.pipeline.errors import HeadstartError
from headstart.pipeline.workspace import Workspace

if TYPE_CHECKING:
    from headstart.features.encoders.runtime import Encoder

FORMATS = {"onnx": ".onnx", "torchscript": ".torchscript.pt", "pt2": ".pt2"}
LARGEST_DIFFERENCE = 1e-5
_WARM_UP = 20
_CALLS = 200
_ENCODER_CALLS = 30
_Floats = NDArray[np.float32]


@dataclass(frozen=True)
class Exported:
    """A file that was checked.

    Attributes:
        data: its bytes.
        inputs, outputs: for people: name, dtype and shape.
        difference: largest one from torch, relative to numbers beyond 1.
        rows: that it was taken over.
        median_ms, p95_ms: of one row at a time, one thread for a head, all cores for an encoder.
    """

    data: bytes
    inputs: str
    outputs: str
    difference: float
    rows: int
    median_ms: float
    p95_ms: float


def export_head(head: TrainedHead, form: str, facts: Mapping[str, Any], rows: _Floats, logits: bool = False) -> Exported:
    """The head alone: raw features (n, d) float32 in, probabilities, numbers or logits (n, k) float32 out.

    Args:
        form: a key of FORMATS.
        facts: kept in the file.
        rows: (m, d) to compare with torch on.

    Raises: HeadstartError if the file's answers differ from torch's by more than LARGEST_DIFFERENCE.
    """
    from . import onnx_head as head_graph
    from . import torch_head as torch_formats

    head = head.for_the_table()
    if form == "onnx":
        data = head_graph.encoded(head_graph.head_graph(head, facts, logits))
        answer = _onnx_answer(data, "features", threads=1)
    else:
        make = torch_formats.torchscript if form == "torchscript" else torch_formats.exported_program
        data = make(head, facts, logits)
        answer = _torch_answer(data, form)
    expected = _torch_head(head, logits)(rows)
    return _checked(data, answer, rows, expected, f"features float32 (n, {rows.shape[1]})", head, logits, _CALLS)


def export_with_encoder(
    folder: Path, head: TrainedHead, facts: Mapping[str, Any], images: NDArray[np.uint8], logits: bool = False
) -> Exported:
    """The encoder in `folder` and the head as one ONNX graph: images (n, h, w, 3) uint8 in, the head's output out.

    Args:
        images: (m, h, w, 3) to compare on: with the encoder's graph, float16 and the head in torch, one after the other. Of an
            encoder in another precision than float32 it is that graph in ONNX Runtime, which rounds otherwise than OpenVINO.

    Raises: HeadstartError if the encoder has no graph, or the answers differ.
    """
    from headstart.features.encoders.onnx_encoder import GRAPH_NAME, find_graph
    from headstart.features.encoders.runtime import open_encoder, open_for_onnx_runtime
    from headstart.features.images.watch import picture_seconds

    head = head.for_the_table()
    if read_encoder(folder).precision != FLOAT32:
        path, in_onnx_runtime = open_for_onnx_runtime(folder, picture_seconds())
        return _with_encoder(path, in_onnx_runtime, head, facts, images, logits)
    encoder = open_encoder(folder, "cpu", picture_seconds())  # exports the graph if it is not there
    graph = find_graph(folder, encoder.spec.fingerprint)
    if graph is None or graph.refused:
        reason = graph.refused if graph else "its graph vanished"
        raise HeadstartError(f"{folder.name} has no ONNX graph ({reason}). Export the head alone: leave out --with-encoder")
    return _with_encoder(folder / GRAPH_NAME, encoder, head, facts, images, logits)


def _with_encoder(
    path: Path, encoder: Encoder, head: TrainedHead, facts: Mapping[str, Any], images: NDArray[np.uint8], logits: bool
) -> Exported:
    from . import onnx_head as head_graph

    with np.errstate(over="ignore"):
        features = encoder.encode(images)[:, : encoder.spec.embed_dim].astype(np.float16).astype(np.float32)
    expected = _torch_head(head, logits)(features)
    data = head_graph.encoded(head_graph.graph_with_encoder(path, head, facts, logits))
    shape = "n, " + ", ".join(map(str, images.shape[1:]))
    return _checked(data, _onnx_answer(data, "images"), images, expected, f"images uint8 ({shape})", head, logits, _ENCODER_CALLS)


def _torch_head(head: TrainedHead, logits: bool) -> Callable[[_Floats], _Floats]:
    import torch

    from .torch_head import module_of

    module = module_of(head, logits)

    def answer(rows: _Floats) -> _Floats:
        with torch.no_grad():
            scores: _Floats = module(torch.from_numpy(rows)).numpy()
        return scores

    return answer


def _onnx_answer(data: bytes, name: str, threads: int = 0) -> Callable[[NDArray[Any]], _Floats]:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads  # 0: all cores
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(data, options, providers=["CPUExecutionProvider"])

    def answer(rows: NDArray[Any]) -> _Floats:
        scores: _Floats = session.run(None, {name: rows})[0]
        return scores

    return answer


def _torch_answer(data: bytes, form: str) -> Callable[[_Floats], _Floats]:
    import torch

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # see torch_head.torchscript
        source = io.BytesIO(data)
        is_script = form == "torchscript"
        module = torch.jit.load(source) if is_script else torch.export.load(source).module()  # type: ignore[no-untyped-call]

    def answer(rows: _Floats) -> _Floats:
        with torch.no_grad():
            scores: _Floats = module(torch.from_numpy(rows)).numpy()
        return scores

    return answer


def _checked(
    data: bytes,
    answer: Callable[[Any], _Floats],
    rows: NDArray[Any],
    expected: _Floats,
    inputs: str,
    head: TrainedHead,
    logits: bool,
    calls: int,
) -> Exported:
    from .onnx_head import output_name

    scores = answer(rows)
    difference = float((np.abs(scores - expected) / np.maximum(1, np.abs(expected))).max())
    if not difference <= LARGEST_DIFFERENCE:
        raise HeadstartError(
            f"the exported file's answers differ from torch's by {difference:.1e}, at most {LARGEST_DIFFERENCE:.0e} is expected. "
            "Nothing was written; try another --format, and please report it"
        )
    seconds = _timed(lambda i: answer(rows[i % len(rows)][None]), calls)
    kind = "float32" if head.outputs is None else "float64"
    outputs = f"{output_name(head, logits)} {kind} (n, {len(head.names)})"
    median, p95 = np.percentile(seconds, [50, 95]) * 1000
    return Exported(data, inputs, outputs, difference, len(rows), float(median), float(p95))


def _timed(call: Callable[[int], object], calls: int) -> NDArray[np.float64]:
    for i in range(_WARM_UP):
        call(i)
    seconds = np.empty(calls)
    for i in range(calls):
        begun = time.perf_counter()
        call(i)
        seconds[i] = time.perf_counter() - begun
    return seconds


FORMAT = 1
_ROWS = 64
_IMAGES = 4


def export_facts(chosen: Chosen, head: TrainedHead, spec: EncoderSpec, logits: bool) -> dict[str, Any]:
    """For the file's metadata: nothing of this machine, and no time."""
    return {
        "format": FORMAT,
        "experiment": chosen.run.experiment,
        "head": chosen.run.head,
        "head_sha256": head.digest,
        "task": head.task,
        "names": list(head.names),
        "output": "logits" if logits else head.config.output_for(head.task),
        "auxiliary": list(chosen.experiment.auxiliary),
        "encoder": {
            "model": spec.model,
            "fingerprint": spec.fingerprint,
            "weights_sha256": spec.weights_sha256,
            "transform": spec.transform.facts(),
            "pooling": spec.pooling,
            "embed_dim": spec.embed_dim,
            **({"precision": spec.precision} if spec.precision != FLOAT32 else {}),
        },
    }


def check_rows(workspace: Workspace, experiment: HeadExperiment, inputs: int) -> NDArray[np.float32]:
    """(m, inputs): features of real images where there are some, noise for auxiliary columns and where there are none."""
    rows = np.random.default_rng(0).standard_normal((_ROWS, inputs)).astype(np.float32)
    for marker in finished_markers(workspace, experiment.encoder):
        if marker.ok:
            features = shards.read_finished(marker, read_encoder(experiment.encoder).embed_dim)["global_pool"][:_ROWS]
            rows = rows[: len(features)]
            rows[:, : features.shape[1]] = features
            break
    return rows


def check_images(spec: EncoderSpec) -> NDArray[np.uint8]:
    """(m, h, w, 3): a gradient under more and more noise."""
    height, width = spec.transform.image_size
    noise = np.random.default_rng(0).integers(0, 256, (_IMAGES, height, width, 3))
    ramp = np.linspace(0, 255, width).astype(np.int64)[None, None, :, None]
    share = np.linspace(0, 1, _IMAGES)[:, None, None, None]
    return np.asarray(noise * share + ramp * (1 - share)).astype(np.uint8)
