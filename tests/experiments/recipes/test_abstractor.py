"""The recipe abstractor on a few designs: its numbers on answers made by hand, what it can tell apart, and a short training."""

import json

import numpy as np
import pytest
import torch

from headstart.experiments.designs.description import DESIGN_FORMATS, GOALS, SCORES
from headstart.experiments.recipes import abstractor
from headstart.experiments.training.data.batch import Batch, Facts
from headstart.experiments.training.judging.metrics import Metric
from tests.commands.calling import call
from tests.experiments.designs.made import make_designs, make_others
from tests.experiments.recipes.said import Said

QUICK = ("--image-size", 32, "--width", 8, "--layers", 1, "--epochs", 2, "--batch-size", 8, "--threads", 1)
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


def structure(left):
    """Two lines of text below each other; the second begins at pixel `left`."""
    planes = torch.zeros(1, 4, 32, 32, dtype=torch.uint8)
    planes[:, 0, 4:8, 4:20] = 1
    planes[:, 0, 12:16, left : left + 16] = 1
    return planes


def test_where_an_edge_is_is_not_averaged_away():
    torch.manual_seed(0)
    network = abstractor.model(abstractor.Options(image_size=32, width=16), ABOUT)
    answers = [network(structure(left)) for left in (4, 5, 8)]
    assert not torch.allclose(answers[0], answers[1], atol=1e-4)
    assert not torch.allclose(answers[0], answers[2], atol=1e-4)


@pytest.mark.parametrize(
    ("words", "why"),
    [
        pytest.param(["--image-size", 100], "--image-size 100 does not fit", id="no part of 256"),
        pytest.param(["--width", 30], "no multiple of 4", id="width that heads do not divide"),
        pytest.param(["--layers", 0], "expected 1 or more", id="no layer"),
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
