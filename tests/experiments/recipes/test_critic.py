"""The recipe critic, and what it says of pictures that a run of diffusion draws."""

import hashlib
import json
import math
import shutil

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file

from headstart.experiments.designs.blocks import as_input
from headstart.experiments.designs.critic_network import CriticNetwork
from headstart.experiments.designs.data_set import find_designs
from headstart.experiments.designs.description import SCORES
from headstart.experiments.designs.rewarded import RewardedDesigns, score_of
from headstart.experiments.evaluation import trained_model as trained_models
from headstart.experiments.evaluation.evaluate_designs import evaluate_designs
from headstart.experiments.evaluation.trained_model import trained_model
from headstart.experiments.recipes import diffusion
from headstart.experiments.training.data.sets import Arrays
from headstart.pipeline.errors import HeadstartError
from headstart.pipeline.workspace import open_workspace
from tests.commands.calling import call
from tests.experiments.designs.made import make_designs

from .on_fake_gpu import ends_as_on_the_cpu

QUICK = ("--image-size", 16, "--width", 8, "--batch-size", 8, "--threads", 1)
KINDS = ["drawn", "real", "blurred", "noisy", "noise"]

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """Run 1 draws, 2 judges, 3 judges larger pictures."""
    root = make_designs(tmp_path_factory.mktemp("critic"), 200)
    for words in (
        ("diffusion", *QUICK, "--timesteps", 50, "--epochs", 1),
        ("critic", *QUICK, "--epochs", 12, "--learning-rate", 0.003),
        ("critic", *QUICK, "--image-size", 32, "--epochs", 1),
    ):
        done = call("train", *words, "-w", root)
        assert done.status == 0, done.errors
    return root


def test_numbers_of_a_critic_stand_beside_guessing(trained):
    said = json.loads((trained / "experiments" / "exp_0002_critic" / "test_results.json").read_text())
    assert said["grammar_error"] == pytest.approx(np.mean([said[f"{score}_error"] for score in SCORES]))
    assert list(said["error_of_guessing_the_median"]) == list(SCORES)
    assert said["format_accuracy"] > 0.5  # of three; posters, slides and cards differ in what is around the page


def test_a_judge_may_have_learnt_from_other_designs(trained, tmp_path):
    root = shutil.copytree(trained, tmp_path / "workspace")
    assert make_designs(tmp_path, 100, "--seed", 1) == root
    [made] = set((root / "features").glob("made_*")) - {
        root / path.relative_to(trained) for path in trained.glob("features/made_*")
    }
    done = call("train", "critic", *QUICK, "--epochs", 1, "--name", "elsewhere", "--made", made.name, "-w", root)
    assert done.status == 0, done.errors
    ours, theirs = (evaluate_designs(1, judge, root).numbers for judge in (2, 4))
    assert ours["real"]["nearest"] == theirs["real"]["nearest"]  # the same designs are judged
    assert ours["real"]["distance"] != theirs["real"]["distance"]


def test_pictures_are_judged_beside_real_ones(trained, tmp_path):
    done = call("evaluate", 1, "--judge", 2, "-o", tmp_path, "--json", "-w", trained)
    assert done.status == 0, done.errors
    numbers = done.json["numbers"]
    assert list(numbers) == KINDS
    assert done.json["images"] == 20
    noted = json.loads((trained / "experiments" / "exp_0002_critic" / "test_results.json").read_text())
    for name in ("goal_accuracy", "format_accuracy", "tone_error"):
        assert numbers["real"][name] == pytest.approx(noted[name])  # the same designs as in its own test
    assert numbers["real"]["diversity"] == 1
    assert numbers["noise"]["flatness"] < numbers["noisy"]["flatness"] < numbers["real"]["flatness"]
    assert numbers["real"]["distance"] < numbers["noise"]["distance"]
    assert list(done.json["distance_by_count"]) == ["2", "5", "10", "20"]
    assert done.json["distance_by_count"]["20"]["drawn"] == numbers["drawn"]["distance"]
    sizes = {path.name: Image.open(path).size for path in tmp_path.iterdir()}
    assert sizes == {"drawn.png": (8 * 146, 8 * 56), "nearest.png": (8 * 290, 8 * 38)}


def test_the_nearest_real_design_is_one_of_all_that_no_training_saw(trained):
    parts = find_designs(open_workspace(trained), None).splits(16).named()
    images = {name: rows.batch(np.arange(20), None).image.double() for name, rows in parts.items() if name != "train"}
    learnt = parts["train"].batch(np.arange(160), None).image.double()
    least = min(float((one - learnt).square().mean((1, 2, 3)).sqrt().min()) for rows in images.values() for one in rows)
    one, other = (evaluate_designs(1, 2, trained, split=split, most=2, steps=1).numbers for split in ("test", "val"))
    assert one["real"]["nearest"] == other["real"]["nearest"] == pytest.approx(least)


def test_the_same_seed_gives_the_same_numbers_and_another_one_other_pictures(trained):
    first, again, other = (evaluate_designs(1, 2, trained, most=3, steps=3, seed=seed) for seed in (0, 0, 1))
    assert first.as_json() == again.as_json()
    assert first.numbers["drawn"] != other.numbers["drawn"]


def test_a_person_reads_a_line_for_each_kind(trained):
    done = call("evaluate", 1, "--judge", 2, "--split", "val", "-w", trained)
    assert done.status == 0, done.errors
    assert [line.split()[0] for line in done.output.splitlines()[3:8]] == KINDS
    assert "drew from descriptions of the split 'val'" in done.output
    assert done.output.strip().endswith("Of real: of all real designs that no training saw")


def grammar(root, *pictures):
    """The mean score of each picture by run 2."""
    network, about = trained_model(open_workspace(root), 2, CriticNetwork, "judges")[1:]
    images = torch.from_numpy(np.stack([np.asarray(Image.open(one)) for one in pictures])).permute(0, 3, 1, 2)
    with torch.inference_mode():
        return score_of(network, as_input(images), about, "grammar").numpy()


def test_ascent_gives_each_picture_a_higher_score_and_the_same_for_the_same_seed(trained, tmp_path):
    words = ("sample", 1, "--count", 3, "--steps", 4, "--guidance", 1, "-w", trained)
    for name, more in (("plain", ()), ("higher", UPWARDS), ("again", UPWARDS)):
        done = call(*words, *more, "-o", tmp_path / name)
        assert done.status == 0, done.errors
    names = sorted(path.name for path in (tmp_path / "plain").iterdir())
    plain, higher = (grammar(trained, *(tmp_path / name / one for one in names)) for name in ("plain", "higher"))
    assert (higher > plain).all()
    assert all((tmp_path / "higher" / one).read_bytes() == (tmp_path / "again" / one).read_bytes() for one in names)


UPWARDS = ("--ascend", "grammar", "--critic", 2, "--ascent-steps", 5)
TUNED = ("diffusion", *QUICK, "--timesteps", 50, "--tune", 1, "--tune-for", "grammar", "--critic", 2)


def test_a_run_is_gone_on_from_and_learns_more_of_better_designs(trained):
    done = call("train", *TUNED, "--epochs", 1, "--learning-rate", 1e-9, "--ema", 0, "--name", "tuned", "-w", trained)
    assert done.status == 0, done.errors
    [folder] = (trained / "experiments").glob("exp_*_tuned")
    first, after = (
        load_file(one / "checkpoints" / "final.safetensors") for one in (trained / "experiments" / "exp_0001_diffusion", folder)
    )
    assert all(torch.allclose(first[name], after[name], atol=1e-5) for name in first)
    settled = json.loads((folder / "experiment.json").read_text())["settled"]
    assert settled["tune"] == "exp_0001_diffusion"
    assert settled["critic"] == "exp_0002_critic"
    assert call("evaluate", int(folder.name.split("_")[1]), "--judge", 2, "-w", trained).status == 0


def test_to_compare_options_no_weights_are_loaded_and_absent_ones_are_one_line(trained, monkeypatch):
    monkeypatch.setattr(trained_models, "model_of", lambda experiment: pytest.fail("its network was built"))
    options, opened = diffusion.Options(image_size=16, width=8, timesteps=50, tune="1"), open_workspace(trained)
    weights = trained / "experiments" / "exp_0001_diffusion" / "checkpoints" / "final.safetensors"
    splits = diffusion.data(options, opened)
    assert splits.settled["tune"] == "exp_0001_diffusion"
    assert splits.about["tuned_from"] == hashlib.sha256(weights.read_bytes()).hexdigest()
    weights.rename(weights.with_suffix(".away"))
    try:
        with pytest.raises(HeadstartError, match=r"final.safetensors is missing. The same headstart train command"):
            diffusion.data(options, opened)
    finally:
        weights.with_suffix(".away").rename(weights)


def test_better_designs_count_for_more():
    made = Arrays(image=np.zeros((3, 1), np.float32))
    rows = RewardedDesigns(made, np.array([0.5, 0.6, 0.4]), 10.0)
    reward = rows.batch(np.arange(3), None).reward.numpy()
    assert reward[1] / reward[0] == pytest.approx(math.e)
    assert reward[0] / reward[2] == pytest.approx(math.e)
    assert reward.mean() == pytest.approx(1)
    assert rows.digest != RewardedDesigns(made, np.array([0.5, 0.6, 0.4]), 5.0).digest


@pytest.mark.parametrize(
    ("words", "why"),
    [
        pytest.param(
            ["train", "diffusion", *QUICK, "--tune-for", "grammar"], "--tune-for and --critic belong together", id="no critic"
        ),
        pytest.param(["train", *TUNED, "--width", 16], "Give the same: --image-size 16 --patch 2 --width 8", id="other network"),
        pytest.param(["train", *TUNED, "--critic", 3], "judges pictures of 32 pixels, not of 16", id="critic of other sizes"),
        pytest.param(["train", *TUNED, "--tune", 2], "run 2 is no finished training that draws", id="goes on from a critic"),
        pytest.param(["sample", 1, "--ascend", "contrast"], "--ascend and --critic belong together", id="nobody to ask"),
        pytest.param(["sample", 1, "--ascend", "beauty", "--critic", 2], "is not one of", id="unknown score"),
        pytest.param(
            ["sample", 1, "--ascend", "contrast", "--critic", 3], "judges pictures of 32 pixels", id="asks for other sizes"
        ),
    ],
)
def test_a_mistake_in_tuning_is_one_line(trained, tmp_path, words, why):
    more = ("-o", tmp_path / "out") if words[0] == "sample" else ()
    done = call(*words, *more, "-w", trained)
    assert done.status in (1, 2)
    assert why in done.errors
    assert "Traceback" not in done.errors


@pytest.mark.parametrize(
    ("words", "why"),
    [
        pytest.param([1, "--judge", 3], "Train one: headstart train critic --image-size 16", id="judge of another size"),
        pytest.param([1, "--judge", 1], "run 1 is no finished training that judges pictures", id="judge that draws"),
        pytest.param([2, "--judge", 2], "run 2 is no finished training that draws", id="run that judges"),
        pytest.param([1, "--judge", 9], "run 9 is no finished training", id="no such run"),
        pytest.param([1, "--judge", 2, "--csv"], "--csv and --judge exclude each other", id="table"),
        pytest.param([1, "--judge", 2, "--reader", 2], "--reader and --judge exclude each other", id="two judges"),
        pytest.param([1, "-o", "pictures"], "--output is for --judge", id="pictures of a head"),
    ],
)
def test_a_mistake_is_one_line(trained, words, why):
    done = call("evaluate", *words, "-w", trained)
    assert done.status in (1, 2)
    assert why in done.errors
    assert "Traceback" not in done.errors


@pytest.mark.parametrize("size", [16, 64])
def test_a_critic_takes_each_size(trained, size):
    done = call("train", "critic", *QUICK, "--image-size", size, "--epochs", 1, "--dry-run", "-w", trained)
    assert done.status == 0, done.errors


def test_a_size_that_is_no_part_of_a_design_is_one_line(trained):
    done = call("train", "critic", "--image-size", 20, "-w", trained)
    assert done.status == 1
    assert "--image-size 20 does not fit" in done.errors


def test_a_gpu_of_apple_s_is_asked_for_nothing_that_it_lacks(trained, monkeypatch):
    ends_as_on_the_cpu(("critic", *QUICK), trained, monkeypatch)
