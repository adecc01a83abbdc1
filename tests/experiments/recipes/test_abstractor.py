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
    """Two lines of text below each other, of colours 5 and 6 on 2; the second begins at pixel `left`."""
    planes = torch.zeros(1, 4, 32, 32, dtype=torch.uint8)
    planes[:, 2] = 2
    for colour, first, top, width in ((5, 4, 4, 16), (6, left, 12, 14)):
        planes[:, 0, top : top + 4, first : first + width] = 1
        planes[:, 2, top : top + 4, first : first + width] = colour
    return planes


def test_boxes_are_lines_at_full_resolution_with_their_colours():
    boxes = abstractor.boxes_of(structure(9), 4)
    assert boxes.is_there.tolist() == [[True, True, False, False]]
    assert (32 * boxes.edges[0, :2]).tolist() == [[4, 4, 20, 8], [9, 12, 23, 16]]
    assert boxes.inside[0, :2].tolist() == [[1, 0, 5, 0], [1, 0, 6, 0]]
    assert boxes.ground[0, :2].tolist() == [2, 2]


def test_boxes_reach_the_edges_of_a_design_and_stand_side_by_side():
    planes = torch.zeros(1, 4, 16, 16, dtype=torch.uint8)
    planes[:, 1, 2:, :7] = 1
    planes[:, 1, :, 10:] = 1
    boxes = abstractor.boxes_of(planes, 2)
    assert (16 * boxes.edges[0]).tolist() == [[0, 2, 7, 16], [10, 0, 16, 16]]


def test_the_widest_box_of_an_ellipse_has_its_centre():
    rows, columns = np.mgrid[:32, :32]
    planes = torch.zeros(1, 4, 32, 32, dtype=torch.uint8)
    planes[0, 1] = torch.from_numpy(((columns - 16.5) / 9) ** 2 + ((rows - 15) / 12) ** 2 <= 1)
    left, top, right, bottom = (32 * abstractor.boxes_of(planes, 8).edges[0, 0]).tolist()
    assert (left + right, top, bottom) == (34, 4, 27)  # pixels 16 and 17 are in its middle


def test_geometry_has_the_distance_of_edges_that_alignment_is_computed_from():
    lefts, rights = torch.tensor([100, 103, 60, 94]), torch.tensor([160, 180, 230, 164])  # of the last two centres are nearest
    edges = torch.stack([lefts, torch.arange(4), rights, torch.arange(4) + 1], 1)[None] / 256
    nearest = 8 * abstractor.pair_geometry(edges)[0, :, :, 3]
    assert nearest[0].tolist() == pytest.approx([0, 3, 8, 1], abs=1e-4)
    assert torch.equal(nearest, nearest.T)


def test_geometry_has_how_often_a_line_is_twice_as_high_as_another():
    edges = torch.tensor([[[10, 10, 90, 30], [10, 40, 90, 50]]]) / 256
    assert abstractor.pair_geometry(edges)[0, :, :, -1].tolist() == [[0, 1], [-1, 0]]


def test_profiles_count_the_colours_of_each_line():
    shares = abstractor._shares(torch.tensor([[[0, 0, 3, 15], [1, 1, 1, 1]]], dtype=torch.uint8))
    assert shares.shape == (1, 2, 16)
    assert shares[0, 0, [0, 3, 15]].tolist() == [0.5, 0.25, 0.25]
    assert shares[0, 1, 1] == 1


def test_a_design_without_boxes_is_judged_by_its_profiles():
    torch.manual_seed(0)
    network = abstractor.model(abstractor.Options(image_size=32, width=16), ABOUT)
    empty = torch.zeros(2, 4, 32, 32, dtype=torch.uint8)
    empty[1, 2, :8] = 3
    answers = network(empty)
    assert answers.isfinite().all()
    assert not torch.allclose(answers[0], answers[1], atol=1e-4)


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
