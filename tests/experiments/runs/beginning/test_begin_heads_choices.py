# ruff: noqa: F811 - fixtures come from the file beside this one
import json

import pytest

from headstart.experiments.config import BaselineOptions
from headstart.experiments.runs.beginning.begin_heads import begin_heads
from headstart.experiments.runs.experiment import METRICS
from headstart.experiments.runs.head_experiment import read_head_experiment
from headstart.features.store.cached_features import of_dataset
from headstart.features.store.packing import open_cache
from headstart.pipeline.errors import HeadstartError

from .test_begin_heads import COUNT, extracted, features, request  # noqa: F401


def two_data_sets(workspace, extracted):
    """Their names; each alone can be learnt from."""
    extracted.name = "other"
    add_columns = {"score": ["0.5"] * COUNT, "size": ["1"] * COUNT}
    splits = ["train"] * 36 + ["val"] * 12 + ["test"] * 12
    extracted.add(features(2), [f"class {i % 3}" for i in range(COUNT)], splits, extra=add_columns)
    return sorted(workspace.relative(path) for path in workspace.manifests.iterdir())


def test_an_unfinished_one_is_not_handed_to_whoever_asks_for_other_data(workspace, extracted):
    names = two_data_sets(workspace, extracted)
    cached = open_cache(extracted.folder)
    asked = [of_dataset(cached, names[0]), of_dataset(cached, names[1]), cached]
    begun = [begin_heads(workspace, request(extracted, features=one)) for one in asked]
    assert [found.is_new for found in begun] == [True, True, True]
    assert [found.experiment.counts["images"] for found in begun] == [COUNT, COUNT, 2 * COUNT]
    again = [begin_heads(workspace, request(extracted, features=one)) for one in asked]
    assert [found.experiment for found in again] == [found.experiment for found in begun]
    begin_heads(workspace, request(extracted, features=asked[0], name="mine"))
    with pytest.raises(HeadstartError, match=f"differs: its dataset is {names[0]}, now {names[1]}"):
        begin_heads(workspace, request(extracted, features=asked[1], name="mine"))


def test_what_was_begun_on_a_data_set_goes_on_whatever_another_one_gets(workspace, extracted):
    [name] = [workspace.relative(path) for path in workspace.manifests.iterdir()]
    first = begin_heads(workspace, request(extracted, features=of_dataset(open_cache(extracted.folder), name))).experiment
    two_data_sets(workspace, extracted)
    chosen = of_dataset(open_cache(extracted.folder), name)
    assert begin_heads(workspace, request(extracted, features=chosen)).experiment == first
    (first.folder / METRICS).write_text("{}")
    assert begin_heads(workspace, request(extracted, features=chosen)).experiment == first


def test_more_baselines_are_part_of_the_description_and_the_usual_ones_are_not(workspace, extracted):
    usual = begin_heads(workspace, request(extracted)).experiment
    more = begin_heads(workspace, request(extracted, baselines=BaselineOptions(True, 3))).experiment
    assert read_head_experiment(workspace, more.folder) == more
    facts = [json.loads((found.folder / "experiment.json").read_text()) for found in (usual, more)]
    assert [found.get("baselines") for found in facts] == [None, {"logistic": True, "folds": 3}]
    assert usual.identity != more.identity


UNFIT = {
    "logistic regression of numbers": (
        {"task": "regression", "targets": ("score",), "baselines": BaselineOptions(logistic=True)},
        "--logistic needs classes, these targets are numbers",
    ),
    "more folds than images": ({"baselines": BaselineOptions(folds=37)}, "36 groups cannot make 37 folds"),
}


@pytest.mark.parametrize(("changes", "said"), UNFIT.values(), ids=UNFIT)
def test_a_baseline_that_does_not_fit_is_refused_before_anything_is_written(workspace, extracted, changes, said):
    with pytest.raises(HeadstartError, match=said):
        begin_heads(workspace, request(extracted, **changes))
    assert not list(workspace.experiments.glob("exp_*"))
