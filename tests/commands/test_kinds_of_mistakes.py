"""What once went wrong with trainings, as kinds: each a table, so that its siblings are tried, too."""

import json
import re
import shutil
import sqlite3
import unicodedata
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from headstart.experiments.data.columns import detected_task, targets_of
from headstart.experiments.evaluation.evaluate_experiment import worse_than_commonest
from headstart.experiments.evaluation.head_choice import Candidate
from headstart.experiments.runs.head_experiment import read_head_experiment
from headstart.features.manifest.reading import open_manifest
from headstart.features.sources.source import Source
from headstart.features.store.packing import open_cache
from headstart.pipeline.errors import HeadstartError
from headstart.pipeline.workspace import open_or_create_workspace, open_workspace
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
    "an invisible mark": ("cat", "cat\u200b"),
    "with and without a fraction": ("1", "1.0"),
    "zeros before": ("7", "07"),
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
    candidates = [Candidate("ridge", {split: {"accuracy": accuracy}}, (2, 0), np.empty(0, np.int64))]
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


def _move(root, monkeypatch):
    root.rename(root.with_name("another place"))
    return root.with_name("another place")


def _patched(target, value):
    def change(root, monkeypatch):
        monkeypatch.setattr(target, value)
        return root

    return change


def _begun_with_a_gpu(root, monkeypatch):
    """Earlier versions noted the device of whoever began."""
    [folder] = root.glob("experiments/exp_*")
    begun = read_head_experiment(open_workspace(root), folder)
    noted = replace(begun, options=replace(begun.options, device="cuda"))
    (folder / "experiment.json").write_bytes(noted.encode())
    return root


ELSEWHERE = {
    "begun on a GPU that is not here": (_begun_with_a_gpu, ()),
    "another place": (_move, ()),
    "one core": (_patched("os.sched_getaffinity", lambda process: {0}), ()),
    "another host": (_patched("socket.gethostname", lambda: "another"), ()),
    "another user": (_patched("getpass.getuser", lambda: "another"), ()),
    "the device is said": (lambda root, monkeypatch: root, ("--device", "cpu")),
}


@pytest.mark.parametrize(("change", "words"), ELSEWHERE.values(), ids=ELSEWHERE)
def test_a_training_goes_on_on_another_machine_as_the_same_and_in_the_same_bits(root, tmp_path, monkeypatch, change, words):
    shutil.copytree(root, tmp_path / "undisturbed")
    assert run(tmp_path / "undisturbed").exception is None
    assert run(root, "--time-limit", "0s").return_value == 10
    root = change(root, monkeypatch)
    done = run(root, *words)
    assert done.exception is None, done.exception
    assert ("goes on without the GPU" in done.stderr) == (change is _begun_with_a_gpu)
    [folder] = (root / "experiments").glob("exp_*")
    [expected] = (tmp_path / "undisturbed" / "experiments").glob("exp_*")
    head = "checkpoints/best_head.pt"
    assert (folder / head).read_bytes() == (expected / head).read_bytes()
    one, two = (json.loads((place / "metrics.json").read_text()) for place in (folder, expected))
    for judged in (one, two):  # a noted device is part of the description
        del judged["description"], judged["seal"]
    assert one == two


_TWO = "a train, b train, a val, b val"
TOO_LITTLE = {  # what is extracted so far, what is not yet, and whether that can be learnt from
    "a class without a validation image": (f"{_TWO}, c train", "c val", True),
    "a class of validation images alone": (f"{_TWO}, c val", "c train", True),
    "no validation image": ("a train, b train", "a val, b val", True),
    "no test image": (_TWO, "a test, b test", True),
    "no class with two images": ("1 a train, 1 b train, a val, b val", "a train, b train", True),
    "one class": ("a train, a val", "b train, b val", False),
    "no training image": ("a val, b val", "a train, b train", False),
}


def _images_of(said):
    """(label, split) of images: five of each kind, or as many as it begins with."""
    words = [kind.split() for kind in said.split(", ")]
    return [(label, split) for *count, label, split in words for _ in range(int(count[0]) if count else 5)]


def _extracted_in_part(tmp_path, there, to_come):
    made = packed.Extracted(open_or_create_workspace(tmp_path / "w"), embed_dim=4, job_size=1)
    images = [*_images_of(there), *_images_of(to_come)]
    names = [f"{'there' if i < len(_images_of(there)) else 'to-come'}-{i}.png" for i in range(len(images))]
    extra = {"score": [str(i if name.startswith("to-come") else 1) for i, name in enumerate(names)]}
    features = np.random.default_rng(0).standard_normal((len(images), 4))
    labels, splits = zip(*images, strict=True)
    for job in made.add(features, labels, splits, names=names, extra=extra, finish=False):
        [row] = open_manifest((made.workspace.root / job.source).parent).rows(Path(job.source).name, job.start, job.stop)
        if row.image.path.startswith("there"):
            made.finish(job, features[[names.index(row.image.path)]], [row.index])
    return made.workspace.root


@pytest.mark.parametrize(("there", "to_come", "is_enough"), TOO_LITTLE.values(), ids=TOO_LITTLE)
def test_what_is_not_extracted_yet_is_no_mistake_of_the_data(tmp_path, there, to_come, is_enough):
    done = run(_extracted_in_part(tmp_path, there, to_come))
    said = done.stderr if is_enough else str(done.exception)
    assert isinstance(done.exception, HeadstartError) != is_enough, done.exception
    assert re.search(r"features of \d+ of \d+ images" if is_enough else r"work off more jobs.*headstart work", said)
    assert ("of classes that training has no image of so far" in said) == ("c val" in there)
    assert not re.search(r"[Mm]ove |[Rr]emove|[Dd]elete|another label", said)


def test_numbers_that_are_all_alike_so_far_are_no_mistake_of_the_table(tmp_path):
    root = _extracted_in_part(tmp_path, _TWO, "a train, b train")
    done = run(root, "--target", "score", "--task", "regression")
    assert re.search(r"'score' has the value 1 on all \d+ rows.*work off more jobs", str(done.exception))
