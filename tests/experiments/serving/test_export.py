import io
import json
import sys
import warnings

import numpy as np
import onnx
import onnxruntime
import pytest
import torch

from headstart.experiments.evaluation.metrics import probabilities_of
from headstart.experiments.serving import export, torch_head
from headstart.experiments.serving.export import FORMATS, export_head
from headstart.experiments.serving.onnx_head import encoded, graph_with_encoder, head_graph
from headstart.experiments.serving.predict import answering
from headstart.pipeline.errors import HeadstartError
from tests.experiments.made_heads import KINDS, made_head, rows
from tests.support import ROOT, spawn_python

FACTS = {"names": ["a", "b", "c"], "task": "classification"}


@pytest.fixture(autouse=True)
def few_calls(monkeypatch):
    monkeypatch.setattr(export, "_CALLS", 5)
    monkeypatch.setattr(export, "_WARM_UP", 1)


def asked(data: bytes, form: str, inputs: np.ndarray) -> np.ndarray:
    if form == "onnx":
        return onnxruntime.InferenceSession(data).run(None, {"features": inputs})[0]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        source = io.BytesIO(data)
        module = torch.jit.load(source) if form == "torchscript" else torch.export.load(source).module()
    return module(torch.from_numpy(inputs)).numpy()


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("form", FORMATS)
def test_an_export_answers_as_the_head_does_for_any_number_of_rows(form, kind):
    head = made_head(kind)
    exported = export_head(head, form, FACTS, rows())
    assert exported.difference <= 1e-6
    for count in (1, 7, 50):
        np.testing.assert_allclose(asked(exported.data, form, rows(count)), answering(head)(rows(count)), atol=1e-6)


@pytest.mark.parametrize("form", FORMATS)
def test_logits_are_what_probabilities_are_made_of(form):
    head = made_head("deep softmax")
    exported = export_head(head, form, FACTS, rows(), logits=True)
    logits = asked(exported.data, form, rows())
    assert logits.min() < 0
    np.testing.assert_allclose(probabilities_of(logits, "softmax"), answering(head)(rows()), atol=1e-6)
    assert "logits" in exported.outputs


def test_names_stand_in_the_metadata_of_every_format():
    head = made_head("deep softmax")
    graph = onnx.load_from_string(export_head(head, "onnx", FACTS, rows()).data)
    assert json.loads({entry.key: entry.value for entry in graph.metadata_props}["headstart"]) == FACTS
    extra = {torch_head.FACTS_NAME: ""}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.jit.load(io.BytesIO(export_head(head, "torchscript", FACTS, rows()).data), _extra_files=extra)
    assert json.loads(extra[torch_head.FACTS_NAME]) == FACTS
    extra = {torch_head.FACTS_NAME: ""}
    torch.export.load(io.BytesIO(export_head(head, "pt2", FACTS, rows()).data), extra_files=extra)
    assert json.loads(extra[torch_head.FACTS_NAME]) == FACTS


def test_two_processes_export_the_same_bytes_that_name_no_path_of_this_machine(tmp_path):
    code = """
import sys
from pathlib import Path
from tests.experiments.made_heads import made_head
from headstart.experiments.serving import onnx_head, torch_head
head, facts = made_head("sigmoid classes"), {"b": [1], "a": "x"}
out = Path(sys.argv[1]); out.mkdir()
(out / "onnx").write_bytes(onnx_head.encoded(onnx_head.head_graph(head, facts)))
(out / "torchscript").write_bytes(torch_head.torchscript(head, facts))
(out / "pt2").write_bytes(torch_head.exported_program(head, facts))
"""
    for process in [spawn_python(code, str(tmp_path / place)) for place in ("one", "two")]:
        _, errors = process.communicate(timeout=120)
        assert process.returncode == 0, errors
    for form in FORMATS:
        data = (tmp_path / "one" / form).read_bytes()
        assert data == (tmp_path / "two" / form).read_bytes()
        assert str(ROOT).encode() not in data
        assert sys.prefix.encode() not in data


def test_a_graph_asks_for_no_newer_runtime_than_it_needs():
    graph = head_graph(made_head("sigmoid classes"), FACTS)
    assert (graph.ir_version, graph.opset_import[0].version) == (8, 17)


def test_an_export_that_differs_from_torch_is_refused(monkeypatch):
    monkeypatch.setattr(export, "_torch_head", lambda head, logits: lambda found: answering(head)(found) + 2e-5)
    with pytest.raises(HeadstartError, match=r"differ from torch's by 2\.0e-05, at most 1e-05"):
        export_head(made_head("deep softmax"), "onnx", FACTS, rows())


def tiny_encoder(path, scale: float) -> None:
    """uint8 (n, 2, 2, 2) to its eight values times `scale`, and a map besides."""
    nodes = [
        onnx.helper.make_node("Cast", ["images"], ["float"], to=onnx.TensorProto.FLOAT),
        onnx.helper.make_node("Flatten", ["float"], ["flat"]),
        onnx.helper.make_node("Mul", ["flat", "scale"], ["features"]),
        onnx.helper.make_node("Identity", ["float"], ["spatial"]),
    ]
    kinds = onnx.TensorProto
    graph = onnx.helper.make_graph(
        nodes,
        "encoder",
        [onnx.helper.make_tensor_value_info("images", kinds.UINT8, ["n", 2, 2, 2])],
        [
            onnx.helper.make_tensor_value_info("features", kinds.FLOAT, ["n", 8]),
            onnx.helper.make_tensor_value_info("spatial", kinds.FLOAT, ["n", 2, 2, 2]),
        ],
        [onnx.numpy_helper.from_array(np.array(scale, np.float32), "scale")],
    )
    onnx.save(onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 17)]), path)


def test_behind_an_encoder_features_are_rounded_as_on_disk(tmp_path):
    scale = 0.0123456
    tiny_encoder(tmp_path / "encoder.onnx", scale)
    head = made_head("numbers")
    data = encoded(graph_with_encoder(tmp_path / "encoder.onnx", head, FACTS))
    session = onnxruntime.InferenceSession(data)
    assert [output.name for output in session.get_outputs()] == ["values"]
    images = np.random.default_rng(0).integers(0, 256, (9, 2, 2, 2), dtype=np.uint8)
    features = images.reshape(9, 8).astype(np.float32) * np.float32(scale)
    rounded = answering(head)(features.astype(np.float16))
    assert np.abs(rounded - answering(head)(features)).max() > 1e-4
    np.testing.assert_allclose(session.run(None, {"images": images})[0], rounded, atol=1e-5)
    assert data == encoded(graph_with_encoder(tmp_path / "encoder.onnx", head, FACTS))
