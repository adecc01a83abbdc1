"""Kind `train_head`: one experiment, all its heads in one pass over the packed features, from the last checkpoint on."""

from __future__ import annotations

import contextlib
import sys
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from headstart.pipeline.errors import HeadstartError, TryLaterError
from headstart.pipeline.job import Job
from headstart.pipeline.kinds import Settings
from headstart.pipeline.markers import Result
from headstart.pipeline.workspace import Workspace

if TYPE_CHECKING:
    from headstart.experiments.experiment import Experiment
    from headstart.experiments.judging import Progress

NAME = "train_head"


class TrainingFailed(Exception):
    """What a training cannot get over; it counts as an attempt, so that no other job waits for it for ever."""


def fingerprint(workspace: Workspace, folder: str) -> str:
    """Of the description: rows, heads, options; equal fingerprints mean the same heads."""
    from headstart.experiments.experiment import read_experiment

    return read_experiment(workspace, workspace.root / folder).identity


def open_session(workspace: Workspace, job: Job, settings: Settings) -> TrainHeadSession:
    """Opens nothing yet: features are mapped when the job is prepared."""
    return TrainHeadSession(workspace)


class TrainHeadSession:
    """One experiment."""

    def __init__(self, workspace: Workspace) -> None:
        self._workspace = workspace

    def prepare(self, job: Job) -> Experiment:
        """Reads what is to be trained."""
        from headstart.experiments.experiment import read_experiment

        return read_experiment(self._workspace, self._workspace.folder(job))

    def compute(self, prepared: Experiment, check: Callable[[], None]) -> Result:
        """Trains from the last checkpoint on, judges, and writes heads and numbers; the marker that follows makes it done."""
        try:
            return self._trained(prepared, check)
        except TryLaterError:
            raise
        except HeadstartError as error:
            raise TrainingFailed(str(error)) from error

    def close(self) -> None:
        """Holds nothing between jobs."""

    def _trained(self, experiment: Experiment, check: Callable[[], None]) -> Result:
        from headstart.experiments.checkpoints import Checkpoints
        from headstart.experiments.experiment import best_head_path
        from headstart.experiments.experiment_data import experiment_data
        from headstart.experiments.judgement import judge
        from headstart.experiments.results import publish
        from headstart.experiments.training import train

        keeper = Checkpoints(best_head_path(experiment).parent, self._workspace.files)
        # A training that goes on has read every byte of the cache before.
        found = experiment_data(self._workspace, experiment, is_checked=not keeper.has_any())
        narrator = Narrator(experiment)
        outcomes = train(found.data, experiment.heads, experiment.options, keeper, check, narrator.hear)
        judgement = judge(experiment, found, outcomes, check)
        payload = publish(self._workspace, experiment, found, outcomes, judgement)
        keeper.keep_only_newest()
        facts: dict[str, Any] = {"device": experiment.options.device, "versions": _versions()}
        return Result(payload, ".json", arrays={}, items=0, ok=0, facts=facts)


class Narrator:
    """Says on standard error how a training goes: a line an epoch, on a terminal always the same one."""

    def __init__(self, experiment: Experiment) -> None:
        self._experiment = experiment
        self._begun = time.monotonic()
        self._first: int | None = None

    def hear(self, epoch: int, progress: list[Progress]) -> None:
        """After each epoch, from 0; the time left is judged by the epochs since this process began."""
        self._first = epoch if self._first is None else self._first
        done, total = epoch + 1, self._experiment.options.epochs
        seconds = (time.monotonic() - self._begun) / (done - self._first)
        best = max(range(len(progress)), key=lambda i: progress[i].best)
        last = progress[best].history[-1]
        loss = "diverged" if last["train_loss"] is None else f"loss {last['train_loss']:.4f}"
        if progress[best].best_epoch >= 0:
            loss += f", best on validation {progress[best].best[0]:.4f} ({self._experiment.heads[best].name})"
        active = sum(one.is_active for one in progress)
        parts = [
            f"{self._experiment.folder.name}  epoch {done}/{total}",
            loss,
            f"{active} of {len(progress)} heads in training" if active < len(progress) else f"{len(progress)} heads",
        ]
        if done < total and active:
            parts.append(f"{(total - done) * seconds:.0f}s left")
        _say("  ".join(parts), is_last=done == total or not active)


def _say(text: str, is_last: bool) -> None:
    # Where nobody can read it (a full disk, a closed pipe) the training goes on.
    with contextlib.suppress(OSError, ValueError, AttributeError):
        if sys.stderr.isatty():
            sys.stderr.write(f"\r\x1b[2K{text}" + ("\n" if is_last else ""))
        else:
            sys.stderr.write(f"{text}\n")
        sys.stderr.flush()


def _versions() -> dict[str, str]:
    import numpy as np
    import torch

    return {"numpy": np.__version__, "torch": str(torch.__version__)}
