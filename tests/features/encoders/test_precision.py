import dataclasses
import json
import sys

import numpy as np
import pytest

from headstart.features.encoders import precision, runtime
from headstart.features.encoders.precision import PRECISIONS, Agreement, PrecisionError, parse_precision, require_precision
from headstart.features.encoders.resolve import EncoderRequest, resolve_encoder
from headstart.features.encoders.saved import save_encoder
from headstart.features.encoders.similarity import right_without_itself
from headstart.features.encoders.spec import DamagedEncoderError, read_encoder
from headstart.pipeline.errors import HeadstartError
from headstart.pipeline.workspace import open_or_create_workspace

TINY = "test_efficientnet"
GOOD = Agreement(64, 0.99, 0.97, "a.jpg", True, labelled=100, exact_right=90, right=90)


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    place = open_or_create_workspace(tmp_path_factory.mktemp("tiny") / "workspace")
    spec, weights = resolve_encoder(EncoderRequest(TINY, "random:0", 64))
    return place, spec, weights


def test_float32_has_the_fingerprint_and_folder_that_it_had_without_precisions(tiny):
    _, spec, _ = tiny
    assert "precision" not in json.loads(spec.to_json())
    assert "calibrated_sha256" not in json.loads(spec.to_json())
    assert spec.folder_name == f"encoder_{TINY}-{spec.fingerprint[:8]}"


def test_each_precision_has_a_fingerprint_and_a_folder_of_its_own_that_names_it(tiny):
    _, spec, _ = tiny
    others = [
        dataclasses.replace(spec, precision="bfloat16"),
        dataclasses.replace(spec, precision="int8", calibrated_sha256="1" * 64),
        dataclasses.replace(spec, precision="int8", calibrated_sha256="2" * 64),
    ]
    assert len({each.fingerprint for each in [spec, *others]}) == 4
    assert others[0].folder_name.startswith(f"encoder_{TINY}_bfloat16-")
    assert all(each.in_float32 == spec for each in others)


def test_a_precision_is_read_back(tiny):
    place, spec, weights = tiny
    wanted = dataclasses.replace(spec, precision="int8", calibrated_sha256="1" * 64)
    assert read_encoder(save_encoder(place, wanted, weights)) == wanted


@pytest.mark.parametrize("value", ["float16", "", None, 8, ["int8"], "int8\n"], ids=repr)
def test_another_precision_in_an_encoders_folder_is_damage(tiny, tmp_path, value):
    _, spec, _ = tiny
    facts = {**json.loads(spec.to_json()), "format": 2, "precision": value}
    (tmp_path / "encoder.json").write_text(json.dumps(facts))
    with pytest.raises(DamagedEncoderError):
        read_encoder(tmp_path)
    with pytest.raises((ValueError, TypeError)):
        parse_precision(value)


@pytest.mark.parametrize(
    ("wanted", "features", "runs"),
    [
        ("float32", [], True),
        ("bfloat16", ["avx2", "avx512_vnni"], False),
        ("bfloat16", ["avx512_bf16"], True),
        ("int8", ["avx2", "avx512f", "avx512_bf16"], False),
        ("int8", ["avx_vnni"], True),
        ("int8", [], False),
    ],
)
def test_a_processor_without_the_instructions_says_so(monkeypatch, wanted, features, runs):
    monkeypatch.setattr(precision, "require_installed", lambda *names: None)
    if runs:
        require_precision(wanted, features)
    else:
        with pytest.raises(PrecisionError, match=f"no instructions for {wanted}.*--precision float32"):
            require_precision(wanted, features)


@pytest.mark.parametrize(
    ("request_", "said"),
    [
        (EncoderRequest(TINY, "random:0", precision="int4"), "is none of float32, bfloat16, int8"),
        (EncoderRequest(TINY, "random:0", else_float32=True), "Pass --precision"),
        (EncoderRequest(TINY, "random:0", precision="int8", device_decode=True), "Leave one of them out"),
    ],
    ids=["unknown", "fallback alone", "for a GPU"],
)
def test_what_does_not_go_together_is_refused(request_, said):
    with pytest.raises(HeadstartError, match=said):
        resolve_encoder(request_)


def test_without_the_extra_the_way_to_install_it_is_said(monkeypatch):
    monkeypatch.setitem(sys.modules, "openvino", None)
    monkeypatch.setattr(precision.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(
        HeadstartError, match=r"needs openvino, not installed here. Install them: pip install 'headstart\[fast\]'"
    ):
        resolve_encoder(EncoderRequest(TINY, "random:0", precision="bfloat16"))


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"is_batch_invariant": False}, "depend on which other images"),
        ({"median_cosine": 0.96}, "median cosine"),
        ({"median_cosine": float("nan")}, "median cosine"),
        ({"worst_cosine": 0.8, "worst_image": "b\n.jpg"}, r"b\\n.jpg has cosine 0.8"),
        ({"right": 80, "lost": 11, "won": 1}, "falls from 90.0 to 80.0 %"),
    ],
    ids=["neighbours", "median", "not a number", "one image", "score"],
)
def test_the_rule_refuses(change, said):
    assert GOOD.refusal == ""
    refused = dataclasses.replace(GOOD, **change).refusal
    assert "\n" not in refused
    with pytest.raises(HeadstartError, match=said):
        raise HeadstartError(refused)


def test_a_loss_within_noise_is_not_refused_and_a_poor_image_is_named():
    assert dataclasses.replace(GOOD, right=86, lost=8, won=4).refusal == ""
    assert dataclasses.replace(GOOD, worst_cosine=0.9).warning == "a.jpg has cosine 0.9000 to float32"


def test_a_gpu_is_no_place_for_another_precision(tiny):
    place, spec, weights = tiny
    folder = save_encoder(place, dataclasses.replace(spec, precision="bfloat16"), weights)
    with pytest.raises(HeadstartError, match=r"for CPUs\. Pass --device cpu"):
        runtime.open_encoder(folder, "cuda")
    assert runtime.device_of_encoder(folder, "auto") == "cpu"


def test_right_without_itself_is_what_fitting_without_each_row_gives():
    rng = np.random.default_rng(0)
    classes = np.repeat([0, 1, 2], 7)
    features = rng.standard_normal((21, 5)) + 1.2 * np.eye(3, 5)[classes]
    smoothed = right_without_itself(features, classes)
    centred = features - features.mean(0)
    penalty = 0.03 * (centred**2).sum() / 21
    for row in range(21):
        # Ridge with an intercept, centred on all rows: the others alone, with a free constant.
        others = np.arange(21) != row
        design = np.hstack([centred, np.ones((21, 1))])
        wanted = np.eye(3)[classes[others]]
        solved = np.linalg.solve(
            design[others].T @ design[others] + penalty * np.diag([1.0] * 5 + [0.0]), design[others].T @ wanted
        )
        assert smoothed[row] == ((design[row] @ solved).argmax() == classes[row])
    assert 0 < smoothed.sum() < 21


def test_every_precision_has_a_rule():
    assert set(precision._INSTRUCTIONS) == set(PRECISIONS)
