"""The recipe critic, and what it says of pictures that a run of diffusion draws."""

import json

import numpy as np
import pytest
from PIL import Image

from headstart.experiments.designs.description import SCORES
from headstart.experiments.evaluation.evaluate_designs import evaluate_designs
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


def test_the_same_seed_gives_the_same_numbers_and_another_one_other_pictures(trained):
    first, again, other = (evaluate_designs(1, 2, trained, most=3, steps=3, seed=seed) for seed in (0, 0, 1))
    assert first.as_json() == again.as_json()
    assert first.numbers["drawn"] != other.numbers["drawn"]


def test_a_person_reads_a_line_for_each_kind(trained):
    done = call("evaluate", 1, "--judge", 2, "--split", "val", "-w", trained)
    assert done.status == 0, done.errors
    assert [line.split()[0] for line in done.output.splitlines()[3:8]] == KINDS
    assert "drew from descriptions of the split 'val'" in done.output


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
