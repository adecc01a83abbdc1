"""enqueue --compress: smaller maps by what was fitted to a sample of the data; everything behind sees the same ones."""

import json

import numpy as np
import pytest
from PIL import Image

from headstart.features.encoders.map_compression import PROJECTION_NAME
from headstart.features.encoders.spec import projection_of, read_encoder
from headstart.features.planning.disk import predict_disk
from headstart.features.planning.forecast import read_forecast
from headstart.features.store.maps import open_maps
from headstart.pipeline.workspace import open_workspace
from tests.commands.calling import call
from tests.features import cut
from tests.features.samples import picture
from tests.jobs.extraction import encoder_of, enqueue, enqueued, work
from tests.jobs.killed_masks import ENCODER, drawn

MAPS = ("--encoder", "test_efficientnet", "--image-size", "64x96", "--maps", "8,16,32", "--job-size", "8")
SMALLER = ("--compress", "pca:16,int8")


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    folder = tmp_path_factory.mktemp("photos") / "photos"
    folder.mkdir()
    for number in range(20):
        picture(60 + number, 40, number).save(folder / f"{number:02}.png")
    return folder


@pytest.fixture(scope="module")
def smaller(photos, tmp_path_factory):
    workspace = enqueue(photos, tmp_path_factory.mktemp("smaller") / "w", *MAPS, *SMALLER)
    work(workspace)
    return workspace


def test_maps_that_are_kept_are_those_of_the_encoder_compressed(photos, smaller, tmp_path):
    plain = enqueue(photos, tmp_path / "w", *MAPS)
    work(plain)
    whole, kept = open_maps(encoder_of(plain)), open_maps(encoder_of(smaller))
    spec = read_encoder(encoder_of(smaller))
    projection = projection_of(encoder_of(smaller), spec)
    assert kept.shape == (16, 8, 12)
    rows = range(len(whole))
    assert [whole.columns.path[row] for row in whole.index] == [kept.columns.path[row] for row in kept.index]
    np.testing.assert_array_equal(kept.read(rows), projection.restored(projection.compressed(whole.read(rows))))
    stored = {np.load(path)["spatial"].dtype for path in encoder_of(smaller).glob("shards/*/*")}
    assert stored == {np.dtype(np.int8)}


def test_the_disk_that_is_predicted_is_what_they_take(smaller):
    folder = encoder_of(smaller)
    files = [*folder.glob("shards/*/*"), *folder.glob("done/*/*")]
    taken, predicted = sum(-(-path.stat().st_size // 4096) * 4096 for path in files), predict_disk(read_encoder(folder), 20, 8)
    assert taken <= predicted <= 1.25 * taken


def test_the_same_enqueue_again_fits_nothing_and_adds_nothing(photos, smaller):
    before = (encoder_of(smaller) / PROJECTION_NAME).stat().st_mtime_ns
    said = enqueued(photos, smaller.root, *MAPS, *SMALLER)
    assert "maps compressed by pca:16,int8, as before" in said
    assert "0 jobs added" in said
    assert (encoder_of(smaller) / PROJECTION_NAME).stat().st_mtime_ns == before


def test_what_it_keeps_and_what_it_costs_is_said(photos, tmp_path):
    said = enqueued(photos, tmp_path / "w", *MAPS, *SMALLER)
    [line] = [line for line in said.splitlines() if line.startswith("maps compressed by pca:16,int8: ")]
    assert "an image instead of" in line
    assert "of the variance of channels kept" in line
    assert "rounding to bytes adds" in line


@pytest.mark.parametrize(
    ("more", "said"),
    [
        (("--compress", "pca:8"), "--compress pca:8 makes feature maps smaller, and none are kept. Pass --maps 8,16,32"),
        (("--maps", "8", "--compress", "pca"), "--compress pca: write pca:N, int8 or both"),
        (("--maps", "8", "--compress", "pca:9999"), "--compress pca:9999: the maps have"),
        (("--maps", "8", "--compress", "int8", "--precision", "bfloat16"), "--precision"),
    ],
    ids=["no maps", "half a word", "more than there are", "with a precision"],
)
def test_what_cannot_be_compressed_is_a_mistake_of_one_line(photos, tmp_path, more, said):
    encoder = ("--encoder", "test_efficientnet", "--weights", "random:0", "--image-size", "64")
    done = call("enqueue", photos, *encoder, *more, "-w", tmp_path / "w")
    assert done.status == 1
    assert said in done.reason


def test_a_head_on_compressed_maps_predicts_what_it_was_judged_by_and_exports_it(tmp_path):
    import onnxruntime

    table, root = drawn(tmp_path / "data", 20), tmp_path / "w"
    words = ("--head", "conv", "--hidden", "16", "--epochs", "8", "--batch-size", "4", "--threads", "1")
    for command in (
        ("enqueue", table, *ENCODER, "--compress", "pca:12,int8"),
        ("work", "--device", "cpu"),
        ("train", "segment", "--masks", "mask", *words),
        ("predict", *sorted((tmp_path / "data").glob("[0-9][0-9].png")), "--run", "1", "--masks-to", tmp_path / "out"),
        ("export", "--run", "1", "--with-encoder", "--half", "--output", tmp_path / "window.onnx"),
    ):
        done = call(*command, "-w", root)
        assert done.status == 0, done.errors
    [folder] = root.glob("experiments/exp_*")
    judged = json.loads((folder / "test_results.json").read_text())
    assert judged["miou"] > 0.7
    confusions = np.zeros((2, 2), int)
    session = onnxruntime.InferenceSession(str(tmp_path / "window.onnx"), providers=["CPUExecutionProvider"])
    for number in range(3, 20, 4):  # the test split
        mask = np.asarray(Image.open(tmp_path / f"out/{number:02}.png"))
        truth = np.asarray(Image.open(tmp_path / f"data/{number:02}_mask.png"))
        np.add.at(confusions, (truth.ravel(), mask.ravel()), 1)
        [window] = session.run(None, {"images": np.asarray(Image.open(tmp_path / f"data/{number:02}.png"))[None]})
        assert np.mean(window[0].argmax(0) == mask[2::4, 2::4]) > 0.97
    assert np.abs(confusions - judged["confusion_matrix"]).sum() <= 20


PATCHED = ("--encoder", "test_efficientnet", "--weights", "random:0", "--patches", "64", "--compress")


def _drawn(folder, count, edge):
    folder.mkdir()
    for number in range(count):
        picture(edge, edge, number).save(folder / f"{number}.png")
    return folder


def test_one_large_image_is_enough_to_fit_to_because_its_patches_are_many(tmp_path):
    done = call("enqueue", _drawn(tmp_path / "one", 1, 256), *PATCHED, "pca:16,int8", "-w", tmp_path / "w")
    assert done.status == 0, done.reason
    assert "maps compressed by pca:16,int8: " in done.output
    assert "patches v001: 16 of 1 image, " in done.output


@pytest.mark.parametrize(
    ("count", "edge", "more", "said"),
    [
        (1, 128, ("pca:16,int8",), "only 4 can be decoded, at least 8 are needed. Leave it out"),
        (
            2,
            128,
            ("pca:64", "--maps", "32"),
            "needs more than 64 places of maps to be fitted to, and a sample of these images has 32",
        ),
        (2, 128, ("pca:32", "--maps", "32"), "Give pca:31 at most, or more images"),
    ],
    ids=["four patches", "fewer places than components", "as many places as components"],
)
def test_too_few_patches_to_fit_to_are_a_mistake_of_one_line(tmp_path, count, edge, more, said):
    done = call("enqueue", _drawn(tmp_path / "few", count, edge), *PATCHED, *more, "-w", tmp_path / "w")
    assert done.status == 1
    assert said in done.reason
    assert "\n" not in done.reason
    assert not (tmp_path / "w/features/jobs_queue.csv").exists()


def test_what_the_message_offers_is_taken(tmp_path):
    words = (*PATCHED, "pca:31", "--maps", "32", "-w", tmp_path / "w")
    assert call("enqueue", _drawn(tmp_path / "few", 2, 128), *words).status == 0


def test_a_plan_is_of_the_encoder_that_enqueue_would_fit(photos, smaller, tmp_path):
    options = ("--weights", "random:0", *MAPS, "--device", "cpu", "--probe", "8", "--json", "-w", tmp_path / "w")
    [planned] = call("plan", photos, *options, *SMALLER).json
    [whole] = call("plan", photos, *options).json
    spec = read_encoder(encoder_of(smaller))
    assert planned["disk_bytes"] == predict_disk(spec, 20, 8) < whole["disk_bytes"] / 2
    assert planned["seconds"] > 0
    # What `work` then compares itself with is this forecast: what was fitted is the same to the bit.
    assert read_forecast(open_workspace(tmp_path / "w"), spec.fingerprint) is not None


def test_a_plan_refuses_what_compresses_no_maps(photos, tmp_path):
    look, real = (call(name, photos, "--weights", "embedded", *SMALLER, "-w", tmp_path / "w") for name in ("plan", "enqueue"))
    assert "makes feature maps smaller, and none are kept" in look.reason
    assert look.reason == real.reason


def test_a_plan_of_patches_predicts_the_disk_of_smaller_maps(tmp_path):
    table = cut.draw(tmp_path / "data", 12)
    words = (*cut.ENCODER, *cut.PATCHES[:4], *SMALLER)
    options = ("--device", "cpu", "--probe", "3", "--json", "-w", tmp_path / "w")
    [planned] = call("plan", table, *words, *options).json
    workspace = cut.cut(table, tmp_path / "w", *words[len(cut.ENCODER) :])
    work(workspace)
    files = [*workspace.features.glob("patches_v001/shards/*/*"), *workspace.features.glob("patches_v001/done/*/*")]
    taken = sum(-(-path.stat().st_size // 4096) * 4096 for path in files)
    assert taken <= planned["disk_bytes"] <= 1.25 * taken
