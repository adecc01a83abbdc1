from pathlib import Path
from types import SimpleNamespace

import pytest

from headstart.experiments.runs import catalog


def workspace_with(monkeypatch, experiments):
    """Args: experiments: of each its star, and (accuracy of each head); all judged on the same 30 images."""
    made, runs, scores, facts = [], [], {}, {}
    for number, (star, accuracies) in enumerate(experiments, 1):
        folder = Path(f"exp_{number:04d}_x")
        made.append(
            SimpleNamespace(
                folder=folder,
                number=number,
                options=SimpleNamespace(monitor="accuracy"),
                task="classification",
                targets=(),
                data="d",
                val_part=0.0,
                counts={"val": 30},
            )
        )
        in_doubt = [head for head in accuracies if accuracies[head] > accuracies.get(star, 1)]
        facts[folder.name] = {"selected": star, "selected_by": {"within_noise": in_doubt}}
        for head, accuracy in accuracies.items():
            run = SimpleNamespace(run=len(runs) + 1, experiment=folder.name, head=head, config={})
            scores[run.run] = accuracy
            runs.append((run, {}))
    monkeypatch.setattr(catalog, "read_runs", lambda workspace: runs)
    monkeypatch.setattr(catalog, "list_head_experiments", lambda workspace: made)
    monkeypatch.setattr(catalog, "is_finished", lambda experiment: True)
    monkeypatch.setattr(
        catalog,
        "read_metrics",
        lambda experiment: {**facts[experiment.folder.name], "validation": "v", "classes": ["a", "b"]},
    )
    monkeypatch.setattr(catalog, "goodness", lambda run, metrics, monitor: scores[run.run])
    return SimpleNamespace()


# Of each experiment its star and its heads; and which run is the best of all.
BEST = {
    "an equal that was not chosen": ([("logistic", {"ridge": 0.8, "logistic": 0.8})], "exp_0001_x", "logistic"),
    "an equal that was chosen": ([("ridge", {"ridge": 0.8, "logistic": 0.8})], "exp_0001_x", "ridge"),
    "a lead in doubt": ([("logistic", {"ridge": 0.9, "logistic": 0.7})], "exp_0001_x", "logistic"),
    "a lead beyond doubt, however small": ([("ridge", {"ridge": 0.81, "logistic": 0.8})], "exp_0001_x", "ridge"),
    "one in doubt does not hide another experiment": (
        [("logistic", {"ridge": 0.9, "logistic": 0.6}), ("mlp", {"mlp": 0.8})], "exp_0002_x", "mlp"),
    "a lead of another experiment within noise": (
        [("logistic", {"ridge": 0.7, "logistic": 0.8}), ("mlp", {"mlp": 0.82})], "exp_0001_x", "logistic"),
    "proved within its experiment against the same": (
        [("logistic", {"logistic": 0.8}), ("mlp", {"mlp": 0.82, "logistic": 0.8})], "exp_0002_x", "mlp"),
    "the star was removed": ([("logistic", {"ridge": 0.7, "lda": 0.8})], "exp_0001_x", "lda"),
    "of equals in two experiments the newer": (
        [("logistic", {"logistic": 0.8}), ("logistic", {"logistic": 0.8})], "exp_0002_x", "logistic"),
}  # fmt: skip


@pytest.mark.parametrize(("experiments", "experiment", "head"), BEST.values(), ids=BEST)
def test_best_is_the_best_of_what_experiments_chose(monkeypatch, experiments, experiment, head):
    best = catalog.choose_run(workspace_with(monkeypatch, experiments), "best")
    assert (best.run.experiment, best.run.head) == (experiment, head)
