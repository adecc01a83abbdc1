"""The recipe segment on patches: learned patch by patch, judged and predicted as masks of whole images."""

import json
import shutil

import numpy as np
import pytest
import torch
from PIL import Image

from headstart.experiments.recipes import segment
from headstart.experiments.training.data.keys import Key
from headstart.experiments.training.data.masked_maps import VOID, MaskOptions, Whole, at_cells, find_masked
from headstart.features.images.windows import windows_of
from headstart.pipeline.errors import HeadstartError
from headstart.pipeline.workspace import open_workspace
from tests.commands.calling import call
from tests.features.cut import SIZES, cut, draw, large_scene, said
from tests.jobs.extraction import work

IMAGES = 12


@pytest.fixture(scope="module")
def done(tmp_path_factory):
    root = tmp_path_factory.mktemp("segment_patches")
    work(cut(draw(root / "data", IMAGES), root / "w"))
    return root


@pytest.fixture
def own(done, tmp_path):
    """Images, masks and workspace that a test may harm, at a place of their own."""
    shutil.copytree(done, tmp_path / "own")
    moved = call("data", "move", "table", tmp_path / "own/data/table.csv", "-w", tmp_path / "own/w")
    assert moved.status == 0, moved.errors
    return tmp_path / "own"


def masked(root, **options):
    return find_masked(open_workspace(root / "w"), None, None, MaskOptions("", **options))


def test_the_mask_of_a_patch_is_cut_out_of_that_of_its_image_and_targets_are_its_cells(done):
    found = masked(done)
    assert (found.classes, found.notes) == (("0", "1"), ())
    train = found.split("train", 2)
    batch = train.batch(np.arange(len(train)), Key((0,)))
    assert batch.target.shape == (len(train), 24, 24)
    for row in (0, 9, len(train) - 1):
        number = int(train.name(row)[3:5])
        x, y, width, height = found.maps.cut.windows[train.items[row]]
        part = large_scene(number)[1][y : y + height, x : x + width]
        np.testing.assert_array_equal(train.truth(row), part)
        np.testing.assert_array_equal(batch.target[row], at_cells(part, 24, 24))
        assert train.whole(row) is None or number < 6


@pytest.mark.parametrize("size", [(90, 120), (48, 100), (48, 48), (30, 60), (97, 131)], ids=str)
def test_stitched_patches_of_one_field_are_that_field(size):
    random = np.random.default_rng(0)
    field = random.standard_normal((3, *size)).astype(np.float32)
    whole = Whole(size, 48, 16, np.zeros(size, np.uint8))
    patches = []
    for x, y, width, height in windows_of(*size, 48, 16):
        patch = np.full((3, 48, 48), 9, np.float32)  # beyond the image anything may be said
        patch[:, :height, :width] = field[:, y : y + height, x : x + width]
        patches.append(torch.from_numpy(patch))
    rest = iter([*patches, "the next image's"])
    np.testing.assert_array_equal(segment._stitched(whole, rest), field.argmax(0))
    assert next(rest) == "the next image's"


def test_a_head_on_patches_is_judged_by_the_masks_of_whole_images_that_predict_writes(done, tmp_path):
    shutil.copytree(done / "w", tmp_path / "w")
    learn = ("train", "segment", "--epochs", "10", "--batch-size", "16", "--threads", "1")
    trained = call(*learn, "-w", tmp_path / "w")
    assert trained.status == 0, trained.errors
    [folder] = (tmp_path / "w/experiments").glob("exp_*")
    judged = json.loads((folder / "test_results.json").read_text())
    pixels = sum(SIZES[number % 3][0] * SIZES[number % 3][1] for number in (9, 10, 11))
    assert np.sum(judged["confusion_matrix"]) == pixels  # each once, however patches overlap
    assert judged["miou"] > 0.8
    shown = sorted((folder / "shown").glob("*.png"))
    assert len(shown) == 3
    height, width = SIZES[9 % 3]
    assert (width * 2, height * 2) in {Image.open(path).size for path in shown}
    test = [done / f"data/in/{number:02}.png" for number in (9, 10, 11)]
    asked = call("predict", *test, "--run", "1", "--masks-to", tmp_path / "out", "-w", tmp_path / "w")
    assert asked.status == 0, asked.errors
    confusion = np.zeros((2, 2), int)
    for number in (9, 10, 11):
        mask, truth = np.asarray(Image.open(tmp_path / f"out/{number:02}.png")), large_scene(number)[1]
        np.add.at(confusion, (truth.ravel(), mask.ravel()), 1)
    # Stitched on the places of the maps instead of pixels: what lies between two places may go to the other class.
    assert np.abs(confusion - judged["confusion_matrix"]).sum() < 0.03 * pixels
    # Nothing else decides: the same command finds the same experiment.
    assert call(*learn, "-w", tmp_path / "w").status == 0
    assert len(list((tmp_path / "w/experiments").glob("exp_*"))) == 1


def _void_patch(own):
    mask = large_scene(0)[1].copy()
    mask[:48, :48] = 255
    Image.fromarray(mask).save(own / "data/in/00_mask.png")


def _void(own):
    Image.new("L", SIZES[0][::-1], 255).save(own / "data/in/00_mask.png")


def _other_size(own):
    Image.new("L", (10, 10)).save(own / "data/in/00_mask.png")


def _strange(own):
    mask = large_scene(9)[1].copy()
    mask[40:50] = 7  # in two rows of patches
    Image.fromarray(mask).save(own / "data/in/09_mask.png")


def _without_job(own):
    """As after an image that broke between its patches: a job without one of them."""
    folder = own / "w/features/patches_v001"
    last = max(folder.glob("done/*/*.done"))
    last.unlink()


LEFT = "left out because "


@pytest.mark.parametrize(
    ("harm", "notes"),
    [
        (_void_patch, []),
        (_void, [LEFT + "the mask is void everywhere: 1 image, such as in/00.png"]),
        (_other_size, [LEFT + "the mask has another size: 1 image, such as in/00.png: the mask has another size (10 x 10, "]),
        (_strange, ["1,200 pixels have the value 7, which is no class of the training masks (first in in/09.png)"]),
    ],
    ids=["a void patch", "all void", "another size", "a class only in test"],
)
def test_masks_are_looked_at_once_an_image_and_a_patch_that_they_say_nothing_of_teaches_nothing(own, harm, notes):
    before = len(masked(own).split("train", 1))
    harm(own)
    found = masked(own)
    assert len(found.notes) == len(notes)
    assert all(note in said for note, said in zip(notes, found.notes, strict=True))
    after = len(found.split("train", 1))
    assert after == {_void_patch: before - 1, _strange: before}.get(harm, before - len(windows_of(*SIZES[0], 48, 16)))
    assert not any((found.split("train", 1).truth(row) == VOID).all() for row in range(after))


def _masks_apart(root):
    """The images of `draw`, and their masks in a folder of their own with the same stems."""
    table = draw(root / "data", IMAGES)
    (root / "apart/in").mkdir(parents=True)
    for mask in sorted((root / "data/in").glob("*_mask.png")):
        mask.rename(root / "apart/in" / f"{mask.name[:2]}.png")
    return table


def test_masks_of_a_folder_apart_are_found_from_anywhere_and_links_out_of_it_are_named_and_not_read(tmp_path, monkeypatch):
    table = _masks_apart(tmp_path)
    secret = (tmp_path / "apart/in/00.png").rename(tmp_path / "secret.png")
    (tmp_path / "apart/in/00.png").symlink_to(secret)
    monkeypatch.chdir(tmp_path)
    words = said(table, tmp_path / "w", "--patches", "48", "--overlap", "16", "--masks", "apart")
    why = "in/00.png: a symbolic link leads out of the data folder; --allow-symlinks accepts it"
    assert f"of 1 image the mask leads out of its folder and will not be read, such as in/00.png ({why})" in words
    work(open_workspace(tmp_path / "w"))
    monkeypatch.chdir("/")
    found = masked(tmp_path)
    [note] = found.notes
    assert note == (
        f"left out because its mask leads out of its folder: 1 image, such as in/00.png: its mask leads out of its folder ({why})"
    )
    assert len({found.name_of(item) for item in found.items.tolist()}) == IMAGES - 1
    (tmp_path / "apart").rename(tmp_path / "elsewhere")
    with pytest.raises(HeadstartError, match=r"apart, where masks of patches lay, is gone. Say where they are: --masks DIR"):
        masked(tmp_path)


@pytest.mark.parametrize("path", ["../secret.png", "/secret.png"])
def test_a_column_that_leads_out_of_the_data_is_named_when_patches_are_cut_and_never_read(tmp_path, path):
    table = draw(tmp_path / "data", IMAGES)
    (tmp_path / "data/in/00_mask.png").rename(tmp_path / "secret.png")
    path = path if path.startswith(".") else f"{tmp_path}{path}"
    table.write_text(table.read_text().replace("in/00_mask.png", path))
    why = f"{path}: absolute paths and '..' are refused"
    words = said(table, tmp_path / "w")
    assert f"of 1 image the mask leads out of its folder and will not be read, such as in/00.png ({why})" in words
    work(open_workspace(tmp_path / "w"))
    [note] = masked(tmp_path).notes
    assert note.endswith(f"such as in/00.png: its mask leads out of its folder ({why})")


def test_patches_that_are_not_done_are_said_instead_of_training_on_a_part(own):
    _without_job(own)
    with pytest.raises(HeadstartError, match=r"parts of images have no map yet. Finish them first: headstart work"):
        masked(own)


def test_an_image_without_some_of_its_patches_is_not_judged_and_is_named(tmp_path):
    table = draw(tmp_path / "data", IMAGES)
    for name in ("08", "11"):  # one to validate on, one to test on
        sound = (tmp_path / f"data/in/{name}.png").read_bytes()
        (tmp_path / f"data/in/{name}.png").write_bytes(sound[: len(sound) // 2])
    workspace = cut(table, tmp_path / "w")
    work(workspace)
    found = masked(tmp_path)
    names = {split: {found.split(split, 1).name(row) for row in range(len(found.split(split, 1)))} for split in ("val", "test")}
    assert names == {"val": {"in/06.png", "in/07.png"}, "test": {"in/09.png", "in/10.png"}}
    [note] = found.notes
    assert "parts of images have no map, so masks are not used: headstart status --failed has the names" in note


def test_where_both_are_there_patches_are_taken_only_if_they_are_asked_for(own):
    whole = ("enqueue", own / "data/table.csv", "--encoder", "test_efficientnet", "--weights", "random:0")
    assert call(*whole, "--image-size", "48x64", "--maps", "4,8", "-w", own / "w").status == 0
    work(open_workspace(own / "w"))
    workspace = open_workspace(own / "w")
    options = MaskOptions("mask")
    assert find_masked(workspace, None, None, options).maps.cut is None
    assert find_masked(workspace, None, None, options, "v001").maps.cut is not None
    with pytest.raises(HeadstartError, match=r"no such patches as v009 in .*; there are v001: patches of 48 that overlap by 16"):
        find_masked(workspace, None, None, options, "v009")


def test_a_value_that_classes_do_not_name_is_said_to_be_none_of_these(done):
    [note] = masked(done, classes=("ground",)).notes
    assert "pixels have the value 1, which is no class of --classes (first in in/" in note


def test_a_head_on_patches_is_exported_with_its_encoder_where_no_whole_image_has_features(own, tmp_path):
    import onnxruntime

    assert call("train", "segment", "--epochs", "1", "--threads", "1", "-w", own / "w").status == 0
    export = ("export", "--run", "1", "--with-encoder", "--half", "--output", tmp_path / "window.onnx", "-w", own / "w")
    done = call(*export)
    assert done.status == 0, done.errors
    assert "from float32 on 40 images of the data" in done.output
    session = onnxruntime.InferenceSession(str(tmp_path / "window.onnx"), providers=["CPUExecutionProvider"])
    [window] = session.run(None, {"images": large_scene(3)[0][None, :48, :48]})
    assert window.shape[:2] == (1, 2)
    shutil.rmtree(own / "data/in")
    assert "none of the images of patches v001 that were tried can be read" in call(*export, "--force").reason


def test_what_comes_next_after_patches_is_the_recipe_that_learns_on_them(own):
    assert "next: headstart train segment\n" in call("work", "-w", own / "w").errors
    refused = call("train-head", "-w", own / "w").reason
    assert "has features of patches, none of whole images. Learn on patches: headstart train segment" in refused


def test_a_file_of_the_head_alone_is_refused_with_the_way_to_one_of_pixels(own, tmp_path):
    assert call("train", "segment", "--epochs", "1", "--threads", "1", "-w", own / "w").status == 0
    refused = call("export", "--run", "1", "--output", tmp_path / "head.onnx", "-w", own / "w").reason
    assert "Add --with-encoder --half" in refused


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--masks-to", "out"), "it is not said whose masks. Name a run of the recipe segment: --run N"),
        (("--run", "1"), "Say where its masks go: --masks-to DIR"),
        ((), "among runs of headstart train-head, and there is none. Name another run by its number, such as 1"),
    ],
    ids=["no run named", "no place for masks", "nothing said"],
)
def test_predict_says_what_a_run_of_masks_alone_needs(words, said, own):
    assert call("train", "segment", "--epochs", "1", "--threads", "1", "-w", own / "w").status == 0
    assert said in call("predict", own / "data/in/00.png", *words, "-w", own / "w").reason
