import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from headstart.features.encoders import precision
from headstart.features.encoders.precision import BFLOAT16, CALIBRATED_NAME, FLOAT32, INT8, Agreement, PrecisionError
from headstart.features.encoders.resolve import EncoderRequest
from headstart.features.encoders.runtime import open_encoder
from headstart.features.encoders.spec import read_encoder
from headstart.features.planning.enqueue import enqueue_images
from headstart.pipeline.errors import HeadstartError
from headstart.pipeline.workspace import open_workspace
from tests.features.samples import picture

pytest.importorskip("openvino", reason="OpenVINO, of the extra `fast`, is not installed")
pytest.importorskip("nncf", reason="NNCF, of the extra `fast`, is not installed")
TINY = "test_resnet"

needs_instructions = pytest.mark.skipif(
    any(wanted.isdisjoint(precision.processor_features()) for wanted in precision._INSTRUCTIONS.values() if wanted),
    reason="this processor has no instructions for bfloat16 or int8",
)


def request(wanted, **more):
    return EncoderRequest(TINY, "random:0", 64, precision=wanted, **more)


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    folder = tmp_path_factory.mktemp("photos")
    for number in range(60):
        place = folder / f"class{number % 2}"
        place.mkdir(exist_ok=True)
        picture(80 + number % 2 * 60, 90, number).save(place / f"{number:02d}.png")
    return folder


@pytest.fixture(scope="module")
def queued(photos, tmp_path_factory):
    """A workspace where the images are queued for all three precisions, and what was said."""
    root = tmp_path_factory.mktemp("precise") / "workspace"
    said = []
    folders = {
        wanted: enqueue_images(photos, root, encoder=request(wanted), report=said.append).folder
        for wanted in precision.PRECISIONS
    }
    return root, folders, said


def pixels(folder):
    height, width = read_encoder(folder).transform.image_size
    return np.stack([np.asarray(picture(width, height, seed)) for seed in range(11)])


@needs_instructions
def test_each_precision_gets_a_folder_and_its_agreement_is_said(queued):
    _, folders, said = queued
    assert len(set(folders.values())) == 3
    assert any("precision bfloat16:" in line and "ridge" in line for line in said)
    assert json.loads((folders[INT8] / "encoder.precision.json").read_text())["labelled"] == 60


@needs_instructions
@pytest.mark.parametrize("wanted", [BFLOAT16, INT8])
def test_bits_depend_neither_on_the_batch_nor_on_the_process(queued, wanted):
    _, folders, _ = queued
    images = pixels(folders[wanted])
    encoder = open_encoder(folders[wanted], "cpu")
    together = encoder.encode(images)
    for size in (1, 2, 3, 5, 8):
        parts = [encoder.encode(images[at : at + size]) for at in range(0, len(images), size)]
        assert np.array_equal(np.concatenate(parts), together)
    encoder.close()
    code = (
        "import sys; from pathlib import Path; import numpy as np\n"
        "from headstart.features.encoders.runtime import open_encoder\n"
        f"images = np.frombuffer(sys.stdin.buffer.read(), np.uint8).reshape({images.shape})\n"
        "sys.stdout.buffer.write(open_encoder(Path(sys.argv[1]), 'cpu').encode(images).tobytes())"
    )
    home = {**os.environ, "PYTHONPATH": str(Path(__file__).resolve().parents[3])}
    done = subprocess.run(
        [sys.executable, "-c", code, folders[wanted]],
        input=images.tobytes(),
        capture_output=True,
        check=True,
        env=home,
        timeout=120,
    )
    assert done.stdout == together.tobytes()


@needs_instructions
def test_the_precisions_differ_from_float32_and_a_little_only(queued):
    _, folders, _ = queued
    made = {wanted: open_encoder(folder, "cpu").encode(pixels(folder)) for wanted, folder in folders.items()}
    for wanted in (BFLOAT16, INT8):
        assert not np.array_equal(made[wanted], made[FLOAT32])
        assert np.corrcoef(made[wanted].ravel(), made[FLOAT32].ravel())[0, 1] > 0.95


@needs_instructions
def test_more_images_keep_the_graph_that_was_calibrated_before(queued, photos, tmp_path):
    root, folders, _ = queued
    more = shutil.copytree(photos, tmp_path / "more")
    picture(70, 70, 99).save(more / "class0" / "new.png")
    said = []
    assert enqueue_images(more, root, encoder=request(INT8), report=said.append).folder == folders[INT8]
    assert "precision int8, as before" in said


@needs_instructions
def test_the_same_sample_gives_the_same_graph(queued, photos, tmp_path):
    _, folders, _ = queued
    again = enqueue_images(photos, tmp_path / "other", encoder=request(INT8)).folder
    assert (again / CALIBRATED_NAME).read_bytes() == (folders[INT8] / CALIBRATED_NAME).read_bytes()
    assert again.name == folders[INT8].name


@needs_instructions
def test_weights_of_every_layer_use_all_8_bits(queued):
    onnx = pytest.importorskip("onnx", reason="onnx, of the extra `fast`, is not installed")
    _, folders, _ = queued
    graph = onnx.load(folders[INT8] / CALIBRATED_NAME).graph
    integers = [onnx.numpy_helper.to_array(each) for each in graph.initializer if each.data_type == onnx.TensorProto.INT8]
    largest = [int(np.abs(weights.astype(int)).max()) for weights in integers if weights.ndim == 4]
    assert set(largest) - {0} == {127}  # random weights hold layers of zeros


@needs_instructions
@pytest.mark.parametrize(
    "damage",
    [
        lambda path: path.unlink(),
        lambda path: path.write_bytes(b""),
        lambda path: path.write_bytes(path.read_bytes()[:-1]),
        lambda path: path.write_bytes(path.read_bytes()[:-1] + bytes([path.read_bytes()[-1] ^ 1])),
    ],
    ids=["missing", "empty", "cut", "a bit"],
)
def test_a_damaged_calibrated_graph_is_never_run(queued, tmp_path, damage):
    _, folders, _ = queued
    folder = shutil.copytree(folders[INT8], tmp_path / folders[INT8].name)
    damage(folder / CALIBRATED_NAME)
    with pytest.raises(HeadstartError, match=r"Run the same enqueue again, with --encoder .* --precision int8"):
        open_encoder(folder, "cpu")


@needs_instructions
def test_a_precision_that_is_not_good_enough_queues_nothing(photos, tmp_path, monkeypatch):
    monkeypatch.setattr(Agreement, "refusal", property(lambda self: "it is bad"))
    with pytest.raises(PrecisionError, match="it is bad"):
        enqueue_images(photos, tmp_path / "w", encoder=request(BFLOAT16))
    assert not open_workspace(tmp_path / "w").queue.exists()
    said = []
    got = enqueue_images(photos, tmp_path / "w", encoder=request(BFLOAT16, else_float32=True), report=said.append)
    assert got.encoder.precision == FLOAT32
    assert any(line.startswith("note: float32 instead") for line in said)


def test_a_processor_without_the_instructions_is_told_so_and_falls_back_only_if_asked(photos, tmp_path, monkeypatch):
    monkeypatch.setattr(precision, "processor_features", lambda: frozenset({"avx2"}))
    with pytest.raises(PrecisionError, match="no instructions for int8"):
        enqueue_images(photos, tmp_path / "w", encoder=request(INT8))
    assert enqueue_images(photos, tmp_path / "w", encoder=request(INT8, else_float32=True)).encoder.precision == FLOAT32


@needs_instructions
def test_a_worker_without_the_instructions_leaves_the_work_to_others(queued, monkeypatch):
    _, folders, _ = queued
    monkeypatch.setattr(precision, "processor_features", lambda: frozenset({"avx2"}))
    with pytest.raises(PrecisionError, match="Work on another machine"):
        open_encoder(folders[INT8], "cpu")


@needs_instructions
def test_too_few_images_to_try_it_out_are_named(photos, tmp_path):
    few = tmp_path / "few"
    few.mkdir()
    picture(70, 70).save(few / "one.png")
    with pytest.raises(HeadstartError, match="only 1 can be decoded"):
        enqueue_images(few, tmp_path / "w", encoder=request(BFLOAT16))
