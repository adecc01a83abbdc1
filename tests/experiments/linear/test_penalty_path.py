import numpy as np
import pytest
from sklearn.metrics import r2_score

from headstart.experiments.data.statistics import gather_statistics
from headstart.experiments.data.targets import class_targets
from headstart.experiments.linear import penalty_path
from headstart.experiments.linear.logistic import fit_logistic_path
from headstart.experiments.linear.penalty_path import (
    PENALTIES,
    ScoredPath,
    best_logistic,
    parabola_through,
    ridge_path,
    scored_path,
)
from headstart.experiments.training.state.kept_parts import KeptParts
from headstart.pipeline.files import FileSystem
from tests.experiments.samples import clouds, line


def statistics_of(made):
    return gather_statistics(made.source, made.targets, {"x": made.train})["x"]


def test_numbers_are_judged_by_r2_averaged_over_the_targets():
    made = line(noise=0.5)
    found = ridge_path(made.source, made.targets, statistics_of(made), made.val, [1e-3, 1.0])
    for head, score in zip(found.heads, found.scores, strict=True):
        predicted = made.source.features[made.val].astype(np.float64) @ head.weight.T + head.bias
        assert score == pytest.approx(r2_score(made.targets.dense(made.val), predicted), abs=1e-4)


def test_classes_are_judged_by_accuracy_on_rows_that_have_one():
    made = clouds()
    labels = np.array([made.targets.names[code] for code in made.targets.codes])
    labels[made.val[::2]] = ""
    half = made._replace(targets=class_targets(labels, made.train))
    heads = fit_logistic_path(half.source, half.targets, half.train, statistics_of(half), [1e-2])
    found = scored_path(half.source, half.targets, half.val, [1e-2], heads)
    rest = made.val[1::2]
    said = (made.source.features[rest].astype(np.float64) @ found.heads[0].weight.T + found.heads[0].bias).argmax(axis=1)
    assert found.scores[0] == (said == made.targets.codes[rest]).mean()
    assert scored_path(made.source, made.targets, made.test, [1e-2], found.heads).scores[0] > 0.6


def test_of_equal_scores_the_largest_penalty_is_best():
    assert ScoredPath((0.1, 1.0, 10.0), (), np.array([0.8, 0.8, 0.7])).best == 1


def best_of(made, **options):
    return best_logistic(made.source, made.targets, made.train, statistics_of(made), made.val, **options)


@pytest.fixture
def scores_on_validation(monkeypatch):
    """What each penalty is to score, whatever its head says."""
    wanted = {}

    def scored(source, targets, positions, penalties, heads):
        return ScoredPath(tuple(penalties), tuple(heads), np.array([wanted.get(round(each, 9), 0.5) for each in penalties]))

    monkeypatch.setattr(penalty_path, "scored_path", scored)
    return wanted


def between(one, other):
    return float(np.sqrt(one * other))


FIVE = [PENALTIES[5], between(*PENALTIES[5:7]), PENALTIES[6], between(*PENALTIES[6:8]), PENALTIES[7]]


@pytest.mark.parametrize(
    ("scores", "chosen"),
    [
        ([0.6, 0.7, 0.9, 0.7, 0.6], 2),
        ([0.83, 0.84, 0.85, 0.78, 0.70], 1),
        ([0.70, 0.78, 0.85, 0.84, 0.83], 3),
        ([0.80, 0.60, 0.81, 0.79, 0.80], 4),
        ([0.8, 0.8, 0.8, 0.8, 0.8], 4),
    ],
    ids=["a peak", "more on the side of the smaller", "of the larger", "a hole", "equals: the largest"],
)
def test_of_five_the_one_that_a_parabola_likes_best_is_chosen(scores_on_validation, scores, chosen):
    scores_on_validation |= {round(penalty, 9): score for penalty, score in zip(FIVE, scores, strict=True)}
    if chosen == 4 and len(set(scores)) == 1:  # of equals in the path the largest is the best of them
        scores_on_validation[round(PENALTIES[7], 9)] = 0.8 - 1e-12
    penalty, head = best_of(clouds())
    assert penalty == FIVE[chosen]
    assert np.isfinite(head.weight).all()


@pytest.mark.parametrize("place", [0, len(PENALTIES) - 1], ids=["the smallest", "the largest"])
def test_at_the_ends_of_the_path_the_best_itself_is_chosen(scores_on_validation, place):
    scores_on_validation[round(PENALTIES[place], 9)] = 0.9
    assert best_of(clouds())[0] == PENALTIES[place]


def test_a_head_beside_the_best_is_that_of_its_own_penalty(scores_on_validation):
    scores_on_validation |= {
        round(penalty, 9): score for penalty, score in zip(FIVE, [0.83, 0.84, 0.85, 0.78, 0.70], strict=True)
    }
    made = clouds()
    penalty, head = best_of(made)
    [alone] = fit_logistic_path(made.source, made.targets, made.train, statistics_of(made), [penalty])
    inputs = made.source.features[made.val].astype(np.float64)
    answers = [inputs @ each.weight.T + each.bias for each in (head, alone)]
    assert np.abs(answers[0] - answers[1]).max() < 0.05 * np.abs(answers[1]).max()


def test_a_parabola_goes_through_points_that_lie_on_one():
    values = np.array([3.0 - 0.5 * place - 0.25 * place**2 for place in (-2, -1, 0, 1, 2)])
    assert parabola_through(values) == pytest.approx(values)
    bent = values + np.array([1, -4, 6, -4, 1])  # which has no part in any parabola
    assert parabola_through(bent) == pytest.approx(values)


def test_a_path_that_was_killed_between_its_fits_ends_in_the_same_bits(tmp_path):
    """Parts that are there are taken, the rest is fitted as before."""
    made = clouds()

    def found():
        return best_of(made, parts=KeptParts(tmp_path, FileSystem()))

    penalty, head = found()
    kept = sorted(tmp_path.iterdir())
    assert len(kept) == 3  # six penalties each, and those nearer to the best
    for part in kept:
        part.unlink()
        again, same = found()
        assert again == penalty
        assert np.array_equal(same.weight, head.weight)
        assert np.array_equal(same.bias, head.bias)
