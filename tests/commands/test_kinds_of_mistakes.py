"""What once went wrong with trainings, as kinds: each a table, so that its siblings are tried, too."""

import sqlite3
import unicodedata

import numpy as np
import pytest

from headstart.experiments.data.columns import detected_task, targets_of
from headstart.experiments.evaluation.evaluate_experiment import worse_than_commonest
from headstart.experiments.evaluation.fitted_heads import Candidate
from headstart.features.sources.source import Source
from headstart.features.store.packing import open_cache
from headstart.pipeline.errors import HeadstartError
from headstart.pipeline.workspace import open_or_create_workspace
from tests.features import packed

from .calling import call
from .training import run

COUNT = 60


def features_with(tmp_path, labels, extra=None, splits=None):
    made = packed.Extracted(open_or_create_workspace(tmp_path / "w"), embed_dim=4, job_size=COUNT)
    made.add(np.random.default_rng(0).standard_normal((len(labels), 4)), labels, splits, extra=extra)
    return open_cache(made.folder)


SAID = {
    "numbers from 1 to 102": [f"{i + 1}" for i in range(102)],
    "fractions": ["0.5", "1", "2"],
    "a name that is no number to Python": ["0", "1", "nan"],
    "infinity": ["inf", "-inf", "0"],
    "powers": ["1e3", "1e-9", "1_000"],
    "dates": ["2024", "2025", "2026"],
    "one image each": [f"{i}" for i in range(COUNT)],
}


@pytest.mark.parametrize("names", SAID.values(), ids=SAID)
def test_folders_of_classes_are_classes_whatever_they_are_called(tmp_path, monkeypatch, names):
    monkeypatch.setattr(packed, "Source", lambda root, layout, *rest, **words: Source(root, "classes", *rest, **words))
    labels = [names[i % len(names)] for i in range(max(COUNT, len(names)))]
    cached = features_with(tmp_path, labels, splits=["train"] * len(labels))
    assert detected_task(cached, ()) == "classification"
    train = np.arange(len(labels))
    targets = targets_of(cached, "classification", (), train, ())
    assert set(targets.names) == set(names)
    assert targets.is_known.all()


SPELLINGS = {
    "case": ("cat", "Cat"),
    "a space after": ("cat", "cat "),
    "a space before": ("cat", " cat"),
    "two spaces within": ("wild cat", "wild  cat"),
    "a tab": ("wild cat", "wild\tcat"),
    "composed and decomposed": ("caf\u00e9", unicodedata.normalize("NFD", "caf\u00e9")),
    "sharp s": ("GROSS", "gro\u00df"),
}


@pytest.mark.parametrize(("one", "two"), SPELLINGS.values(), ids=SPELLINGS)
def test_two_spellings_of_one_class_in_any_column_are_refused(tmp_path, one, two):
    kinds = [(one, two, "dog")[i % 3] for i in range(COUNT)]
    cached = features_with(tmp_path, ["a", "b"] * (COUNT // 2), {"kind": kinds}, ["train"] * COUNT)
    with pytest.raises(HeadstartError, match=r"^target 'kind' has two spellings of one class, [^\n]*$"):
        targets_of(cached, "classification", ("kind",), np.arange(COUNT), ())


def test_classes_that_only_look_alike_are_two(tmp_path):
    cached = features_with(tmp_path, ["a", "b"] * (COUNT // 2), {"kind": ["cat", "cats"] * (COUNT // 2)}, ["train"] * COUNT)
    assert targets_of(cached, "classification", ("kind",), np.arange(COUNT), ()).names == ("cat", "cats")


COMMON = {
    "two classes, one rare": (["a"] * 95 + ["b"] * 5, 0.94, "less than always saying 'a' (0.9500)"),
    "many classes": (["a"] * 50 + ["b"] * 25 + ["c"] * 25, 0.49, "less than always saying 'a' (0.5000)"),
    "as good": (["a"] * 95 + ["b"] * 5, 0.95, None),
    "better": (["a"] * 95 + ["b"] * 5, 0.96, None),
}


@pytest.mark.parametrize("split", ["test", "val"])
@pytest.mark.parametrize(("labels", "accuracy", "said"), COMMON.values(), ids=COMMON)
def test_a_head_that_is_worse_than_saying_the_commonest_class_is_said_to_be(tmp_path, labels, accuracy, said, split):
    from headstart.experiments.runs.experiment_data import data_of

    splits = ["train"] * 100 + [split] * 100 + (["val"] * 100 if split == "test" else [])
    data = data_of(features_with(tmp_path, labels * (len(splits) // 100), splits=splits), "classification", (), (), 0.0)
    candidates = [Candidate("ridge", {split: {"accuracy": accuracy}}, (2, 0))]
    notes = list(worse_than_commonest(data, candidates, "ridge"))
    assert len(notes) == (said is not None)
    if said is not None:
        assert said in notes[0]
        assert f"{accuracy:.4f} of the {'test' if split == 'test' else 'validation'} images" in notes[0]


READING = {
    "runs": ("runs",),
    "one run": ("runs", "show", "best"),
    "evaluate": ("evaluate", "best"),
    "status": ("status", "--json"),
    "what is chosen": ("runs", "--json"),
}


@pytest.mark.parametrize("words", READING.values(), ids=READING)
def test_what_only_reads_answers_while_somebody_else_holds_the_database(own, words):
    before = call(*words, "-w", own.root)
    assert before.status == 0
    other = sqlite3.connect(own.database)
    other.execute("BEGIN IMMEDIATE")
    try:
        again = call(*words, "-w", own.root)
    finally:
        other.close()
    assert (again.status, again.output) == (0, before.output)


LIMITED = {
    "a head and the logistic path": (),
    "folds of a cross-validation": ("--folds", "4"),
    "several heads": ("--ablation",),
    "closed forms alone": ("--no-logistic",),
    "numbers": ("--target", "score", "--task", "regression"),
}


@pytest.mark.parametrize("words", LIMITED.values(), ids=LIMITED)
def test_a_training_whose_limit_is_over_at_once_gets_further_each_time_and_ends(root, words):
    calls, code = 0, 10
    while code == 10 and calls < 60:
        calls += 1
        done = run(root, *words, "--time-limit", "0s")
        assert done.exception is None, done.exception
        code = done.return_value
        assert ("left; the same command goes on" in done.stderr) == (code == 10)
    assert code == 0
    assert calls > 1
    assert "is finished" in run(root, *words).stderr
