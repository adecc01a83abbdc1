"""The recipe segment: masks as data, what of them is refused or named, losses and heads that learn."""

import contextlib
import copy
import hashlib
import json
import shutil
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image
from PIL.TiffImagePlugin import ImageFileDirectory_v2

from headstart.experiments.recipes import segment
from headstart.experiments.serving import predict_masks
from headstart.experiments.training.data.batch import Facts
from headstart.experiments.training.data.keys import Key
from headstart.experiments.training.data.masked_maps import VOID, MaskOptions, at_cells, find_masked
from headstart.features.images import bands, decode, masks
from headstart.pipeline.errors import HeadstartError
from headstart.pipeline.workspace import open_workspace
from tests.commands.calling import call
from tests.jobs.extraction import enqueue, work

from .on_fake_gpu import ends_as_on_the_cpu

SIZE = (48, 64)
MAPS = ("--encoder", "test_efficientnet", "--image-size", "48x64", "--maps", "4,8")


def scene(number: int) -> tuple[Image.Image, np.ndarray]:
    """A dark ground with a bright rectangle, and where it is: 1."""
    random = np.random.default_rng(number)
    mask = np.zeros(SIZE, np.uint8)
    top, left = random.integers(0, 24), random.integers(0, 32)
    mask[top : top + 22, left : left + 30] = 1
    pixels = random.integers(0, 60, (*SIZE, 3)) + 180 * mask[..., None]
    return Image.fromarray(pixels.astype(np.uint8)), mask


@pytest.fixture(scope="module")
def scenes(tmp_path_factory):
    """30 images below images/, their masks below images/masks/, a table that names both, and a workspace with the maps."""
    root = tmp_path_factory.mktemp("scenes")
    lines = ["path,split,mask"]
    for number in range(30):
        split = ("train", "train", "val", "test")[number % 4] if number else "train"
        image, mask = scene(number)
        for folder in ("images", "images/masks"):
            (root / folder / split).mkdir(parents=True, exist_ok=True)
        image.save(root / f"images/{split}/{number:02}.png")
        Image.fromarray(mask).save(root / f"images/masks/{split}/{number:02}.png")
        lines.append(f"{split}/{number:02}.png,{split},masks/{split}/{number:02}.png")
    (root / "images/table.csv").write_text("\n".join(lines) + "\n")
    work(enqueue(root / "images/table.csv", root / "w", *MAPS))
    return root


@pytest.fixture
def own(scenes, tmp_path):
    """A copy of masks that a test may harm."""
    shutil.copytree(scenes / "images/masks", tmp_path / "masks")
    return tmp_path / "masks"


def found(scenes, masks="mask", **options):
    return find_masked(open_workspace(scenes / "w"), None, None, MaskOptions(str(masks), **options))


def test_a_folder_and_a_column_say_the_same_masks(scenes):
    column, folder = found(scenes), found(scenes, scenes / "images/masks")
    assert column.split("train", 4).digest == folder.split("train", 4).digest
    assert (column.classes, column.notes, len(column.items)) == (("0", "1"), (), 30)
    batch = folder.split("val", 4).batch(np.arange(3), None)
    for row, maps, mask in zip(batch.row, batch.maps, batch.mask, strict=True):
        number = int(folder.split("val", 4).name(row)[-6:-4])
        np.testing.assert_array_equal(mask, scene(number)[1])
        np.testing.assert_array_equal(folder.split("val", 4).image(row), scene(number)[0])
        assert maps.shape == (56, 12, 16)


def test_a_target_is_the_pixel_in_the_middle_of_each_cell_and_flips_go_with_the_maps(scenes):
    masked = found(scenes)
    plain, mirrored = masked.split("train", 2, 0.0), masked.split("train", 2, 1.0)
    rows, key = np.arange(4), Key((0,))
    one, other = plain.batch(rows, key), mirrored.batch(rows, key)
    assert one.target.shape == (4, 24, 32)
    mask = masked.codes(int(masked.items[0]))
    np.testing.assert_array_equal(at_cells(mask, 24, 32), mask[1::2, 1::2])
    assert torch.equal(one.maps.flip(-1), other.maps)
    assert torch.equal(one.target.flip(-1), other.target)
    assert not torch.equal(one.target, other.target)


def test_a_crop_is_one_part_of_map_and_target_alike_and_another_in_another_epoch(scenes):
    masked = found(scenes)
    whole, cropped = masked.split("train", 2), masked.split("train", 2, crop=0.5)
    rows = np.arange(4)
    assert whole.digest != cropped.digest
    assert whole.digest == masked.split("train", 2, crop=1.0).digest
    of_all, places = whole.batch(rows, Key((0,))), []
    for epoch in (0, 0, 1):
        one = cropped.batch(rows, Key((epoch,)))
        assert one.maps.shape == (4, 56, 6, 8)
        assert one.target.shape == (4, 12, 16)
        for row in range(4):
            [(top, left)] = [
                (top, left)
                for top in range(7)
                for left in range(9)
                if torch.equal(of_all.maps[row, :, top : top + 6, left : left + 8], one.maps[row])
            ]
            assert torch.equal(of_all.target[row, 2 * top : 2 * top + 12, 2 * left : 2 * left + 16], one.target[row])
            places.append((top, left))
    assert places[:4] == places[4:8] != places[8:]


def _resized(masks):
    Image.new("L", (10, 10)).save(masks / "train/00.png")


def _void(masks):
    Image.new("L", SIZE[::-1], 255).save(masks / "train/00.png")


def _colours(masks):
    Image.new("RGB", SIZE[::-1]).save(masks / "train/00.png")


def _strange(masks):
    mask = scene(2)[1].copy()
    mask[:3] = 9
    Image.fromarray(mask).save(masks / "val/02.png")


def _deep(masks):
    mask = scene(2)[1].astype(np.uint16)
    mask[:3] = 60000
    Image.fromarray(mask).save(masks / "val/02.png")


LEFT_OUT = "left out because "


@pytest.mark.parametrize(
    ("harm", "items", "said"),
    [
        (
            _resized,
            29,
            LEFT_OUT + "the mask has another size: 1 image, such as train/00.png: the mask has another size (10 x 10, ",
        ),
        (_void, 29, LEFT_OUT + "the mask is void everywhere: 1 image, such as train/00.png"),
        (
            _colours,
            29,
            LEFT_OUT + "the mask cannot be read: 1 image, such as train/00.png: the mask cannot be read (train/00.png: it is RGB",
        ),
        (lambda masks: (masks / "train/00.png").unlink(), 29, LEFT_OUT + "there is no mask: 1 image, such as train/00.png"),
        (
            lambda masks: (masks / "train/00.png").write_bytes(b"x"),
            29,
            "the mask cannot be read (train/00.png: none of JPEG, PNG",
        ),
        (
            _strange,
            30,
            "192 pixels have the value 9, which is no class of the training masks (first in val/02.png) and count as void",
        ),
        (_deep, 30, "192 pixels have the value 60000, which is no class of the training masks (first in val/02.png)"),
    ],
    ids=["another size", "all void", "colours", "missing", "no image", "a class only in val", "16 bits"],
)
def test_a_mask_that_cannot_be_used_is_counted_and_named_and_costs_nothing_else(scenes, own, harm, items, said):
    harm(own)
    masked = found(scenes, own)
    assert len(masked.items) == items
    [note] = masked.notes
    assert said in note
    assert "\n" not in note


def _up(data, outside):
    return f"../{outside.name}"


def _absolute(data, outside):
    return str(outside)


def _link(data, outside):
    (data / "masks/train/link.png").symlink_to(outside)
    return "masks/train/link.png"


def _linked_folder(data, outside):
    (data / "masks/other").symlink_to(outside.parent)
    return f"masks/other/{outside.name}"


UP, LINK = "absolute paths and '..' are refused", "a symbolic link leads out of the data folder; --allow-symlinks accepts it"


@pytest.mark.parametrize(
    ("lead_out", "why"),
    [(_up, UP), (_absolute, UP), (_link, LINK), (_linked_folder, LINK)],
    ids=["upwards", "absolute", "a link", "a linked folder"],
)
def test_a_column_that_leads_out_of_the_data_is_counted_and_named_and_not_read(scenes, tmp_path, monkeypatch, lead_out, why):
    data = shutil.copytree(scenes / "images", tmp_path / "images")
    outside = shutil.copy(data / "masks/train/00.png", tmp_path / "secret.png")
    path = lead_out(data, outside)
    table = data / "table.csv"
    table.write_text(table.read_text().replace("masks/train/00.png", path))
    work(enqueue(table, tmp_path / "w", *MAPS))
    opened = []
    monkeypatch.setattr(decode, "_open_regular", lambda name, real=decode._open_regular: (opened.append(name), real(name))[1])
    masked = find_masked(open_workspace(tmp_path / "w"), None, None, MaskOptions("mask"))
    assert len(masked.items) == 29
    [note] = masked.notes
    assert note == (
        "left out because its mask leads out of its folder: 1 image, such as train/00.png: "
        f"its mask leads out of its folder ({path}: {why})"
    )
    assert len([name for name in opened if "/masks/" in name]) == 29
    assert not any(name.endswith("secret.png") for name in opened)


def test_a_column_may_name_masks_by_absolute_paths_below_the_data(scenes, tmp_path):
    data = shutil.copytree(scenes / "images", tmp_path / "images")
    table = data / "table.csv"
    table.write_text(table.read_text().replace(",masks/", f",{data}/masks/"))
    work(enqueue(table, tmp_path / "w", *MAPS))
    assert len(find_masked(open_workspace(tmp_path / "w"), None, None, MaskOptions("mask")).items) == 30


def test_a_link_out_of_a_folder_of_masks_is_counted_and_named_and_not_read(scenes, own, tmp_path):
    outside = shutil.move(own / "train/00.png", tmp_path / "secret.png")
    (own / "train/00.png").symlink_to(outside)
    masked = found(scenes, own)
    assert len(masked.items) == 29
    assert f"its mask leads out of its folder (train/00.png: {LINK})" in masked.notes[0]


def test_a_mask_has_the_same_digest_whatever_type_its_numbers_have_and_however_many_rows_are_looked_at(scenes, own, monkeypatch):
    monkeypatch.setattr(masks, "_STRIP_PIXELS", 5 * SIZE[1])
    _deep(own)
    masked = found(scenes, own)
    for item in masked.items.tolist():
        numbers = np.asarray(Image.open(own / masked.name_of(item))).astype(np.int64)
        seen = masked.looked[item]
        assert seen.sha256 == hashlib.sha256(str(SIZE).encode() + numbers.tobytes()).hexdigest()
        assert seen.counts == tuple(zip(*(part.tolist() for part in np.unique(numbers, return_counts=True)), strict=True))
        codes = np.where(numbers <= 1, numbers, VOID)
        np.testing.assert_array_equal(masked.codes(item), codes)


def test_a_mask_that_breaks_after_it_was_looked_at_is_a_mistake_of_one_line(scenes, own):
    masked = found(scenes, own)
    sound = (own / "train/00.png").read_bytes()
    (own / "train/00.png").write_bytes(sound[:60])
    [item] = [item for item in masked.items.tolist() if masked.name_of(item) == "train/00.png"]
    with pytest.raises(HeadstartError) as caught:
        masked.codes(item)
    assert str(caught.value).startswith("the mask of train/00.png can no longer be read (train/00.png: OSError: ")
    assert str(caught.value).endswith(". Put it back, then run the same command again")


def test_why_a_mask_cannot_be_decoded_stands_with_the_numbers_of_the_run(scenes, own, tmp_path):
    shutil.copytree(scenes / "w", tmp_path / "w")
    sound = (own / "train/00.png").read_bytes()
    (own / "train/00.png").write_bytes(sound[:60])
    (own / "val/02.png").write_bytes(b"<!doctype html>")
    options = ("--masks", own, "--epochs", "1", "--batch-size", "8", "--threads", "1")
    done = call("train", "segment", *options, "-w", tmp_path / "w")
    assert done.status == 0, done.errors
    why = [
        "train/00.png: the mask cannot be read (train/00.png: OSError: image file is truncated",
        "val/02.png: the mask cannot be read (val/02.png: an HTML page, as of a download that failed, not an image)",
    ]
    [folder] = (tmp_path / "w/experiments").glob("exp_*")
    [note] = json.loads((folder / "metrics.json").read_text())["notes"]
    assert "left out because the mask cannot be read: 2 images, such as " in note
    assert all(words in note for words in why)
    assert all(words in done.output for words in why)


def test_values_that_are_no_class_count_as_void(scenes, own):
    _strange(own)
    masked = found(scenes, own)
    [item] = [item for item in masked.items.tolist() if masked.name_of(item) == "val/02.png"]
    codes = masked.codes(item)
    assert (codes[:3] == VOID).all()
    np.testing.assert_array_equal(codes[3:], scene(2)[1][3:])


def test_a_class_that_no_training_mask_has_is_named(scenes):
    masked = found(scenes, classes=("ground", "thing", "sky"))
    assert masked.classes == ("ground", "thing", "sky")
    assert masked.notes == ("no training mask has sky: it cannot be learned and counts as missed",)


def _all_one(masks):
    for path in masks.rglob("*.png"):
        Image.new("L", SIZE[::-1], 3).save(path)


def _all_void(masks):
    for path in masks.rglob("*.png"):
        Image.new("L", SIZE[::-1], 255).save(path)


def _doubled(masks):
    Image.new("L", SIZE[::-1]).save(masks / "train/00.tif")


@pytest.mark.parametrize(
    ("harm", "place", "said"),
    [
        (shutil.rmtree, None, "neither a folder nor a column of the table (there are: mask)"),
        (lambda masks: None, "", "--masks is missing: neither a folder nor"),
        (
            lambda masks: [path.unlink() for path in masks.rglob("*.png")],
            None,
            "holds no file. Give the folder of masks with the stems of the images",
        ),
        (_all_void, None, "the mask is void everywhere. Give others, or another --void"),
        (lambda masks: shutil.rmtree(masks / "val"), None, "no image with a usable mask is in the split 'val'"),
        (_all_one, None, "all pixels of the training masks have the value 3. Two classes are needed"),
        (_doubled, None, "are masks of one image. Remove one of them"),
    ],
    ids=["no folder", "not said", "empty folder", "all void", "no validation", "one class", "two of one image"],
)
def test_masks_that_teach_nothing_are_a_mistake_of_one_line(scenes, own, harm, place, said):
    harm(own)
    with pytest.raises(HeadstartError) as caught:
        found(scenes, own if place is None else place)
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)


def test_extraction_that_is_not_done_is_said_instead_of_training_on_a_part(scenes, tmp_path):
    shutil.copytree(scenes / "w", tmp_path / "w")
    next((tmp_path / "w").glob("features/encoder_*/done/*/*.done")).unlink()
    with pytest.raises(HeadstartError, match=r"images have no map yet. Finish them first: headstart work"):
        find_masked(open_workspace(tmp_path / "w"), None, None, MaskOptions("mask"))


@pytest.mark.parametrize("head", ["linear", "conv"])
def test_a_head_is_its_layers_one_after_the_other_in_training_and_afterwards(head):
    torch.manual_seed(0)
    options = segment.Options(head=head, hidden=4, dropout=0.0)
    model = segment.model(options, Facts({"channels": 3, "classes": ["a", "b"]})).double()
    layers = torch.nn.Sequential(*copy.deepcopy(model))
    maps = torch.randn(4, 3, 5, 6, dtype=torch.float64) * torch.tensor([0.01, 1.0, 100.0])[:, None, None] + 3
    for training in (True, True, False):
        for one in (model, layers):
            one.train(training)
        said, expected = model(maps), layers(maps)
        torch.testing.assert_close(said, expected)
        for one in (said, expected):
            one.square().sum().backward()
    assert model.state_dict().keys() == layers.state_dict().keys()
    for name, value in layers.state_dict().items():
        torch.testing.assert_close(model.state_dict()[name], value)
    for one, other in zip(model.parameters(), layers.parameters(), strict=True):
        torch.testing.assert_close(one.grad, other.grad, atol=1e-8, rtol=1e-6)


def test_a_batch_of_one_place_is_a_mistake_of_one_line():
    model = segment.model(segment.Options(), Facts({"channels": 3, "classes": ["a", "b"]}))
    with pytest.raises(HeadstartError, match="a larger --batch-size"):
        model(torch.zeros(1, 3, 1, 1))


@pytest.mark.parametrize("options", [{"dice": 0.0}, {"dice": 0.0, "focal": 2.0}, {"class_weights": "balanced"}], ids=str)
def test_the_loss_is_weighted_cross_entropy_and_one_minus_dice(options):
    torch.manual_seed(0)
    target = torch.randint(0, 3, (2, 4, 4))
    target[0, 0] = VOID
    logits, weights = torch.randn(2, 3, 4, 4), [0.5, 1.0, 1.5]
    step = SimpleNamespace(
        options=segment.Options(**options), about={"class_weights": weights} if "class_weights" in options else {}
    )
    batch = SimpleNamespace(maps=logits, target=target.to(torch.uint8))
    value, said = segment.loss(torch.nn.Identity(), batch, step)
    plain = torch.nn.functional.cross_entropy(logits, target, ignore_index=VOID, reduction="none")
    known = target != VOID
    weight = torch.tensor(weights)[target.masked_fill(~known, 0)] if "class_weights" in options else 1
    expected = (weight * plain * (1 - torch.exp(-plain)) ** step.options.focal).sum() / known.sum()
    if step.options.dice:
        chances, true = logits.softmax(1), torch.stack([target == code for code in range(3)], 1).float()
        both, total = ((one * known[:, None]).sum((0, 2, 3)) for one in (chances * true, chances + true))
        expected = expected + 1 - (2 * both / total).mean()
    torch.testing.assert_close(value, expected)
    assert float(said["pixel_accuracy"]) == pytest.approx(float((logits.argmax(1) == target)[known].float().mean()))


@pytest.mark.parametrize("options", [{}, {"dice": 0.0}, {"focal": 2.0}, {"class_weights": "balanced"}], ids=str)
def test_every_loss_is_the_same_for_a_batch_and_falls_as_the_answer_nears_the_truth(options):
    class Given(torch.nn.Module):
        def forward(self, maps):
            return maps

    class Step:
        pass

    step, batch = Step(), Step()
    step.options, step.about = (
        segment.Options(**options),
        Facts({"class_weights": [0.5, 1.5]} if "class_weights" in options else {}),
    )
    batch.target = torch.tensor([[[0, 1], [1, VOID]]], dtype=torch.uint8)
    right = torch.stack([1.0 - batch.target.clamp(max=1), batch.target.clamp(max=1).float()], 1)
    values = []
    for sharp in (0.0, 2.0, 8.0):
        batch.maps = right * sharp
        value, said = segment.loss(Given(), batch, step)
        values.append(float(value))
    assert values == sorted(values, reverse=True)
    assert said["pixel_accuracy"] == 1.0
    batch.maps[0, :, 1, 1] = torch.tensor([99.0, -99.0])  # where the truth is void, nothing counts
    assert float(segment.loss(Given(), batch, step)[0]) == pytest.approx(values[-1])


@pytest.mark.parametrize("head", ["linear", "conv"])
def test_a_head_learns_the_scenes_and_leaves_its_numbers_and_pictures(scenes, tmp_path, head):
    shutil.copytree(scenes / "w", tmp_path / "w")
    options = (
        "--masks",
        scenes / "images/masks",
        "--head",
        head,
        "--epochs",
        "12",
        "--batch-size",
        "4",
        "--hidden",
        "16",
        "--threads",
        "1",
    )
    done = call("train", "segment", *options, "-w", tmp_path / "w")
    assert done.status == 0, done.errors
    [folder] = (tmp_path / "w/experiments").glob("exp_*")
    results = json.loads((folder / "test_results.json").read_text())
    assert results["miou"] > 0.8
    assert results["miou_interval"][0] <= results["miou"] <= results["miou_interval"][1]
    assert {"pixel_accuracy", "boundary_f1", "iou_0", "iou_1", "confusion_matrix"} <= set(results)
    listed = (folder / "shown/masks.txt").read_text().splitlines()[1:]
    assert len(listed) == len(list((folder / "shown").glob("*.png"))) == 7
    assert sorted(float(line.split("\t")[1]) for line in listed[:7]) == [float(line.split("\t")[1]) for line in listed]
    # Nothing else decides: the same command finds the same experiment.
    again = call("train", "segment", *options, "-w", tmp_path / "w")
    assert again.status == 0
    assert len(list((tmp_path / "w/experiments").glob("exp_*"))) == 1


@pytest.fixture(scope="module")
def learned(scenes, tmp_path_factory):
    """A workspace with one run of segment whose classes have the values 0 and 1."""
    root = tmp_path_factory.mktemp("learned") / "w"
    shutil.copytree(scenes / "w", root)
    options = ("--epochs", "8", "--batch-size", "4", "--threads", "1")
    assert call("train", "segment", "--masks", scenes / "images/masks", *options, "-w", root).status == 0
    return root


def test_predict_writes_the_masks_that_evaluation_judged(scenes, learned, tmp_path):
    done = call(
        "predict", scenes / "images/test", "--run", "1", "--masks-to", tmp_path / "out", "--overlay", "--json", "-w", learned
    )
    assert done.status == 0, done.errors
    [folder] = learned.glob("experiments/exp_*")
    confusions = np.zeros((2, 2), int)
    for answer in done.json["predictions"]:
        mask, truth = Image.open(answer["mask"]), scene(int(answer["path"][-6:-4]))[1]
        assert (mask.mode, mask.size, sum(answer["shares"].values())) == ("P", SIZE[::-1], pytest.approx(1))
        np.add.at(confusions, (truth.ravel(), np.asarray(mask).ravel()), 1)
        assert Image.open(answer["mask"].replace(".png", "_overlay.png")).size == SIZE[::-1]
    # Where two classes are as likely, another way of summing may choose the other.
    assert np.abs(confusions - json.loads((folder / "test_results.json").read_text())["confusion_matrix"]).sum() <= 20


def test_an_exported_window_says_what_predict_says(scenes, learned, tmp_path):
    import onnxruntime

    done = call("export", "--run", "1", "--with-encoder", "--half", "--output", tmp_path / "window.onnx", "-w", learned)
    assert done.status == 0, done.errors
    session = onnxruntime.InferenceSession(str(tmp_path / "window.onnx"), providers=["CPUExecutionProvider"])
    image, _ = scene(3)
    [said] = session.run(None, {"images": np.asarray(image)[None]})
    [window] = said
    assert window.shape == (2, SIZE[0] // 4, SIZE[1] // 4)
    image.save(tmp_path / "photo.png")
    done = call("predict", tmp_path / "photo.png", "--run", "1", "--masks-to", tmp_path / "out", "--json", "-w", learned)
    mask = np.asarray(Image.open(done.json["predictions"][0]["mask"]))
    enlarged = np.concatenate(list(predict_masks.enlarged([window], window.shape[1], SIZE, (1 / 4, 1 / 4))))
    assert set(np.unique(mask)) == {0, 1}
    # Where two classes are as likely, weights in float16 may choose the other.
    assert np.mean(enlarged == mask) > 0.99


def test_predict_writes_the_regions_of_each_mask_as_polygons(scenes, learned, tmp_path):
    pytest.importorskip("rasterio.features", reason="needs the extra polygons")
    words = (
        "predict",
        scenes / "images/test",
        "--run",
        "1",
        "--masks-to",
        tmp_path / "out",
        "--polygons",
        "--json",
        "-w",
        learned,
    )
    for _ in range(2):  # the same again changes nothing and is no error
        done = call(*words)
        assert done.status == 0, done.errors
    for answer in done.json["predictions"]:
        mask = np.asarray(Image.open(answer["mask"]))
        regions = json.loads((tmp_path / answer["mask"]).with_suffix(".geojson").read_bytes())["features"]
        assert sum(one["properties"]["pixels"] for one in regions) == mask.size
        assert {one["properties"]["class"] for one in regions} == set(answer["shares"])


@pytest.mark.parametrize("more", [(), ("--overlap", "16")], ids=["whole", "windows"])
def test_probabilities_are_those_of_the_masks_at_the_places_of_the_map(scenes, learned, tmp_path, more):
    image, _ = scene(3)
    image.save(tmp_path / "photo.png")
    asked = ("--run", "1", "--masks-to", tmp_path / "out", "--probabilities", *more)
    done = call("predict", tmp_path / "photo.png", *asked, "-w", learned)
    assert done.status == 0, done.errors
    said = np.load(tmp_path / "out/photo.npy", allow_pickle=False)
    assert (said.dtype, said.shape) == (np.float16, (2, SIZE[0] // 4, SIZE[1] // 4))
    np.testing.assert_allclose(said.astype(float).sum(0), 1, atol=2e-3)
    mask = np.asarray(Image.open(tmp_path / "out/photo.png"))
    sure = np.abs(said[1].astype(float) - 0.5) > 0.3
    assert (said.argmax(0) == mask[2::4, 2::4])[sure].all()


def test_a_photo_that_is_turned_by_exif_is_compared_with_its_mask_as_the_encoder_saw_it(scenes):
    place = scenes / "images/train/00.png"
    sound = place.read_bytes()
    exif = Image.Exif()
    exif[0x0112] = 6
    try:
        scene(0)[0].save(place, exif=exif)  # 64 x 48 as it lies, 48 x 64 as it is shown; maps are of images as they lie
        assert found(scenes).notes == ()
    finally:
        place.write_bytes(sound)


def test_windows_say_of_an_image_of_their_size_what_the_whole_says_and_fit_any_other_size(scenes, learned, tmp_path):
    (tmp_path / "in").mkdir()
    image, _ = scene(3)
    large = np.tile(np.asarray(image), (3, 3, 1))[:101, :150]
    for name, pixels in (("same", np.asarray(image)), ("large", large), ("small", large[:20, :33])):
        Image.fromarray(pixels).save(tmp_path / "in" / f"{name}.png")
    for folder, more in (("whole", ()), ("windows", ("--overlap", "16"))):
        done = call("predict", tmp_path / "in", "--run", "1", "--masks-to", tmp_path / folder, *more, "-w", learned)
        assert done.status == 0, done.errors
    masks = {path.stem: np.asarray(Image.open(path)) for path in (tmp_path / "windows").iterdir()}
    assert {name: mask.shape for name, mask in masks.items()} == {"same": SIZE, "large": (101, 150), "small": (20, 33)}
    whole = np.asarray(Image.open(tmp_path / "whole/same.png"))
    assert (whole == masks["same"]).mean() > 0.998
    assert (masks["large"] == np.where(large.mean(2) > 120, 1, 0)).mean() > 0.85


def test_a_large_tiff_is_read_in_parts_and_gets_the_mask_of_the_whole(scenes, learned, tmp_path, monkeypatch):
    (tmp_path / "in").mkdir()
    large = Image.fromarray(np.tile(np.asarray(scene(5)[0]), (3, 2, 1))[:131, :150])
    tags = ImageFileDirectory_v2()
    tags[278] = 16  # rows a strip
    large.save(tmp_path / "in/large.tif", compression="tiff_lzw", tiffinfo=tags)
    for folder, least in (("parts", 1000), ("whole", 10**9)):
        monkeypatch.setattr(bands, "LARGE_PIXELS", least)
        monkeypatch.setattr(predict_masks, "_NUMBERS", 1000 if folder == "parts" else 10**7)
        if folder == "parts":
            monkeypatch.setattr(predict_masks, "open_rgb", lambda data: pytest.fail("read at once"))
        else:
            monkeypatch.setattr(predict_masks, "open_rgb", decode.open_rgb)
        done = call("predict", tmp_path / "in", "--run", "1", "--masks-to", tmp_path / folder, "--overlap", "8", "-w", learned)
        assert done.status == 0, done.errors
    assert (tmp_path / "parts/large.png").read_bytes() == (tmp_path / "whole/large.png").read_bytes()


def test_a_large_image_goes_on_with_the_row_of_windows_at_which_it_was_killed(scenes, learned, tmp_path, monkeypatch):
    (tmp_path / "in").mkdir()
    tags = ImageFileDirectory_v2()
    tags[278] = 16  # rows a strip
    large = Image.fromarray(np.tile(np.asarray(scene(5)[0]), (6, 2, 1))[:251, :120])
    large.save(tmp_path / "in/large.tif", tiffinfo=tags)
    monkeypatch.setattr(bands, "LARGE_PIXELS", 1000)
    predicted: list[int] = []
    real = predict_masks._logits
    last = [1000]

    def logits(trained, encoder, pixels):
        if len(predicted) == last[0]:
            raise KeyboardInterrupt
        predicted.append(1)
        return real(trained, encoder, pixels)

    monkeypatch.setattr(predict_masks, "_logits", logits)

    def masked(folder: str) -> int:
        predicted.clear()
        with contextlib.suppress(KeyboardInterrupt):
            asked = ("--run", "1", "--masks-to", tmp_path / folder, "--overlap", "8", "-w", learned)
            call("predict", tmp_path / "in", *asked)
        return len(predicted)

    whole = masked("whole")
    strips = next((learned / "experiments").glob("exp_*")) / predict_masks.STRIPS
    assert not list(strips.rglob("part_*"))
    last[0] = whole - 1
    assert masked("killed") == whole - 1
    assert list(strips.rglob("part_*"))
    assert not (tmp_path / "killed/large.png").exists()
    last[0] = 1000
    assert masked("killed") < whole / 2
    assert (tmp_path / "killed/large.png").read_bytes() == (tmp_path / "whole/large.png").read_bytes()
    assert not list(strips.rglob("part_*"))


@pytest.mark.parametrize(("pixels", "places"), [((90, 40), 12), ((12, 9), 12), ((7, 5), 12)], ids=str)
def test_a_field_in_strips_is_enlarged_as_the_whole_is(pixels, places):
    field = np.random.default_rng(0).standard_normal((3, places, 8)).astype(np.float32)
    scale = places / pixels[0], 8 / pixels[1]
    [whole] = predict_masks.enlarged([field], places, pixels, scale)
    assert whole.shape == pixels
    for cuts in ([1], [5, 6], list(range(1, places))):
        strips = np.split(field, cuts, axis=1)
        assert np.array_equal(np.concatenate(list(predict_masks.enlarged(strips, places, pixels, scale))), whole)


@pytest.mark.parametrize(
    ("arguments", "status", "said"),
    [
        (("--overlap", "4"), 2, "--overlap, --overlay, --polygons and --probabilities go with --masks-to DIR"),
        (("--probabilities",), 2, "--overlap, --overlay, --polygons and --probabilities go with --masks-to DIR"),
        (("--polygons",), 2, "--overlap, --overlay, --polygons and --probabilities go with --masks-to DIR"),
        (("--masks-to", "out", "--overlap", "48"), 1, "leaves no step"),
    ],
    ids=["windows without masks", "probabilities without masks", "polygons without masks", "no step"],
)
def test_masks_that_cannot_be_made_are_refused(scenes, learned, arguments, status, said):
    done = call("predict", scenes / "images/test", "--run", "1", *arguments, "-w", learned)
    assert done.status == status
    assert said in done.errors


def test_a_broken_image_and_a_file_that_is_there_cost_their_own_rows(scenes, learned, tmp_path):
    (tmp_path / "in").mkdir()
    (tmp_path / "in/broken.png").write_bytes(b"no image")
    scene(3)[0].save(tmp_path / "in/photo.png")
    before = (tmp_path / "in/photo.png").read_bytes()
    done = call("predict", tmp_path / "in", "--run", "1", "--masks-to", tmp_path / "in", "-w", learned)
    assert done.status == 1
    assert "not_an_image" in done.output
    assert "exists and holds something else" in done.output
    assert (tmp_path / "in/photo.png").read_bytes() == before


def test_a_gpu_of_apple_s_is_asked_for_nothing_that_it_lacks(scenes, monkeypatch):
    words = ("--masks", scenes / "images/masks", "--batch-size", 8)
    ends_as_on_the_cpu(("segment", *words), scenes / "w", monkeypatch)
