"""What an experiment is judged on: the data that it was begun on, and a split that it has."""

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from headstart.experiments.runs.recipe_experiment import RecipeExperiment, splits_of
from headstart.experiments.training.data.sets import Arrays, Splits
from headstart.pipeline.errors import HeadstartError


def opened(begun_on, now, wanted):
    facts = {"values": {}, "settled": {}, "device": "", "conduct": {}}
    begun = RecipeExperiment(Path("exp_0001_a"), 1, "a", begun_on.digest, {}, recipe="mine.py", code="", **facts)
    return splits_of(None, begun, SimpleNamespace(data=lambda options, workspace: now), None, wanted)


def splits(level, *, has_test=True):
    parts = [Arrays(image=np.full((2, 1), level, np.float32)) for _ in range(3)]
    return Splits(parts[0], parts[1], parts[2] if has_test else None)


@pytest.mark.parametrize("wanted", ["train", "val", "test"])
def test_an_experiment_has_its_splits(wanted):
    assert wanted in opened(splits(0), splits(0), wanted).named()


def test_a_split_that_is_not_there_is_one_line():
    with pytest.raises(HeadstartError, match=r"^exp_0001_a has no split 'test'. Use --split val$"):
        opened(splits(0, has_test=False), splits(0, has_test=False), "test")


def test_data_that_became_others_are_one_line():
    with pytest.raises(HeadstartError, match=r"^the data of exp_0001_a is not what it was begun on. Restore it"):
        opened(splits(0), splits(1), "train")
