from pathlib import Path
from types import SimpleNamespace

import pytest

from headstart.experiments.runs import catalog


@pytest.mark.parametrize("selected", ["ridge", "logistic"])
def test_of_equal_accuracies_best_is_the_head_that_their_experiment_chose(monkeypatch, selected):
    experiment = SimpleNamespace(
        folder=Path("exp_0001_x"),
        number=1,
        options=SimpleNamespace(monitor="accuracy"),
        task="classification",
        targets=(),
        data="d",
        val_part=0.0,
        counts={"val": 30},
    )
    runs = [
        (SimpleNamespace(run=number, experiment="exp_0001_x", head=head, config={}), {})
        for number, head in enumerate(("ridge", "logistic"), 1)
    ]
    monkeypatch.setattr(catalog, "read_runs", lambda workspace: runs)
    monkeypatch.setattr(catalog, "list_head_experiments", lambda workspace: [experiment])
    monkeypatch.setattr(catalog, "is_finished", lambda experiment: True)
    monkeypatch.setattr(
        catalog, "read_metrics", lambda experiment: {"selected": selected, "validation": "v", "classes": ["a", "b"]}
    )
    monkeypatch.setattr(catalog, "goodness", lambda run, metrics, monitor: 0.8)
    assert catalog.choose_run(SimpleNamespace(), "best").run.head == selected
