"""A graph of a stranger is looked at before it is opened, and ended when it takes too long."""

import hashlib
import json
import shutil

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from headstart.features.encoders import runtime
from headstart.features.encoders.graph_check import graph_flaw
from headstart.features.encoders.onnx_encoder import GRAPH_FACTS_NAME, GRAPH_NAME, DamagedGraphError, OnnxEncoder
from headstart.features.encoders.onnx_export import export_graph
from headstart.features.encoders.resolve import EncoderRequest, resolve_encoder
from headstart.features.encoders.runtime import open_encoder
from headstart.features.encoders.saved import save_encoder
from headstart.features.encoders.spec import EncoderSpec
from headstart.features.extraction.batching import Batching
from headstart.features.images.transform import Transform
from headstart.pipeline.errors import HeadstartError
from headstart.pipeline.workspace import open_or_create_workspace

WIDTH = 4
SPEC = EncoderSpec("m", {}, "", "", Transform((8, 8), "bicubic", 1.0, "center", (0.5,) * 3, (0.5,) * 3), "avg", WIDTH)
IMAGES = np.zeros((2, 8, 8, 3), np.uint8)
MEANS = [
    helper.make_node("Cast", ["images"], ["f"], to=TensorProto.FLOAT),
    helper.make_node("ReduceMean", ["f"], ["m"], axes=[1, 2, 3], keepdims=0),
    helper.make_node("Unsqueeze", ["m", "one"], ["column"]),
]


def value(name, kind=TensorProto.FLOAT, shape=None):
    return helper.make_tensor_value_info(name, kind, shape)


def constant(name, values):
    return numpy_helper.from_array(np.array(values), name)


def model(*nodes, inputs=None, outputs=None, constants=(), **more):
    """A graph from images to features; without nodes, one that is sound."""
    nodes = nodes or [helper.make_node("Expand", ["column", "shape"], ["features"])]
    graph = helper.make_graph(
        [*MEANS, *nodes],
        "g",
        inputs or [value("images", TensorProto.UINT8, ["n", "h", "w", 3])],
        outputs or [value("features", TensorProto.FLOAT, ["n", "d"])],
        [constant("one", np.int64([1])), constant("shape", np.int64([1, WIDTH])), *constants],
    )
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17), *more.pop("domains", ())], **more)
    made.ir_version = 8
    return made


def loop(times):
    body = helper.make_graph(
        [helper.make_node("Identity", ["go"], ["on"]), helper.make_node("Identity", ["x"], ["y"])],
        "body",
        [value("i", TensorProto.INT64, []), value("go", TensorProto.BOOL, []), value("x")],
        [value("on", TensorProto.BOOL, []), value("y")],
    )
    nodes = [
        helper.make_node("Loop", ["times", "go", "column"], ["last"], body=body),
        helper.make_node("Expand", ["last", "shape"], ["features"]),
    ]
    return nodes, [constant("times", np.int64(times)), constant("go", True)]


def endless():
    nodes, constants = loop(2**62)
    return model(*nodes, constants=constants)


def hidden_loop():
    nodes, constants = loop(2**62)
    inner = helper.make_graph(nodes, "inner", [], [value("features")])
    return model(helper.make_node("If", ["go"], ["features"], then_branch=inner, else_branch=inner), constants=constants)


def external(tensor):
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value="../../../etc/passwd")
    return tensor


def with_external_weights():
    made = model()
    external(made.graph.initializer[1])
    return made


def with_external_constant():
    tensor = external(constant("c", np.zeros((1, WIDTH), np.float32)))
    node = helper.make_node("Constant", [], ["c"], value=tensor)
    return model(node, helper.make_node("Add", ["column", "c"], ["features"]))


def with_function():
    body = [helper.make_node("Expand", ["x", "s"], ["y"])]
    function = helper.make_function("mine", "f", ["x", "s"], ["y"], body, [helper.make_opsetid("", 17)])
    node = helper.make_node("f", ["column", "shape"], ["features"])
    return model(node, functions=[function])


def with_sparse():
    made = model()
    made.graph.sparse_initializer.add(dims=[4])
    return made


FLAWS = {
    "a loop": (endless, "has a Loop"),
    "a loop in a branch": (hidden_loop, "has a Loop"),
    "a scan": (lambda: model(helper.make_node("Scan", ["column"], ["features"])), "has a Scan"),
    "weights in another file": (with_external_weights, "has weights in another file"),
    "a constant in another file": (with_external_constant, "has weights in another file"),
    "an operator of a library": (
        lambda: model(helper.make_node("Run", ["column"], ["features"], domain="com.somebody")),
        "has an operator of b'com.somebody'",
    ),
    "operators of its own": (with_function, "defines operators of its own"),
    "sparse weights": (with_sparse, "has sparse weights"),
}
NO_GRAPHS = {
    "empty": b"",
    "text": b"not a graph at all",
    "a length beyond the end": b"\x3a\xff\xff\xff\xff\x0f",
    "an endless number": b"\xff" * 100,
    "half a number": b"\x3a\x80",
    "a group": b"\x3b",
}


@pytest.mark.parametrize(("make", "says"), FLAWS.values(), ids=FLAWS.keys())
def test_what_no_exported_graph_has_is_seen_in_the_file(tmp_path, make, says):
    (tmp_path / "g.onnx").write_bytes(make().SerializeToString())
    assert graph_flaw(tmp_path / "g.onnx") == says


@pytest.mark.parametrize("data", NO_GRAPHS.values(), ids=NO_GRAPHS.keys())
def test_what_is_no_protobuf_is_no_graph(tmp_path, data):
    (tmp_path / "g.onnx").write_bytes(data)
    assert graph_flaw(tmp_path / "g.onnx") == "is no graph"


@pytest.fixture(scope="module")
def exported(tmp_path_factory):
    place = open_or_create_workspace(tmp_path_factory.mktemp("graph") / "workspace")
    folder = save_encoder(place, *resolve_encoder(EncoderRequest("test_efficientnet", "random:0", 96)))
    export_graph(folder)
    return folder


def put(folder, made):
    data = made.SerializeToString()
    (folder / GRAPH_NAME).write_bytes(data)
    facts = json.loads((folder / GRAPH_FACTS_NAME).read_text())
    (folder / GRAPH_FACTS_NAME).write_text(json.dumps({**facts, "sha256": hashlib.sha256(data).hexdigest()}))


def test_an_exported_graph_has_no_flaw_and_one_that_was_put_in_its_place_is_refused_until_deleted(exported, tmp_path):
    place = open_or_create_workspace(tmp_path / "workspace")
    folder = shutil.copytree(exported, place.features / exported.name)
    assert graph_flaw(folder / GRAPH_NAME) == ""
    put(folder, endless())
    with pytest.raises(DamagedGraphError, match=r"encoder\.onnx has a Loop\. Delete it"):
        open_encoder(folder, "cpu")
    (folder / GRAPH_NAME).unlink()
    open_encoder(folder, "cpu").close()
    assert graph_flaw(folder / GRAPH_NAME) == ""


@pytest.mark.parametrize("name", [GRAPH_NAME, GRAPH_FACTS_NAME])
def test_a_folder_in_a_files_place_is_told_before_anything_is_exported(exported, tmp_path, name, monkeypatch):
    place = open_or_create_workspace(tmp_path / "workspace")
    folder = shutil.copytree(exported, place.features / exported.name)
    (folder / name).unlink()
    (folder / name).mkdir()
    monkeypatch.setattr(runtime, "_export_elsewhere", None)
    with pytest.raises(DamagedGraphError, match="is a folder, expected a file"):
        open_encoder(folder, "cpu")


OTHERS = {
    "another input": {"inputs": [value("images", TensorProto.UINT8, ["n", 9, 9, 3])]},
    "two inputs": {"inputs": [value("images", TensorProto.UINT8, ["n", 8, 8, 3]), value("more", TensorProto.FLOAT, [1])]},
    "another rank": {"outputs": [value("features", TensorProto.FLOAT, ["n", WIDTH, 1])]},
    "two outputs": {"outputs": [value("features"), value("column")]},
}


@pytest.mark.parametrize("declared", OTHERS.values(), ids=OTHERS.keys())
def test_other_inputs_and_outputs_than_the_encoders_are_refused_when_it_is_opened(declared):
    with pytest.raises(Exception, match=r"the graph (takes|gives) .*expected|inferred shape") as caught:
        OnnxEncoder(SPEC, model(**declared).SerializeToString(), {})
    assert isinstance(caught.value, DamagedGraphError) or type(caught.value).__module__.startswith("onnxruntime")


GIVEN = {
    "another width": helper.make_node("Expand", ["column", "wide"], ["features"]),
    "fewer rows": helper.make_node("Slice", ["block", "zero", "one"], ["features"]),
    "another type": helper.make_node("Cast", ["block"], ["features"], to=TensorProto.DOUBLE),
}


@pytest.mark.parametrize("node", GIVEN.values(), ids=GIVEN.keys())
def test_rows_of_another_shape_or_type_are_no_features(node):
    block = helper.make_node("Expand", ["column", "shape"], ["block"])
    constants = [constant("wide", np.int64([1, 7])), constant("zero", np.int64([0]))]
    kind = TensorProto.DOUBLE if node.op_type == "Cast" else TensorProto.FLOAT
    graph = model(block, node, constants=constants, outputs=[value("features", kind, ["n", "d"])])
    with pytest.raises(DamagedGraphError, match=r"the graph (gave|gives) .* expected"):
        OnnxEncoder(SPEC, graph.SerializeToString(), {}).encode(IMAGES)


def test_a_graph_that_cannot_be_run_says_so_in_one_line():
    node = helper.make_node("Gather", ["column", "beyond"], ["features"], axis=1)
    graph = model(node, constants=[constant("beyond", np.int64([9] * WIDTH))])
    with pytest.raises(DamagedGraphError, match="the graph cannot be run") as caught:
        OnnxEncoder(SPEC, graph.SerializeToString(), {}).encode(IMAGES)
    assert "\n" not in str(caught.value)


def test_a_graph_that_takes_too_long_is_ended():
    encoder = OnnxEncoder(SPEC, endless().SerializeToString(), {}, image_s=0.3)
    with pytest.raises(HeadstartError, match=r"took more than 0\.3 s for an image"):
        encoder.encode(IMAGES)
    encoder.close()


def test_a_graph_in_time_gives_the_features_that_it_gives_without_a_limit():
    graph = model().SerializeToString()
    limited, free = OnnxEncoder(SPEC, graph, {}, image_s=60.0), OnnxEncoder(SPEC, graph, {})
    images = np.random.default_rng(0).integers(0, 256, IMAGES.shape, dtype=np.uint8)
    np.testing.assert_array_equal(limited.encode(images), free.encode(images))
    assert limited.encode(images).shape == (2, WIDTH)


def test_a_graph_that_wants_more_memory_than_there_is_takes_none():
    nodes = [
        helper.make_node("Expand", ["column", "huge"], ["big"]),
        helper.make_node("ReduceMean", ["big"], ["mean"], axes=[1], keepdims=1),
        helper.make_node("Expand", ["mean", "shape"], ["features"]),
    ]
    graph = model(*nodes, constants=[constant("huge", np.int64([1, 2**40]))])
    batching = Batching(OnnxEncoder(SPEC, graph.SerializeToString(), {}), 2, 1)
    with pytest.raises(HeadstartError, match="does not fit into the memory"):
        batching.encode(IMAGES, iter(range(2)), lambda: None)
    batching.close()


def test_the_numbers_of_fields_are_those_of_onnx():
    from headstart.features.encoders import graph_check

    fields = {
        onnx.ModelProto: {"graph": "_GRAPH", "functions": "_FUNCTIONS"},
        onnx.GraphProto: {"node": "_NODE", "initializer": "_INITIALIZER", "sparse_initializer": "_SPARSE"},
        onnx.NodeProto: {"attribute": "_ATTRIBUTE", "op_type": "_OP_TYPE", "domain": "_DOMAIN"},
        onnx.AttributeProto: {"t": "_TENSOR_OF", "g": "_GRAPH_OF", "tensors": "_TENSORS_OF", "graphs": "_GRAPHS_OF"},
        onnx.TensorProto: {"external_data": "_EXTERNAL", "data_location": "_LOCATION"},
    }
    for message, names in fields.items():
        for name, constant_name in names.items():
            assert getattr(graph_check, constant_name) == message.DESCRIPTOR.fields_by_name[name].number
