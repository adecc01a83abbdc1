"""The finished runs, each with its headline numbers, and which of them a user means. Imports no numpy: a list comes at once."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from headstart.experiments.linear.method import least_simplicity_of_trained, simplicity_of_baseline
from headstart.experiments.runs.database.database import Database, MetricRow, Run
from headstart.experiments.runs.database.recipe_rows import TASK as RECIPE_TASK
from headstart.experiments.runs.database.rows import Report, ignored
from headstart.experiments.runs.database.synchronize import open_synchronized
from headstart.experiments.training.early_stopping import monitor_for
from headstart.pipeline import paths
from headstart.pipeline.errors import HeadstartError
from headstart.pipeline.text import plural, printable
from headstart.pipeline.workspace import Workspace, as_workspace

from .experiment import is_finished, read_metrics
from .head_experiment import HeadExperiment, best_head_path, head_path, list_head_experiments, read_head_experiment
from .noise import REFERENCE, is_noise
from .recipe_experiment import RecipeExperiment, headline_metric, read_recipe_experiment

if TYPE_CHECKING:
    from headstart.features.encoders.spec import EncoderSpec

_LEAKING = "_leaking"  # behind the name of a metric: what a split says that leaks
_BUSY_S = 5.0  # a reader has to wait for a writer only where the file system knows no write-ahead log
_LARGER_IS_BETTER = {"accuracy": True, "pearson": True, "loss": False}


@dataclass(frozen=True)
class Line:
    """One run.

    Attributes:
        images: in training, validation and test together; None if an earlier version noted none.
        metric: accuracy, or Pearson's r averaged over targets.
        validation, test: its values; interval: of the test value, 95 %.
        leaking: what a split says that lets parts of one image into both sides; None where a recipe does not show it.
    """

    run: Run
    images: int | None
    metric: str
    validation: float | None
    test: float | None
    interval: tuple[float, float] | None
    leaking: float | None = None

    def as_json(self) -> dict[str, Any]:
        record = asdict(self)
        run = record.pop("run")
        return {key: run[key] for key in ("run", "experiment", "head", "task")} | record


def read_runs(workspace: Workspace) -> list[tuple[Run, dict[str, dict[str, float | None]]]]:
    """Finished runs, oldest first, with what was measured at their end: by split, then by metric.

    Raises: HeadstartError if there are none, TryLaterError if the database stays locked.
    """
    with open_synchronized(workspace, _BUSY_S) as database:
        return _finished(workspace, database)


def _finished(workspace: Workspace, database: Database) -> list[tuple[Run, dict[str, dict[str, float | None]]]]:
    final = database.final_metrics()
    everything = [(run, _by_split(final.get(run.run, []))) for run in database.runs()]
    finished = [(run, metrics) for run, metrics in everything if "images" in metrics.get("val", {})]
    if not finished:
        raise _no_runs(workspace)
    return finished


def list_runs(workspace: Workspace | Path | str | None = None, report: Report = ignored) -> list[Line]:
    """Finished runs with their headline numbers, oldest first: what `headstart runs` lists. Raises as `read_runs`.

    Args:
        workspace: a folder; None is the one that every command would take, see `find_root`.
        report: called with a line for each damaged file of an experiment, of which rows are missing then.
    """
    workspace = as_workspace(workspace)
    with open_synchronized(workspace, _BUSY_S, report=report) as database:
        finished, images = _finished(workspace, database), database.image_counts()
    lines = []
    for run, metrics in finished:
        metric = _headline_metric(run)
        test = metrics.get("test", {})
        low, high = test.get(f"{metric}_interval_low"), test.get(f"{metric}_interval_high")
        lines.append(
            Line(
                run=run,
                images=images.get(run.run),
                metric=metric,
                validation=averaged(metrics["val"], metric),
                test=averaged(test, metric),
                interval=None if low is None or high is None else (low, high),
                leaking=test.get(f"{metric}{_LEAKING}"),
            )
        )
    return lines


def _headline_metric(run: Run) -> str:
    if run.task == RECIPE_TASK:
        return headline_metric(run.config)
    return "accuracy" if run.task == "classification" else "pearson"


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


def _by_split(metrics: Sequence[MetricRow]) -> dict[str, dict[str, float | None]]:
    result: dict[str, dict[str, float | None]] = {}
    for metric in metrics:
        result.setdefault(metric.split, {})[metric.metric] = metric.value
    return result


def _no_runs(workspace: Workspace) -> HeadstartError:
    there = any(paths.exists(folder / "done") for folder in workspace.features.glob("encoder_*"))
    advice = (
        "Train heads on its features: headstart train-head"
        if there
        else "Make features first, then heads: headstart work, headstart train-head"
    )
    return HeadstartError(f"{workspace.root} has no finished run yet. {advice}")


BEST = "best"


@dataclass(frozen=True)
class Chosen:
    """A run, and the experiment that it is part of."""

    run: Run
    experiment: HeadExperiment

    @property
    def head_path(self) -> Path:
        """Of its head; the copy that the experiment keeps of its best one if the head's own file is gone."""
        path = head_path(self.experiment, self.run.head)
        if not paths.exists(path) and read_metrics(self.experiment).get("selected") == self.run.head:
            return best_head_path(self.experiment)
        return path

    def encoder_spec(self) -> EncoderSpec:
        """Of the encoder whose features it was trained on. Raises: HeadstartError if that is gone or another one by now."""
        from headstart.features.encoders.spec import read_encoder  # numpy, which a list of runs does not wait for

        spec = read_encoder(self.experiment.encoder)
        if spec.fingerprint != self.experiment.fingerprint:
            raise HeadstartError(
                f"{self.experiment.encoder} has fingerprint {spec.fingerprint[:8]}, the head was trained on features of "
                f"{self.experiment.fingerprint[:8]}. Restore that folder, or train anew: headstart train-head"
            )
        return spec

    @property
    def words(self) -> str:
        return f"run {self.run.run} ({self.run.head} of {self.run.experiment})"

    def as_json(self) -> dict[str, Any]:
        return {"run": self.run.run, "experiment": self.run.experiment, "head": self.run.head, "task": self.run.task}


def choose_run(workspace: Workspace, text: str) -> Chosen:
    """The run of that number; or 'best', the one that did best on validation among the finished ones with the task and targets
    (classes, or columns) of the newest experiment, judged by what that one was trained for and on the same validation images, and
    not held to be in doubt by its experiment; of equals the simplest, and of these the newest; but logistic regression of another
    experiment where that is behind by no more than noise.

    Raises: HeadstartError if there is no such run, or its experiment is gone.
    """
    if text == BEST:
        return _best(workspace)
    runs = read_runs(workspace)
    numbers = [run.run for run, _ in runs]
    if not text.isdecimal() or int(text) not in numbers:
        near = min(numbers, key=lambda number: abs(number - int(text))) if text.isdecimal() else numbers[-1]
        raise HeadstartError(
            f"there is no finished run {printable(text)!r}, expected 'best' or a number such as {near}. See which there are: "
            "headstart runs"
        )
    [run] = [run for run, _ in runs if run.run == int(text)]
    return Chosen(run, read_head_experiment(workspace, workspace.experiments / run.experiment))


def _best(workspace: Workspace) -> Chosen:
    runs = read_runs(workspace)
    experiments = {
        experiment.folder.name: experiment for experiment in list_head_experiments(workspace) if is_finished(experiment)
    }
    newest = max(experiments.values(), key=lambda experiment: experiment.number, default=None)
    if newest is None and all(run.task == RECIPE_TASK for run, _ in runs):
        raise HeadstartError(
            f"'best' is chosen among runs of headstart train-head, and there is none. Name another run by its number, such as "
            f"{runs[-1][0].run}: headstart runs lists them"
        )
    if newest is None:
        raise HeadstartError(
            f"the experiments of {plural(len(runs), 'run')} are gone from {workspace.experiments}. Restore them from a copy"
        )
    monitor, wanted = monitor_for(newest.options.monitor, newest.task), _subject(newest)
    alike = {name for name, experiment in experiments.items() if _subject(experiment) == wanted}
    candidates = [(run, goodness(run, metrics, monitor)) for run, metrics in runs if run.experiment in alike]
    if not candidates:
        raise HeadstartError(f"{newest.folder.name} has no finished run. Finish it: headstart work")
    judged = {name: read_metrics(experiments[name]) for name in {run.experiment for run, _ in candidates}}
    there = {(run.experiment, run.head) for run, _ in candidates}

    def is_in_doubt(run: Run) -> bool:
        """Its experiment chose another one although this one did better; but that one may have been removed."""
        facts = judged[run.experiment]
        is_there = (run.experiment, facts["selected"]) in there
        return is_there and run.head in facts.get("selected_by", {}).get("within_noise", ())

    run, best = max((item for item in candidates if not is_in_doubt(item[0])), key=_merit)
    references = [item for item in candidates if item[0].head == REFERENCE and item[0].config.get("hidden") is None]
    if references and monitor == "accuracy":
        reference, least = max(references, key=_merit)
        own = max((score for each, score in references if each.experiment == run.experiment), default=float("-inf"))
        is_equal = best == own < 1 and judged[run.experiment]["selected"] == REFERENCE
        # An experiment compares answers image by image; of two experiments only accuracies are known.
        if is_equal or (own < least and is_noise(best, least, int(experiments[reference.experiment].counts["val"]))):
            run = reference
    return Chosen(run, experiments[run.experiment])


def _merit(item: tuple[Run, float]) -> tuple[float, tuple[int, int], int]:
    run, score = item
    return score, _plainness(run), run.run


def _plainness(run: Run) -> tuple[int, int]:
    """Larger is simpler; as `head_choice.simplicity_of` has it, of what the database knows."""
    hidden = run.config.get("hidden")
    if hidden is None:
        return (-simplicity_of_baseline(run.head), 0)
    return (-least_simplicity_of_trained(), -sum(hidden))


def _subject(experiment: HeadExperiment) -> tuple[Any, ...]:
    notes = read_metrics(experiment)
    # An earlier version noted no validation images: equal rows, equally divided, are the same.
    judged_on = notes.get("validation") or (experiment.data, experiment.val_part)
    return experiment.task, experiment.targets, tuple(notes.get("classes") or notes.get("targets") or ()), judged_on


def any_run(workspace: Workspace, text: str) -> Chosen | RecipeExperiment:
    """The run of that number, or 'best', whatever it trained: a head, or the model of a recipe. Raises as `choose_run`."""
    return recipe_of_run(workspace, text) or choose_run(workspace, text)


def recipe_of_run(workspace: Workspace, text: str) -> RecipeExperiment | None:
    """What a run of a recipe trained; None if it trained something else, or there is no such run."""
    if not text.isdecimal():
        return None
    with open_synchronized(workspace, _BUSY_S) as database:
        run = next((run for run in database.runs() if run.run == int(text)), None)
    if run is None or run.task != RECIPE_TASK:
        return None
    return read_recipe_experiment(workspace, workspace.experiments / run.experiment)
