"""The runs there are, each with its headline numbers. Imports no numpy: a list of runs comes at once."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from headstart.pipeline.errors import HeadstartError
from headstart.pipeline.workspace import Workspace

from .database import Metric, Run, open_database
from .experiment import read_experiment

_BUSY_S = 5.0  # a reader has to wait for a writer only where the file system knows no write-ahead log
_LARGER_IS_BETTER = {"accuracy": True, "pearson": True, "loss": False}


@dataclass(frozen=True)
class Line:
    """One run.

    Attributes:
        images: in training, validation and test together; None if the experiment's folder is gone.
        metric: accuracy, or Pearson's r averaged over targets.
        validation, test: its values; interval: of the test value, 95 %.
    """

    run: Run
    images: int | None
    metric: str
    validation: float | None
    test: float | None
    interval: tuple[float, float] | None

    def as_json(self) -> dict[str, Any]:
        record = asdict(self)
        run = record.pop("run")
        return {key: run[key] for key in ("run", "experiment", "head", "task")} | record


def read_runs(workspace: Workspace) -> list[tuple[Run, dict[str, dict[str, float | None]]]]:
    """Finished runs, oldest first, with what was measured at their end: by split, then by metric.

    Raises: HeadstartError if there are none, TryLaterError if the database stays locked.
    """
    if not workspace.database.exists():
        raise _no_runs(workspace)
    with open_database(workspace.database, _BUSY_S) as database:
        final = database.final_metrics()
        found = [(run, _by_split(final.get(run.run, []))) for run in database.runs()]
    finished = [(run, metrics) for run, metrics in found if "images" in metrics.get("val", {})]
    if not finished:
        raise _no_runs(workspace)
    return finished


def list_runs(workspace: Workspace) -> list[Line]:
    """For people, oldest first. Raises as `read_runs`."""
    images: dict[str, int | None] = {}
    lines = []
    for run, metrics in read_runs(workspace):
        if run.experiment not in images:
            images[run.experiment] = _images(workspace, run.experiment)
        metric = "accuracy" if run.task == "classification" else "pearson"
        test = metrics.get("test", {})
        low, high = test.get(f"{metric}_interval_low"), test.get(f"{metric}_interval_high")
        lines.append(
            Line(
                run=run,
                images=images[run.experiment],
                metric=metric,
                validation=averaged(metrics["val"], metric),
                test=averaged(test, metric),
                interval=None if low is None or high is None else (low, high),
            )
        )
    return lines


def goodness(run: Run, metrics: Mapping[str, Mapping[str, float | None]], monitor: str) -> float:
    """What runs are chosen by, larger is better: the validation metric that `monitor` names."""
    name = {"loss": "log_loss" if run.task == "classification" else "mse"}.get(monitor, monitor)
    value = averaged(metrics["val"], name)
    if value is None:
        return float("-inf")
    return value if _LARGER_IS_BETTER[monitor] else -value


def averaged(metrics: Mapping[str, float | None], name: str) -> float | None:
    """The metric of that name, or its mean over targets; None if it does not exist for one of them."""
    values = [
        value
        for key, value in metrics.items()
        if key == name or (key.endswith(f".{name}") and not key.endswith(f"within_groups.{name}"))
    ]
    known = [value for value in values if value is not None]
    return sum(known) / len(known) if known and len(known) == len(values) else None


def _by_split(metrics: Sequence[Metric]) -> dict[str, dict[str, float | None]]:
    result: dict[str, dict[str, float | None]] = {}
    for found in metrics:
        result.setdefault(found.split, {})[found.metric] = found.value
    return result


def _images(workspace: Workspace, folder: str) -> int | None:
    try:
        counts = read_experiment(workspace, workspace.experiments / folder).counts
    except HeadstartError:
        return None
    return sum(counts.get(split, 0) for split in ("train", "val", "test"))


def _no_runs(workspace: Workspace) -> HeadstartError:
    return HeadstartError(f"{workspace.root} has no finished run yet. Train heads on its features: headstart train-head")
