"""What every training has: a numbered folder, a name, a description that never changes; here of something that is no head."""

import json
import shutil
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from headstart.experiments.runs.beginning.begin import Complete, begin_experiment
from headstart.experiments.runs.experiment import (
    METRICS,
    Experiment,
    kind_of,
    list_experiments,
    nowhere,
    read_experiment,
)
from headstart.experiments.runs.head_experiment import HeadExperiment, list_head_experiments, read_head_experiment
from headstart.pipeline.errors import HeadstartError
from headstart.pipeline.kinds import known_kinds
from headstart.pipeline.queue import Reader

OLD = Path(__file__).parent / "experiment_of_format_1.json"  # written by the version that knew heads alone


@dataclass(frozen=True)
class Polynomial(Experiment):
    """The smallest training there is: one number decides it."""

    KIND = "fake"
    COMMAND = "headstart fit"

    degree: int

    @classmethod
    def from_record(cls, workspace, folder, number, record):
        return cls(folder, number, record["name"], record["data"], record["counts"], record["degree"])

    @property
    def source(self):
        return "features/points"

    def record(self):
        return {**self.facts(), "counts": self.counts}

    def facts(self):
        return {"data": self.data, "degree": self.degree}

    def settings(self) -> Mapping[str, object]:
        return {"degree": self.degree}


def sketch(workspace, degree=3, name="cubic", data="a" * 64) -> Polynomial:
    return Polynomial(nowhere(workspace), 0, name, data, {"train": 5}, degree)


def begin(workspace, wanted, name=None):
    return begin_experiment(workspace, wanted, name, lambda one: Complete(one, {"rows.bin": b"1 2 3"}, ("a note",)))


def heads_in(workspace, number=7) -> Path:
    folder = workspace.experiments / f"exp_{number:04d}_old"
    folder.mkdir(parents=True)
    shutil.copy(OLD, folder / "experiment.json")
    return folder


def test_a_description_of_heads_from_before_there_were_other_kinds_opens_and_keeps_its_bytes(workspace):
    found = read_head_experiment(workspace, heads_in(workspace))
    assert (found.number, found.name, found.task, len(found.heads)) == (7, "old", "regression", 2)
    assert found.encode() == OLD.read_bytes()
    assert kind_of(found.folder) == HeadExperiment.KIND


def test_a_training_without_a_head_gets_the_next_number_its_files_and_its_job(workspace):
    heads_in(workspace)
    begun = begin(workspace, sketch(workspace))
    assert begun.experiment.folder.name == "exp_0008_cubic"
    assert begun.notes == ("a note",)
    assert (begun.experiment.folder / "rows.bin").read_bytes() == b"1 2 3"
    assert read_experiment(workspace, begun.experiment.folder, Polynomial) == begun.experiment
    assert list(Reader(workspace, known_kinds())) == [begun.job]
    assert (begun.job.kind, begun.job.source) == ("fake", "features/points")
    assert json.loads((begun.experiment.folder / "experiment.json").read_text())["kind"] == "fake"


def test_the_same_again_finds_it_and_one_on_other_rows_goes_on_until_it_is_finished(workspace):
    first = begin(workspace, sketch(workspace))
    again = begin(workspace, sketch(workspace))
    assert (again.experiment, again.job, again.is_new) == (first.experiment, first.job, False)
    assert begin(workspace, sketch(workspace, data="b" * 64)).experiment == first.experiment
    (first.experiment.folder / METRICS).write_text("{}")
    assert begin(workspace, sketch(workspace, data="b" * 64)).experiment.number == 2


def test_each_kind_lists_and_reads_its_own(workspace):
    heads = heads_in(workspace)
    other = begin(workspace, sketch(workspace)).experiment
    assert [one.folder for one in list_head_experiments(workspace)] == [heads]
    assert list_experiments(workspace, Polynomial) == [other]
    with pytest.raises(HeadstartError, match="exp_0008_cubic is a training of kind fake, expected train_head"):
        read_head_experiment(workspace, other.folder)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        pytest.param({"degree": 4}, "taken by exp_0001_cubic, which differs: its degree is 3, now 4", id="a setting"),
        pytest.param({"data": "b" * 64}, "it learnt from 5 training rows as they were then, there are others now", id="rows"),
    ],
)
def test_a_name_that_a_finished_other_one_has_is_refused(workspace, changes, said):
    first = begin(workspace, sketch(workspace), "cubic").experiment
    (first.folder / METRICS).write_text("{}")
    with pytest.raises(HeadstartError, match=said):
        begin(workspace, replace(sketch(workspace), **changes), "cubic")


def test_a_name_that_another_kind_of_training_has_is_refused(workspace):
    heads_in(workspace)
    with pytest.raises(HeadstartError, match="--name old is taken by exp_0007_old, which trains something else"):
        begin(workspace, sketch(workspace, name="old"), "old")


def test_what_complete_refuses_leaves_nothing(workspace):
    def refuse(one):
        raise HeadstartError("nothing can be learnt")

    with pytest.raises(HeadstartError, match="nothing can be learnt"):
        begin_experiment(workspace, sketch(workspace), None, refuse)
    assert list(workspace.experiments.glob("*")) == []
    assert list(Reader(workspace, known_kinds())) == []


@pytest.mark.parametrize(
    ("harm", "said"),
    [
        pytest.param(lambda text: text.replace('"degree": 3', '"degree": 4'), "was changed after it was written", id="edited"),
        pytest.param(lambda text: text.replace('"degree"', '"order"'), "is damaged", id="a key is missing"),
        pytest.param(lambda text: text.replace('"format": 1', '"format": 2'), "pip install -U", id="newer"),
        pytest.param(lambda text: "", "is damaged", id="empty"),
    ],
)
def test_a_harmed_description_of_any_kind_names_the_command_that_begins_one(workspace, harm, said):
    folder = begin(workspace, sketch(workspace)).experiment.folder
    path = folder / "experiment.json"
    path.write_text(harm(path.read_text()))
    with pytest.raises(HeadstartError, match=said) as error:
        read_experiment(workspace, folder, Polynomial)
    assert "train-head" not in str(error.value)
    assert "\n" not in str(error.value)
