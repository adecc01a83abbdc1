"""A head as an ONNX graph, alone or behind its encoder's: raw features or pixels in, probabilities or numbers out."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from headstart.experiments.heads.trained_head import TrainedHead

if TYPE_CHECKING:
    import onnx

OPSET = 17  # that of encoders' graphs: two graphs are only merged if they agree
_IR_VERSION = 8  # the one that came with that opset, so that a runtime of 2022 reads it
_FEATURES = "features"


def output_name(head: TrainedHead, logits: bool) -> str:
    if logits:
        return "logits"
    return "probabilities" if head.task == "classification" else "values"


def head_graph(head: TrainedHead, facts: Mapping[str, Any], logits: bool = False, features: str = _FEATURES) -> onnx.ModelProto:
    """`features` (n, d) float32 in; `probabilities`, `values` or `logits` (n, k) float32 out. Equal heads give equal bytes.

    Args:
        facts: kept in the graph's metadata, as JSON under 'headstart'.
        features: name of the input; with another one they are rounded to float16 first, as a shard would hold them.
    """
    from onnx import TensorProto, helper, numpy_helper

    nodes, weights = [], []
    value = features
    if features != _FEATURES:
        nodes.append(helper.make_node("Cast", [value], ["head.half"], to=TensorProto.FLOAT16))
        nodes.append(helper.make_node("Cast", ["head.half"], ["head.features"], to=TensorProto.FLOAT))
        value = "head.features"
    for number, pair in enumerate(head.layers):
        if number:
            nodes += _activation(value, f"head.{number}.activated", head.config.activation)
            value = f"head.{number}.activated"
        names = [f"head.{number}.weight", f"head.{number}.bias"]
        weights += [numpy_helper.from_array(np.ascontiguousarray(array), name) for array, name in zip(pair, names, strict=True)]
        nodes.append(helper.make_node("Gemm", [value, *names], [f"head.{number}"], transB=1))
        value = f"head.{number}"
    result = output_name(head, logits)
    nodes += _output(value, result, head, logits)
    kind = TensorProto.FLOAT if head.outputs is None else TensorProto.DOUBLE
    graph = helper.make_graph(
        nodes,
        "headstart",
        [helper.make_tensor_value_info(features, TensorProto.FLOAT, ["n", head.inputs])],
        [helper.make_tensor_value_info(result, kind, ["n", len(head.names)])],
        initializer=[*weights, *_constants(nodes), *_units(head)],
    )
    return _described(helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)]), facts)


def graph_with_encoder(encoder_graph: Path, head: TrainedHead, facts: Mapping[str, Any], logits: bool = False) -> onnx.ModelProto:
    """`images` (n, h, w, 3) uint8 in, the head's output out; between the two, features are rounded to float16 as on disk."""
    import onnx

    encoder = onnx.load(encoder_graph)
    behind = head_graph(head, facts, logits, features="head.input")
    encoder.ir_version = behind.ir_version
    del encoder.metadata_props[:], behind.metadata_props[:]
    merged = onnx.compose.merge_models(
        encoder, behind, io_map=[(_FEATURES, "head.input")], outputs=[output_name(head, logits)], name="headstart"
    )
    return _described(merged, facts)


def encoded(model: onnx.ModelProto) -> bytes:
    """The bytes of its file, checked. Raises: onnx.checker.ValidationError if it is no sound graph, which would be a bug."""
    import onnx

    onnx.checker.check_model(model, full_check=True)
    data: bytes = model.SerializeToString(deterministic=True)
    return data


def _activation(value: str, result: str, activation: str) -> list[Any]:
    from onnx import helper

    if activation == "relu":
        return [helper.make_node("Relu", [value], [result])]
    steps = [  # x / 2 * (1 + erf(x / sqrt 2)): GELU itself came with opset 20
        ("Mul", [value, "head.root"], f"{result}.scaled"),
        ("Erf", [f"{result}.scaled"], f"{result}.erf"),
        ("Add", [f"{result}.erf", "head.one"], f"{result}.sum"),
        ("Mul", [value, f"{result}.sum"], f"{result}.product"),
        ("Mul", [f"{result}.product", "head.half_of"], result),
    ]
    return [helper.make_node(operator, inputs, [output]) for operator, inputs, output in steps]


def _output(value: str, result: str, head: TrainedHead, logits: bool) -> list[Any]:
    from onnx import TensorProto, helper

    output = head.config.output_for(head.task)
    if head.outputs is not None:  # float32 has too few digits for these
        return [
            helper.make_node("Cast", [value], ["head.double"], to=TensorProto.DOUBLE),
            helper.make_node("Mul", ["head.double", "head.scale"], ["head.scaled"]),
            helper.make_node("Add", ["head.scaled", "head.mean"], [result]),
        ]
    if logits or output == "linear":
        return [helper.make_node("Identity", [value], [result])]
    if output == "softmax":
        return [helper.make_node("Softmax", [value], [result], axis=1)]
    if head.task == "regression":
        return [helper.make_node("Sigmoid", [value], [result])]
    return [  # independent probabilities, made to add up to 1 as everywhere else
        helper.make_node("Sigmoid", [value], ["head.sigmoid"]),
        helper.make_node("Add", ["head.sigmoid", "head.tiny"], ["head.positive"]),
        helper.make_node("ReduceSum", ["head.positive", "head.axis"], ["head.total"], keepdims=1),
        helper.make_node("Div", ["head.positive", "head.total"], [result]),
    ]


def _units(head: TrainedHead) -> list[Any]:
    from onnx import numpy_helper

    if head.outputs is None:
        return []
    return [numpy_helper.from_array(head.outputs.scale, "head.scale"), numpy_helper.from_array(head.outputs.mean, "head.mean")]


def _constants(nodes: list[Any]) -> list[Any]:
    from onnx import numpy_helper

    used = {name for node in nodes for name in node.input}
    numbers = {"head.root": np.sqrt(0.5), "head.one": 1.0, "head.half_of": 0.5, "head.tiny": np.finfo(np.float32).tiny}
    arrays = {name: np.array(number, np.float32) for name, number in numbers.items()} | {"head.axis": np.array([1], np.int64)}
    return [numpy_helper.from_array(array, name) for name, array in arrays.items() if name in used]


def _described(model: onnx.ModelProto, facts: Mapping[str, Any]) -> onnx.ModelProto:
    from onnx import helper

    model.ir_version = _IR_VERSION
    model.producer_name, model.producer_version = "headstart", ""
    helper.set_model_props(model, {"headstart": json.dumps(facts, sort_keys=True)})
    return model
