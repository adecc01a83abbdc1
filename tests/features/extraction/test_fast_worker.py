"""The whole way: enqueue, work, features, as a user's processes do it."""

import json

import numpy as np
import pytest

from headstart.features.encoders.torch_encoder import open_torch
from headstart.features.store.load import load_features
from tests.features.samples import picture
from tests.support import run_cli, run_python


@pytest.fixture(scope="module")
def enqueued(tmp_path_factory):
    root = tmp_path_factory.mktemp("fast")
    (root / "photos").mkdir()
    for number in range(11):
        picture(120 + number, 100, number).save(root / "photos" / f"{number:02d}.png")
    (root / "photos" / "99.png").write_bytes(b"\x89PNG\r\n\x1a\n broken")
    done = run_cli(
        *("enqueue", root / "photos", "--encoder", "test_efficientnet", "--weights", "random:0"),
        *("--image-size", "64", "--job-size", "6", "-w", root / "w"),
    )
    assert done.returncode == 0, done.stderr
    [folder] = (root / "w" / "features").glob("encoder_*")
    return root, folder


def markers(folder):
    return [json.loads(path.read_text()) for path in sorted(folder.glob("done/*/*.done"))]


def test_enqueue_leaves_a_graph_where_no_gpu_is(enqueued):
    _, folder = enqueued
    assert (folder / "encoder.onnx").is_file()
    assert json.loads((folder / "encoder.onnx.json").read_text())["check"]["worst_cosine"] > 0.9999


def test_a_cpu_worker_imports_neither_torch_nor_timm_and_gives_torchs_features(enqueued):
    root, folder = enqueued
    code = """
sys.argv = ["headstart", "work", "--device", "cpu", "--ram-budget", "3GB", "--batch-size", "2", "-w", sys.argv[1]]
import headstart.cli
print(headstart.cli._run(), {"torch", "timm", "pandas", "importlib.metadata"} & set(sys.modules))
"""
    status, output, errors = run_python(code, str(root / "w"))
    assert status == 0, errors
    assert output == "0 set()\n"
    found = load_features(folder)
    encoder = open_torch(folder, "cpu")
    from headstart.features.images.decode import decode

    images = np.stack([decode((root / "photos" / path).read_bytes(), encoder.spec.transform) for path in found.paths])
    expected = encoder.encode(images)
    assert len(found.paths) == 11
    np.testing.assert_allclose(found.features, expected, rtol=2e-3, atol=1e-3 * np.abs(expected).max())
    for facts in (marker["facts"] for marker in markers(folder)):
        assert facts["device"] == "cpu"
        assert facts["batch_size"] == 2
        assert facts["ram_budget_bytes"] == 3 * 10**9
        assert facts["peak_rss_bytes"] <= facts["ram_planned_bytes"] <= 3 * 10**9
        assert {"onnxruntime", "torch", "timm", "numpy", "pillow"} <= set(facts["versions"])


def test_a_budget_that_nothing_fits_into_ends_the_worker_with_one_line(enqueued):
    root, _ = enqueued
    done = run_cli("enqueue", root / "photos", "--encoder", "test_vit", "--weights", "random:0", "-w", root / "w")
    assert done.returncode == 0, done.stderr
    done = run_cli("work", "--ram-budget", "20MB", "--device", "cpu", "-w", root / "w")
    assert done.returncode == 1
    assert "error: --ram-budget 20 MB: test_vit needs" in done.stderr


@pytest.mark.parametrize("size", ["600", "0.5XB", "-1MB", "MB"])
def test_a_budget_that_is_no_size_is_a_mistake_of_use(enqueued, size):
    done = run_cli("work", f"--ram-budget={size}", "-w", enqueued[0] / "w")
    assert done.returncode == 2
    assert "600MB, 4GB or 1.5GiB" in done.stderr
