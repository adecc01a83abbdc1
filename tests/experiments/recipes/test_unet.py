"""The recipe unet on a few designs: its numbers on structures made by hand, a short training, overlays and predictions."""

import json

import numpy as np
import pytest
import torch
from PIL import Image

from headstart.experiments.designs.description import COLOURS
from headstart.experiments.designs.unet_network import FoldedStructure, UNet, structure_of
from headstart.experiments.recipes import unet
from headstart.experiments.training.data.batch import Batch, Facts
from headstart.experiments.training.judging.metrics import Metric
from tests.commands.calling import call
from tests.experiments.designs.made import make_designs, make_others

from .on_fake_gpu import ends_as_on_the_cpu

QUICK = ("--image-size", 32, "--fold", 2, "--width", 4, "--epochs", 2, "--batch-size", 8, "--threads", 1)
ABOUT = Facts({"image_size": 32, "colours": list(COLOURS)})


pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    return make_designs(tmp_path_factory.mktemp("unet"), 40)


@pytest.fixture(scope="module")
def trained(made):
    done = call("train", "unet", *QUICK, "-w", made)
    assert done.status == 0, done.errors
    return made


def folder(root):
    return root / "experiments" / "exp_0001_unet"


def test_every_number_has_an_interval_and_evaluate_says_it_again(trained):
    said = json.loads((folder(trained) / "test_results.json").read_text())
    names = ("text_iou", "image_iou", "colour_accuracy", "hierarchy_error", "hierarchy_error_inside")
    for name in names:
        assert 0 <= said[name] <= 1
        low, high = said[f"{name}_interval"]
        assert low is None or low <= said[name] <= high  # none where all four designs say the same
    assert said["colour_accuracy_interval"][0] is not None
    again = call("evaluate", 1, "--json", "-w", trained).json
    assert [again[name] for name in names] == [said[name] for name in names]


def test_overlays_show_designs_of_the_test_split(trained):
    pictures = sorted((folder(trained) / "shown").glob("design_*.png"))
    assert [path.stem for path in pictures] == ["design_000000", "design_000010", "design_000020", "design_000030"]
    assert Image.open(pictures[0]).size == (5 * 32, 32)


def test_a_png_of_any_size_is_read(trained, tmp_path):
    Image.new("RGB", (90, 50), (30, 150, 160)).save(tmp_path / "plain.png")
    (tmp_path / "broken.png").write_bytes(b"no image")
    done = call("predict", tmp_path / "plain.png", tmp_path / "broken.png", "--run", 1, "--json", "-w", trained)
    assert "Traceback" not in done.errors
    plain, broken = sorted(done.json["predictions"], key=lambda one: "error" in one)
    assert broken["error"].startswith("not_an_image")
    assert sum(plain["colours"].values()) <= 1.001
    for box in plain["text"] + plain["image"]:
        assert 0 <= box[0] < box[2] <= 90
        assert 0 <= box[1] < box[3] <= 50


def logits_for(structure):
    """What a network would have to say to be right about everything."""
    masks = 20 * (structure[:, :2].float() * 2 - 1)
    colours = 20 * torch.nn.functional.one_hot(structure[:, 2].long(), len(COLOURS)).permute(0, 3, 1, 2).float()
    return torch.cat([masks, colours, torch.logit(structure[:, 3:].float() / 255, eps=1e-6)], 1)


class SeenInSquares(torch.nn.Module):
    """Says what it was told, logits (b, 2 + k + 1, 8, 8), in squares of 2 x 2 pixels."""

    fold = 2

    def __init__(self, said):
        super().__init__()
        self.said = torch.nn.functional.pixel_unshuffle(said, 2).unflatten(1, (said.shape[1], 4))

    def folded(self, shown):
        return FoldedStructure(self.said[:, :2], self.said[:, 2:-1].permute(0, 3, 4, 2, 1), self.said[:, -1])


def judged(said, structure):
    batch = Batch({"image": torch.zeros(len(structure), 3, 8, 8, dtype=torch.uint8), "structure": structure})
    return {one.name: one.value for one in unet.evaluate(SeenInSquares(said), [batch]) if isinstance(one, Metric)}


def by_hand():
    """Two designs of 8 x 8: text is a row of eight pixels, a picture is 4 x 4."""
    structure = torch.zeros(2, 4, 8, 8, dtype=torch.uint8)
    structure[:, 0, 0] = 1
    structure[:, 1, 4:, 4:] = 1
    structure[:, 2, 4:, 4:] = 1
    structure[:, 3, 0] = 51
    return structure


def test_what_is_all_right_has_the_best_numbers():
    said = judged(logits_for(by_hand()), by_hand())
    assert said == pytest.approx(
        {"text_iou": 1, "image_iou": 1, "colour_accuracy": 1, "hierarchy_error": 0, "hierarchy_error_inside": 0}, abs=1e-5
    )


def test_what_is_half_right_is_counted_pixel_by_pixel():
    truth, claimed = by_hand(), by_hand()
    claimed[0, 0] = 0  # the text of one of two is missed
    claimed[:, 1, 4:, :4] = 1  # twice the picture
    claimed[:, 2] = 0  # no colour of a picture: 16 of 64 pixels
    claimed[:, 3, 0] = 102  # 0.2 too prominent on 8 of 64 pixels
    said = judged(logits_for(claimed), truth)
    expected = {
        "text_iou": 0.5,
        "image_iou": 0.5,
        "colour_accuracy": 0.75,
        "hierarchy_error": 0.025,
        "hierarchy_error_inside": 0.2,
    }
    assert said == pytest.approx(expected, abs=1e-5)


def test_a_design_without_pictures_does_not_count_for_their_iou():
    truth = by_hand()
    truth[1, 1] = 0
    assert judged(logits_for(truth), truth)["image_iou"] == pytest.approx(1)


@pytest.mark.parametrize("fold", [1, 2, 4])
def test_the_answer_has_the_size_of_the_image_whatever_the_fold(fold):
    network = unet.model(unet.Options(fold=fold, width=4), ABOUT)
    assert network(torch.zeros(1, 3, 64, 64)).shape == (1, 2 + len(COLOURS) + 1, 64, 64)


def test_the_loss_of_a_few_designs_falls(made):
    from headstart.experiments.designs.data_set import find_designs
    from headstart.pipeline.workspace import open_workspace

    class Here:
        options = unet.Options(image_size=32, fold=2, width=4)

    torch.manual_seed(0)
    batch = find_designs(open_workspace(made), None).splits(32).train.batch(np.arange(4), None)
    network = unet.model(Here.options, ABOUT)
    optimizer = torch.optim.AdamW(network.parameters(), 1e-2)
    losses = []
    for _ in range(15):
        value, _ = unet.loss(network, batch, Here)
        optimizer.zero_grad()
        value.backward()
        optimizer.step()
        losses.append(float(value.detach()))
    assert losses[-1] < 0.8 * losses[0]


def test_no_picture_at_all_is_no_loss():
    """Dice of an empty mask that is seen as empty is 0, with a gradient that is finite."""
    logits = torch.full((1, 2, 8, 8), -30.0, requires_grad=True)
    value = unet._dice_loss(logits, torch.zeros(1, 2, 8, 8))
    value.backward()
    assert value.item() == pytest.approx(0, abs=1e-6)
    assert torch.isfinite(logits.grad).all()


@pytest.mark.parametrize(
    ("words", "why"),
    [
        pytest.param(["--image-size", 48], "--image-size 48 does not fit", id="no part of 256"),
        pytest.param(["--image-size", 32, "--fold", 8], "expected one of 64, 128, 256", id="too small for the fold"),
        pytest.param(["--fold", 3], "does not fit", id="fold of no size"),
        pytest.param(["--fold", 0], "expected 1 or more", id="no fold"),
        pytest.param(["--width", 0], "expected 4 or more", id="no width"),
        pytest.param(["--dice", -1], "expected 0 or more", id="negative weight"),
        pytest.param(["--made", "logos"], "there is only made_designs_", id="nothing of that name"),
    ],
)
def test_a_mistake_is_one_line(made, words, why):
    done = call("train", "unet", *words, "-w", made)
    assert done.status in (1, 2)
    assert why in done.errors
    assert "Traceback" not in done.errors


def test_designs_of_other_channels_are_one_line(tmp_path):
    root = make_others(tmp_path, "structure", "np.zeros((5, 256, 256), np.uint8)")
    done = call("train", "unet", *QUICK, "-w", root)
    assert done.status == 1
    assert "expected uint8 (4, 256, 256)" in done.errors
    assert "Traceback" not in done.errors


def test_a_gpu_of_apple_s_is_asked_for_nothing_that_it_lacks(made, monkeypatch):
    ends_as_on_the_cpu(("unet", *QUICK), made, monkeypatch)


def test_a_network_says_the_same_in_squares_and_laid_out():
    torch.manual_seed(0)
    network, image = UNet(2, 4, 3), torch.randint(0, 256, (2, 3, 32, 32), dtype=torch.uint8)
    with torch.inference_mode():
        whole, said = structure_of(network, image), network.folded(image)
    shuffled = torch.nn.functional.pixel_shuffle
    assert torch.equal(shuffled(said.masks.flatten(1, 2), 2), whole.masks)
    assert torch.equal(shuffled(said.prominence, 2)[:, 0].sigmoid(), whole.hierarchy)
    assert torch.equal(shuffled(said.colours.permute(0, 4, 3, 1, 2).flatten(1, 2), 2), whole.colours)
