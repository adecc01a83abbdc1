"""An encoder that also gives the map whose mean its vector is: what each place of an image adds to a prediction.

The graph that computes features has that map inside; it becomes a second output. Neither torch nor timm is needed.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from headstart.features.networks.feature_map import FeatureMap
from headstart.pipeline.doors import reading
from headstart.pipeline.errors import HeadstartError

from .onnx_encoder import OnnxEncoder
from .precision import LARGEST_GRAPH
from .runtime import open_for_onnx_runtime
from .spec import EncoderSpec

_OUTPUT = "map_before_pooling"
_SHAPING = frozenset({"Flatten", "Reshape", "Squeeze", "Identity", "Cast"})  # what leaves values as they are
_POOLING = frozenset({"GlobalAveragePool", "ReduceMean"})
_CLOSE = 1e-3  # of the mean of a map to the vector, relative to the largest number of the vector


def open_with_pooled_map(folder: Path, image_s: float | None = None) -> OnnxEncoder:
    """The encoder in `folder` on a CPU; `spec.spatial` is the map whose mean over all places is the vector, whatever it keeps.

    Its vectors are those of extraction but for the last bits: the graph is another one.
    Args: image_s: as of `runtime.open_encoder`.
    Raises: HeadstartError if its vectors are no means of a map, or it has no graph; that is tried out on an image.
    """
    path, plain = open_for_onnx_runtime(folder, image_s, "Such an encoder cannot be explained")
    spec, versions, is_batch_invariant = plain.spec, plain.versions, plain.is_batch_invariant
    plain.close()
    graph, shape = _with_map(reading.read(path, LARGEST_GRAPH), spec, folder.name)
    with_map = replace(spec, spatial=FeatureMap(None, shape), parts=None)
    return OnnxEncoder(with_map, graph, versions, is_batch_invariant, image_s)


def _with_map(data: bytes, spec: EncoderSpec, name: str) -> tuple[bytes, tuple[int, int, int]]:
    """The graph with vectors (n, d) and maps (n, d, h, w) as its only outputs, and (d, h, w)."""
    import onnx

    model = onnx.load_from_string(data)
    graph = model.graph
    averaged = _averaged(graph) if spec.parts is None else None
    if averaged is None:
        raise _refused(name, "more than the mean of a map goes into its vectors")
    vector = graph.output[0]
    del graph.output[:]
    graph.output.extend([vector, onnx.helper.make_tensor_value_info(averaged, onnx.TensorProto.FLOAT, None)])
    vectors, maps = _tried(model.SerializeToString(), spec)
    order = _order(vectors, maps)
    if order is None:
        raise _refused(name, "its vectors are no mean of a map over all places")
    graph.node.append(onnx.helper.make_node("Transpose", [averaged], [_OUTPUT], perm=order))
    shape = [int(maps.shape[axis]) for axis in order]
    del graph.output[1:]
    graph.output.append(onnx.helper.make_tensor_value_info(_OUTPUT, onnx.TensorProto.FLOAT, ["n", *shape[1:]]))
    return model.SerializeToString(), (shape[1], shape[2], shape[3])


def _averaged(graph: Any) -> str | None:
    """What the graph's first output is a mean of; None if it is made in another way."""
    made_by = {name: node for node in graph.node for name in node.output}
    name = graph.output[0].name
    for _ in range(len(graph.node)):
        node = made_by.get(name)
        if node is None or node.op_type not in _SHAPING | _POOLING:
            return None
        name = str(node.input[0])
        if node.op_type in _POOLING:
            return name
    return None


def _tried(graph: bytes, spec: EncoderSpec) -> Sequence[NDArray[np.float32]]:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(graph, options, providers=["CPUExecutionProvider"])
    image = np.random.Generator(np.random.Philox(0)).integers(0, 256, (1, *spec.transform.image_size, 3), np.uint8)
    outputs: list[NDArray[np.float32]] = session.run(None, {"images": image})
    return outputs


def _order(vectors: NDArray[np.float32], maps: NDArray[np.float32]) -> list[int] | None:
    """In which order the axes of `maps` are (n, d, h, w), so that its mean over the last two is `vectors`; None: in none."""
    if maps.ndim != 4:
        return None
    most = _CLOSE * max(float(np.abs(vectors).max()), 1e-6)
    for places, order in (((2, 3), [0, 1, 2, 3]), ((1, 2), [0, 3, 1, 2])):
        means = maps.mean(axis=places)
        if means.shape == vectors.shape and np.abs(means - vectors).max() <= most:
            return order
    return None


def _refused(name: str, why: str) -> HeadstartError:
    return HeadstartError(
        f"{name} cannot be explained: {why}. Class activation maps need an encoder that averages its last map, such as "
        "resnet18 or efficientnet_b0, enqueued without --stages and --image-stats"
    )
