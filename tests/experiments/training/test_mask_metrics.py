import math

import numpy as np
import pytest
from sklearn.metrics import confusion_matrix, jaccard_score

from headstart.experiments.training.judging.mask_metrics import boundary_f1, confusion, segmentation

VOID = 255


def masks(seed, classes=4, size=(30, 40)):
    random = np.random.default_rng(seed)
    truth = random.integers(0, classes, size).astype(np.uint8)
    said = np.where(random.random(size) < 0.6, truth, random.integers(0, classes, size)).astype(np.uint8)
    truth[random.random(size) < 0.1] = VOID
    return truth, said


def test_the_numbers_are_those_of_scikit_learn_over_all_known_pixels():
    pairs = [masks(seed) for seed in range(3)]
    truth, said = (np.concatenate([pair[place].ravel() for pair in pairs]) for place in (0, 1))
    known = truth != VOID
    confusions = np.stack([confusion(*pair, 4) for pair in pairs])
    np.testing.assert_array_equal(confusions.sum(0), confusion_matrix(truth[known], said[known]))
    numbers = {one.name: one.value for one in segmentation(confusions, [0.5, math.nan, 1.0], list("abcd"))}
    ious = jaccard_score(truth[known], said[known], average=None)
    assert numbers["miou"] == pytest.approx(ious.mean())
    assert [numbers[f"iou_{name}"] for name in "abcd"] == pytest.approx(ious)
    assert numbers["pixel_accuracy"] == pytest.approx((truth == said)[known].mean())
    assert numbers["boundary_f1"] == pytest.approx(0.75)
    assert numbers["per_class"]["b"]["iou"] == pytest.approx(ious[1])


def test_a_class_that_is_neither_there_nor_said_does_not_count_for_the_mean():
    truth = np.zeros((4, 4), np.uint8)
    truth[:, 2:] = 1
    [miou, *_] = segmentation(confusion(truth, truth, 5)[None], [1.0], list("abcde"))
    assert miou.value == 1.0


def slow_boundary_f1(truth, said, classes, tolerance):
    """Csurka's definition, pixel by pixel."""
    height, width = truth.shape

    def boundary(mask, code):
        return {
            (y, x)
            for y in range(height)
            for x in range(width)
            if mask[y, x] == code and truth[y, x] != VOID
            for b, a in ((y + 1, x), (y - 1, x), (y, x + 1), (y, x - 1))
            if 0 <= b < height and 0 <= a < width and mask[b, a] != code and truth[b, a] != VOID
        }

    scores = []
    for code in range(classes):
        wanted, claimed = boundary(truth, code), boundary(said, code)
        if not wanted and not claimed:
            continue

        def share(of, other):
            near = [any(abs(y - b) <= tolerance and abs(x - a) <= tolerance for b, a in other) for y, x in of]
            return sum(near) / len(near) if near else 0.0

        precision, recall = share(claimed, wanted), share(wanted, claimed)
        scores.append(2 * precision * recall / (precision + recall) if precision + recall else 0.0)
    return np.mean(scores) if scores else math.nan


@pytest.mark.parametrize("tolerance", [1, 2])
def test_boundary_f1_is_the_definition(tolerance):
    truth = np.repeat(np.repeat(masks(1, size=(4, 5))[0], 4, 0), 4, 1)
    said = np.roll(truth, 2, 1)
    said[said == VOID] = 0
    assert boundary_f1(truth, said, 4, tolerance) == pytest.approx(slow_boundary_f1(truth, said, 4, tolerance))


def test_classes_beyond_sixty_four_have_boundaries_as_the_others_do():
    truth, said = masks(2)
    offset = np.where(truth == VOID, VOID, truth + 70).astype(np.uint8)
    assert boundary_f1(offset, (said + 70).astype(np.uint8), 80, 1) == pytest.approx(boundary_f1(truth, said, 4, 1))


@pytest.mark.parametrize(("shift", "expected"), [(0, 1.0), (1, 1.0), (5, 0.0)], ids=["exact", "within", "beyond"])
def test_a_boundary_is_right_within_the_tolerance_and_not_beyond(shift, expected):
    truth, said = np.zeros((40, 40), np.uint8), np.zeros((40, 40), np.uint8)
    truth[:, 20:], said[:, 20 + shift :] = 1, 1
    assert boundary_f1(truth, said, 2, 1 if shift < 2 else 2) == pytest.approx(expected)


def test_a_mask_of_one_class_has_no_boundary():
    assert math.isnan(boundary_f1(np.zeros((9, 9), np.uint8), np.zeros((9, 9), np.uint8), 2))
