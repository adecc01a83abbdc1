"""A baseline that is one new file stands everywhere where the others stand."""

import json
import sys
from dataclasses import replace

import pytest

import headstart.experiments.linear.methods
from headstart.experiments.heads.trained_head import read_head
from headstart.experiments.runs.catalog import read_runs
from headstart.experiments.runs.head_experiment import head_path
from headstart.pipeline.errors import HeadstartError

from .killed_head import HEADS
from .trained_head import begun, worked

COMMONEST = '''"""The commonest class of the training rows, whatever the image."""

SIMPLICITY = 5
PLACE = 70


def fit(fitting):
    import numpy as np

    from headstart.experiments.linear.closed_form import LinearHead
    from headstart.experiments.linear.method import Baseline

    shares = fitting.statistics.target_sums / fitting.statistics.count
    yield Baseline("commonest", {}, LinearHead(np.zeros((len(shares), fitting.source.embed_dim)), np.log(shares)), True)
'''


@pytest.fixture
def commonest(tmp_path, monkeypatch):
    folder = tmp_path / "methods"
    folder.mkdir()
    (folder / "commonest.py").write_text(COMMONEST)
    known = headstart.experiments.linear.methods.__path__
    monkeypatch.setattr(headstart.experiments.linear.methods, "__path__", [*known, str(folder)])
    yield
    sys.modules.pop("headstart.experiments.linear.methods.commonest", None)


def test_a_new_file_is_fitted_judged_listed_and_a_head_of_its_own(ready, commonest):
    training = begun(ready)
    worked(ready)
    judged = json.loads((training.experiment.folder / "metrics.json").read_text())
    [entry] = [each for each in judged["baselines"] if each["baseline"] == "commonest"]
    assert 0.2 < entry["test"]["accuracy"] < 0.6
    assert entry is judged["baselines"][-1]
    assert "commonest" in [run.head for run, _ in read_runs(ready)]
    assert read_head(head_path(training.experiment, "commonest")).fitted == {"method": "commonest"}


def test_no_trained_head_may_have_the_name_of_a_new_file(ready, commonest):
    with pytest.raises(HeadstartError, match="a head is named 'Commonest', and so is a baseline that every experiment has"):
        begun(ready, heads=(replace(HEADS[0], name="Commonest"),))
