"""Wrong labels are named, right ones seldom, and no image is judged by a model that saw it."""

import numpy as np
import pytest

from headstart.experiments.audit.label_errors import left_out_probabilities, suspect_places
from headstart.experiments.data.feature_source import ArrayFeatures
from headstart.experiments.data.targets import class_targets
from tests.experiments.samples import clouds


def probabilities_of_labels(codes, source, groups=None):
    everything = np.arange(len(codes))
    targets = class_targets([f"class {code}" for code in codes], everything)
    return left_out_probabilities(source, targets, everything, np.full(len(codes), "") if groups is None else groups)


def test_most_planted_wrong_labels_are_named_and_few_others():
    data = clouds(900, classes=3, spread=0.5)
    codes = np.array(data.targets.codes)
    planted = np.random.default_rng(1).choice(900, 45, replace=False)
    codes[planted] = (codes[planted] + 1) % 3
    places = suspect_places(probabilities_of_labels(codes, data.source), codes)
    named = len(set(places.tolist()) & set(planted.tolist()))
    assert named >= 0.7 * len(planted)
    assert named >= 0.9 * len(places)


def test_without_any_signal_nothing_is_sure():
    random = np.random.default_rng(0)
    codes = random.integers(0, 3, 600)
    source = ArrayFeatures(random.standard_normal((600, 8)).astype(np.float16))
    probabilities = probabilities_of_labels(codes, source)
    # Had an image been judged by a model that saw it, its label would be believed more often than chance.
    assert abs((probabilities.argmax(axis=1) == codes).mean() - 1 / 3) < 0.08


def test_images_of_one_group_are_left_out_together():
    random = np.random.default_rng(0)
    scenes = random.standard_normal((40, 30)) * 5
    labels = random.integers(0, 2, 40)
    scene_of = np.repeat(np.arange(40), 10)
    source = ArrayFeatures((scenes[scene_of] + 0.01 * random.standard_normal((400, 30))).astype(np.float16))
    groups = np.array([f"s{number}" for number in scene_of])
    known = (probabilities_of_labels(labels[scene_of], source).argmax(axis=1) == labels[scene_of]).mean()
    apart = (probabilities_of_labels(labels[scene_of], source, groups).argmax(axis=1) == labels[scene_of]).mean()
    assert known > 0.9  # the other images of its scene tell the label
    assert apart < 0.75


RULES = {
    "believed": ([[0.9, 0.1], [0.2, 0.8]], [0, 1], []),
    "another is sure": ([[0.9, 0.1], [0.1, 0.9], [0.9, 0.1]], [0, 1, 1], [2]),
    "another leads without being sure": ([[0.95, 0.05], [0.05, 0.95], [0.55, 0.45]], [0, 1, 1], []),
    "the least believed first": ([[0.7, 0.3], [0.2, 0.8], [0.9, 0.1], [0.95, 0.05], [0.3, 0.7]], [0, 1, 1, 1, 1], [3, 2]),
}


@pytest.mark.parametrize(("probabilities", "codes", "suspects"), RULES.values(), ids=RULES)
def test_a_label_is_suspect_where_another_class_is_as_sure_as_it_usually_is(probabilities, codes, suspects):
    assert suspect_places(np.array(probabilities), np.array(codes)).tolist() == suspects
