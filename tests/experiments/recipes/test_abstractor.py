"""The recipe abstractor on a few designs: its numbers on answers made by hand, what it can tell apart, and a short training."""

import json

import numpy as np
import pytest
import torch
from PIL import Image

from headstart.experiments.designs.description import DESIGN_FORMATS, GOALS, SCORES
from headstart.experiments.recipes import abstractor
from headstart.experiments.training.data.batch import Batch, Facts
from headstart.experiments.training.judging.metrics import Metric
from tests.commands.calling import call
from tests.experiments.designs.made import make_designs, make_others
from tests.experiments.recipes.said import Said

from .on_fake_gpu import ends_as_on_the_cpu

QUICK = ("--image-size", 32, "--width", 8, "--rounds", 1, "--epochs", 2, "--batch-size", 8, "--threads", 1)
ABOUT = Facts({"image_size": 32, "goals": list(GOALS), "formats": list(DESIGN_FORMATS)})


pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    return make_designs(tmp_path_factory.mktemp("abstractor"), 40)


def test_every_number_stands_beside_guessing_and_evaluate_says_it_again(made):
    done = call("train", "abstractor", *QUICK, "-w", made)
    assert done.status == 0, done.errors
    said = json.loads((made / "experiments" / "exp_0001_abstractor" / "test_results.json").read_text())
    names = ["grammar_error", "goal_accuracy", "format_accuracy", "tone_error"]
    names += [f"{score}_{kind}" for score in SCORES for kind in ("error", "correlation")]
    assert all(-1 <= said[name] <= 1 for name in names)
    assert said["grammar_error"] == pytest.approx(np.mean([said[f"{score}_error"] for score in SCORES]))
    assert list(said["error_of_guessing_the_median"]) == list(SCORES)
    low, high = said["grammar_error_interval"]
    assert low < said["grammar_error"] < high
    again = call("evaluate", 1, "--json", "-w", made).json
    assert [again[name] for name in names] == [said[name] for name in names]


@pytest.fixture(scope="module")
def seen(made):
    """An abstractor, run 1, then a unet that sees for it, and one of other pictures."""
    for words in (
        ("abstractor", *QUICK),
        ("unet", "--image-size", 32, "--width", 4, "--fold", 2, "--epochs", 1, "--threads", 1, "--name", "eyes"),
        ("unet", "--image-size", 64, "--width", 4, "--epochs", 1, "--threads", 1, "--name", "others"),
    ):
        done = call("train", *words, "-w", made)
        assert done.status == 0, done.errors
    return made


def test_what_a_unet_sees_is_judged_beside_the_truth(seen):
    done = call("evaluate", 1, "--seen-by", 2, "--json", "-w", seen)
    assert done.status == 0, done.errors
    noted = json.loads((seen / "experiments" / "exp_0001_abstractor" / "test_results.json").read_text())
    assert done.json["designs"] == 4
    assert done.json["numbers"]["true"]["grammar_error"] == pytest.approx(noted["grammar_error"])
    assert done.json["numbers"]["seen"]["grammar_error"] != done.json["numbers"]["true"]["grammar_error"]
    words = call("evaluate", 1, "--seen-by", 2, "-w", seen).output
    assert "by their true structure, and by what exp_0002_eyes sees of them" in words
    assert all(f"{score} error" in words for score in SCORES)


def test_a_picture_is_seen_and_judged(seen, tmp_path):
    Image.new("RGB", (80, 60), "white").save(tmp_path / "poster.png")
    (tmp_path / "broken.png").write_bytes(b"no picture")
    done = call("predict", tmp_path, "--run", 1, "--json", "-w", seen)
    assert done.output, done.errors
    said = {entry["path"]: entry for entry in done.json["predictions"]}
    [poster] = [entry for name, entry in said.items() if name.endswith("poster.png")]
    assert poster["goal"] in GOALS
    assert poster["format"] in DESIGN_FORMATS
    assert all(0 <= poster[name] <= 1 for name in (*SCORES, "tone"))
    assert {"text", "image", "colours"} <= poster.keys()
    [broken] = [entry for name, entry in said.items() if name.endswith("broken.png")]
    assert "error" in broken


def test_without_a_unet_of_that_size_nothing_is_seen(made, seen, tmp_path):
    done = call("train", "abstractor", *QUICK, "--image-size", 16, "--name", "blind", "-w", made)
    assert done.status == 0, done.errors
    Image.new("RGB", (80, 60), "white").save(tmp_path / "poster.png")
    done = call("predict", tmp_path / "poster.png", "--run", 4, "-w", made)
    assert done.status == 1
    assert "First: headstart train unet --image-size 16" in done.errors


@pytest.mark.parametrize(
    ("words", "why"),
    [
        pytest.param([1, "--seen-by", 3], "First: headstart train unet --image-size 32", id="eyes for other sizes"),
        pytest.param([1, "--seen-by", 1], "run 1 is no finished training that sees structure", id="no eyes"),
        pytest.param([2, "--seen-by", 2], "run 2 is no finished training that judges structure", id="no judge"),
        pytest.param([1, "--seen-by", 2, "--csv"], "--csv and --seen-by exclude each other", id="table"),
    ],
)
def test_a_mistake_in_judging_is_one_line(seen, words, why):
    done = call("evaluate", *words, "-w", seen)
    assert done.status in (1, 2)
    assert why in done.errors
    assert "Traceback" not in done.errors


class Once(list):
    """One batch to be judged on."""

    about = ABOUT
    split = "test"


def judged(goals, tones, scores, truth):
    """Numbers of what is said of designs that all are to be sold, on cards, at half tone. Args: scores, truth: (n, 4)."""
    count = len(goals)
    goal = 9 * torch.nn.functional.one_hot(torch.tensor(goals), len(GOALS)).float()
    form = 9 * torch.nn.functional.one_hot(torch.full((count,), 2), len(DESIGN_FORMATS)).float()
    parts = [goal, form, torch.logit(torch.tensor(tones))[:, None], torch.logit(torch.tensor(scores), eps=1e-7)]
    batch = Batch(
        {
            "structure": torch.zeros(count, 4, 32, 32, dtype=torch.uint8),
            "goal": torch.zeros(count, dtype=torch.int64),
            "format": torch.full((count,), 2),
            "tone": torch.full((count,), 0.5),
            "scores": torch.tensor(truth),
        }
    )
    said = abstractor.evaluate(Said(torch.cat(parts, 1)), Once([batch]))
    return {one.name: one.value for one in said if isinstance(one, Metric)}


def test_numbers_are_what_their_names_say():
    truth = [[0.2, 0.5, 0.1, 0.9], [0.4, 0.5, 0.3, 0.5], [0.6, 0.5, 0.2, 0.1]]
    scores = [[0.3, 0.5, 0.3, 0.1], [0.5, 0.6, 0.1, 0.5], [0.7, 0.4, 0.2, 0.9]]
    said = judged([0, 0, 1], [0.5, 0.6, 0.7], scores, truth)
    assert said["goal_accuracy"] == pytest.approx(2 / 3)
    assert said["format_accuracy"] == 1
    assert said["tone_error"] == pytest.approx(0.1, abs=1e-6)
    assert [said[f"{name}_error"] for name in SCORES] == pytest.approx([0.1, 0.2 / 3, 0.4 / 3, 1.6 / 3], abs=1e-6)
    expected = [1.0, 0.0, -1.0, -1.0]  # of contrast, which is always the same, nothing can be said
    assert [said[f"{name}_correlation"] for name in SCORES] == pytest.approx(expected, abs=1e-4)


@pytest.mark.parametrize(
    ("words", "why"),
    [
        pytest.param(["--image-size", 100], "--image-size 100 does not fit", id="no part of 256"),
        pytest.param(["--boxes", 1], "expected 2 or more", id="no pair of boxes"),
        pytest.param(["--rounds", -1], "expected 0 or more", id="negative rounds"),
        pytest.param(["--grammar-weight", -1], "expected 0 or more", id="negative weight"),
        pytest.param(["--made", "logos"], "there is only made_designs_", id="nothing of that name"),
    ],
)
def test_a_mistake_is_one_line(made, words, why):
    done = call("train", "abstractor", *words, "-w", made)
    assert done.status in (1, 2)
    assert why in done.errors
    assert "Traceback" not in done.errors


@pytest.mark.parametrize(
    ("name", "value", "why"),
    [
        pytest.param("structure", "np.zeros((3, 256, 256), np.uint8)", "expected uint8 (4, 256, 256)", id="other channels"),
        pytest.param(
            "metadata", "json.dumps(facts | {'goal': 'dazzle'})", "goal 'dazzle', expected one of sell", id="unknown goal"
        ),
        pytest.param("metadata", "json.dumps(facts | {'tone': 3})", "tone 3, expected a number from 0 to 1", id="tone too loud"),
        pytest.param("metadata", "json.dumps(facts | {'grammar': {}})", "no 'alignment'", id="no scores"),
    ],
)
def test_what_is_no_design_is_one_line(tmp_path, name, value, why):
    done = call("train", "abstractor", *QUICK, "-w", make_others(tmp_path, name, value))
    assert done.status == 1
    assert why in done.errors
    assert "Traceback" not in done.errors


def test_a_gpu_of_apple_s_is_asked_for_nothing_that_it_lacks(made, monkeypatch):
    ends_as_on_the_cpu(("abstractor", *QUICK), made, monkeypatch)
