"""Everything about a run, or an experiment, ready for JSON: what commands print and a report draws."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from headstart.experiments.runs.catalog import BEST, Chosen, any_run
from headstart.experiments.runs.database.rows import run_numbers
from headstart.experiments.runs.experiment import read_metrics
from headstart.experiments.runs.head_experiment import best_head_path
from headstart.experiments.runs.recipe_experiment import RecipeExperiment
from headstart.pipeline.workspace import Workspace, as_workspace

from .publish import headline

if TYPE_CHECKING:
    from headstart.experiments.runs.head_experiment import HeadExperiment


@dataclass(frozen=True)
class RunRecord:
    """A run, or the experiment of a run of a recipe, and everything about it.

    Attributes:
        record: ready for JSON.
    """

    run: Chosen | RecipeExperiment
    record: dict[str, Any]


def show_run(run: str | int = BEST, workspace: Workspace | Path | str | None = None) -> RunRecord:
    """How a run was trained, and all that was measured: what `headstart runs show` shows.

    Args:
        run: its number, or 'best', see `choose_run`.
        workspace: a folder; None is the one that every command would take, see `find_root`.

    Raises: HeadstartError if there is no such run, or its experiment is gone.
    """
    opened = as_workspace(workspace)
    chosen = any_run(opened, str(run))
    if isinstance(chosen, RecipeExperiment):
        return RunRecord(chosen, {"experiment": chosen.folder.name, **read_metrics(chosen)})
    return RunRecord(chosen, record_of(opened, chosen))


def record_of(workspace: Workspace, chosen: Chosen) -> dict[str, Any]:
    """Everything about a run, ready for JSON."""
    from headstart.experiments.runs.database.synchronize import open_synchronized

    with open_synchronized(workspace, in_full=True) as database:
        metrics = database.metrics(chosen.run.run)
    last = max((metric.step for metric in metrics), default=0)
    notes = read_metrics(chosen.experiment)
    entries = [*notes.get("heads", []), *notes.get("baselines", [])]
    noted: dict[str, Any] = next((each for each in entries if each.get("head", each.get("baseline")) == chosen.run.head), {})
    course: dict[int, dict[str, float | None]] = {}
    final: dict[str, dict[str, float | None]] = {}
    for metric in metrics:
        if metric.split == "train" or metric.metric == "loss" or metric.metric.startswith("epoch_"):
            name = f"{metric.split}_{metric.metric.removeprefix('epoch_')}"
            course.setdefault(metric.step, {})[name] = metric.value
        elif metric.step == last:
            final.setdefault(metric.split, {})[metric.metric] = metric.value
    return {
        **chosen.as_json(),
        "encoder": chosen.experiment.encoder.name,
        "rows": dict(chosen.experiment.counts),
        "targets": list(chosen.experiment.targets),
        "auxiliary": list(chosen.experiment.auxiliary),
        "config": chosen.run.config,
        "history": [{"step": step, **values} for step, values in sorted(course.items())],
        "metrics": final,
        "per_class": {split: noted[split]["per_class"] for split in ("val", "test") if "per_class" in noted.get(split, {})},
    }


def as_record(workspace: Workspace, experiment: HeadExperiment) -> dict[str, Any]:
    """For scripts: the headline of each head and baseline, and where the files are."""
    judged = read_metrics(experiment)
    return {
        "experiment": experiment.folder.name,
        "finished": True,
        "folder": str(experiment.folder),
        "best_head": str(best_head_path(experiment)),
        "database": str(workspace.database),
        "selected": judged["selected"],
        "selected_by": judged["selected_by"],
        "runs": run_numbers(experiment),
        "task": experiment.task,
        "rows": judged["rows"],
        "heads": [
            {**{key: entry[key] for key in ("head", "epochs", "has_diverged")}, **headline(entry)} for entry in judged["heads"]
        ],
        "baselines": [
            {**{key: entry[key] for key in ("baseline", "cross_validation") if key in entry}, **headline(entry)}
            for entry in judged["baselines"]
        ],
        **{key: judged[key] for key in ("leak_aware",) if key in judged},
        "notes": judged["notes"],
    }
