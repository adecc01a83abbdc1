"""Kind `train_head`: one experiment, all its heads in one pass over the packed features, from the last checkpoint on."""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import replace
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any, ClassVar

from headstart.experiments.tracking.console import Narrator
from headstart.experiments.training.failure import TrainingFailed
from headstart.pipeline.errors import HeadstartError
from headstart.pipeline.job import Job
from headstart.pipeline.kinds import Settings
from headstart.pipeline.markers import Result
from headstart.pipeline.workspace import Workspace

# Rows times channels, and the less of both, up to which baselines are begun while torch is imported: their axes then take less.
_SMALL, _SMALL_ORDER = 1 << 23, 1536

if TYPE_CHECKING:
    from headstart.experiments.runs.head_experiment import HeadExperiment


def fingerprint(workspace: Workspace, folder: str) -> str:
    """Of the description: rows, heads, options; equal fingerprints mean the same heads."""
    from headstart.experiments.runs.head_experiment import read_head_experiment

    return read_head_experiment(workspace, workspace.root / folder).identity


def count_items(workspace: Workspace, source: str) -> int:
    """A training is one item."""
    return 1


def open_session(workspace: Workspace, job: Job, settings: Settings) -> TrainHeadSession:
    """Opens nothing yet: features are mapped when the job is prepared."""
    return TrainHeadSession(workspace, settings.device)


class TrainHeadSession:
    """One experiment."""

    KEEPS_PROGRESS: ClassVar[bool] = True

    def __init__(self, workspace: Workspace, device: str) -> None:
        self._workspace, self._device = workspace, device

    def prepare(self, job: Job) -> HeadExperiment:
        """Reads what is to be trained."""
        from headstart.experiments.runs.head_experiment import read_head_experiment

        return read_head_experiment(self._workspace, self._workspace.folder(job))

    def compute(self, prepared: HeadExperiment, check: Callable[[], None]) -> Result:
        """Trains from the last checkpoint on, judges, and writes heads and numbers; the marker that follows makes it done."""
        try:
            return self._trained(prepared, check)
        except HeadstartError as error:
            raise TrainingFailed(str(error)) from error

    def close(self) -> None:
        """Holds nothing between jobs."""

    def _trained(self, experiment: HeadExperiment, check: Callable[[], None]) -> Result:
        from headstart.experiments.evaluation.evaluate_experiment import evaluate_experiment
        from headstart.experiments.evaluation.publish import publish
        from headstart.experiments.heads.trainer import train
        from headstart.experiments.linear.baselines import prepare_baselines
        from headstart.experiments.runs.experiment_data import experiment_data
        from headstart.experiments.runs.head_experiment import best_head_path
        from headstart.experiments.training.early_stopping import monitor_for
        from headstart.experiments.training.state.checkpoints import Checkpoints
        from headstart.experiments.training.state.kept_parts import KeptParts
        from headstart.experiments.training.time_limit import TimeLimit
        from headstart.features.devices import device_of_heads
        from headstart.pipeline.versions import versions_of

        keeper = Checkpoints(best_head_path(experiment).parent, self._workspace.files)
        # A training that goes on has read every byte of the cache before.
        data = experiment_data(self._workspace, experiment, is_checked=not keeper.has_any())
        device, note = device_of_heads(self._device)
        options = replace(experiment.options.settled(len(data.data.train)), device=device)
        names = [head.name for head in experiment.heads]
        metric = monitor_for(options.monitor, experiment.task)
        narrator = Narrator(experiment.folder.name, options.epochs, names, metric, options.by_loss)
        if note:
            narrator.note(note)
        if device != experiment.options.device and experiment.options.device == "cuda":
            narrator.note("goes on without the GPU that it was begun on: the same training, slower, other last digits")
        limit = TimeLimit(check)
        order = min(len(data.data.train), data.data.inputs)
        is_small = order <= _SMALL_ORDER and len(data.data.train) * data.data.inputs <= _SMALL
        # A training that goes on should not wait for baselines before its first step.
        is_beside = is_small and not keeper.has_any() and "torch" not in sys.modules and find_spec("torch") is not None
        prepared = prepare_baselines(data.data, experiment.baselines, _import_torch) if is_beside else None
        _import_torch()
        outcomes = train(data.data, experiment.heads, options, keeper, limit.after_a_step, narrator.report)
        parts = limit.heard(KeptParts(experiment.checkpoints, self._workspace.files))
        evaluation = evaluate_experiment(experiment, data, outcomes, limit.after_a_part, parts, narrator.note, prepared)
        payload = publish(self._workspace, experiment, data, outcomes, evaluation)
        keeper.keep_only_newest()
        parts.clear()
        is_short = any(outcome.is_short for outcome in outcomes)
        facts: dict[str, Any] = {"device": device, "amp": is_short, "versions": versions_of("numpy", "torch")}
        return Result(payload, ".json", arrays={}, items=0, ok=0, facts=facts)


def _import_torch() -> None:
    from headstart.pipeline.memory import no_cycle_search

    # In all that the trainer consists of, and that stays, nobody need look for cycles.
    with no_cycle_search():
        import torch  # noqa: F401
