"""Which trained head the user means: `best`, or the number of a run."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from headstart.features.encoder_spec import EncoderSpec, read_encoder
from headstart.features.escaping import printable
from headstart.pipeline.errors import HeadstartError
from headstart.pipeline.workspace import Workspace

from .database import Run
from .experiment import Experiment, best_head_path, head_path, is_finished, list_experiments, read_experiment
from .judging import monitor_for
from .notes import read_notes
from .run_list import goodness, read_runs

BEST = "best"


@dataclass(frozen=True)
class Chosen:
    """A run, and the experiment that it is part of."""

    run: Run
    experiment: Experiment

    @property
    def head_path(self) -> Path:
        """Of its head; the copy that the experiment keeps of its best one if the head's own file is gone."""
        path = head_path(self.experiment, self.run.head)
        if not path.exists() and read_notes(self.experiment).get("selected") == self.run.head:
            return best_head_path(self.experiment)
        return path

    def encoder_spec(self) -> EncoderSpec:
        """Of the encoder whose features it was trained on. Raises: HeadstartError if that is gone or another one by now."""
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
    (classes, or columns) of the newest experiment, judged by what that one was trained for; of equals the newest.

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
    return Chosen(run, read_experiment(workspace, workspace.experiments / run.experiment))


def _best(workspace: Workspace) -> Chosen:
    runs = read_runs(workspace)
    experiments = {found.folder.name: found for found in list_experiments(workspace) if is_finished(found)}
    newest = max(experiments.values(), key=lambda found: found.number, default=None)
    if newest is None:
        raise HeadstartError(
            f"the experiments of {len(runs)} runs are gone from {workspace.experiments}. Restore them from a copy"
        )
    monitor, wanted = monitor_for(newest.options.monitor, newest.task), _subject(newest)
    alike = {name for name, found in experiments.items() if _subject(found) == wanted}
    candidates = [(run, goodness(run, metrics, monitor)) for run, metrics in runs if run.experiment in alike]
    if not candidates:
        raise HeadstartError(f"{newest.folder.name} has no finished run. Finish it: headstart work")
    run, _ = max(candidates, key=lambda item: (item[1], item[0].run))
    return Chosen(run, experiments[run.experiment])


def _subject(experiment: Experiment) -> tuple[Any, ...]:
    notes = read_notes(experiment)
    return experiment.task, experiment.targets, tuple(notes.get("classes") or notes.get("targets") or ())


def auxiliary_values(names: Sequence[str], given: Sequence[str]) -> list[float]:
    """Numbers from 'name=value' texts, in the order of `names`.

    Raises: HeadstartError that says which are missing, unknown or no numbers.
    """
    values: dict[str, float] = {}
    for text in given:
        name, equals, value = text.rpartition("=") if "=" in text else (text, "", "")
        if name not in names:
            known = f"the head takes {', '.join(map(printable, names))}" if names else "the head takes none"
            raise HeadstartError(f"--aux {printable(text)}: {known}")
        try:
            values[name] = float(value)
        except ValueError:
            values[name] = float("nan")
        if not equals or not abs(values[name]) < float("inf"):
            raise HeadstartError(f"--aux {printable(text)}: expected a number, such as --aux {printable(name)}=0.5")
    missing = [name for name in names if name not in values]
    if missing:
        wanted = " ".join(f"--aux {printable(name)}=VALUE" for name in missing)
        raise HeadstartError(f"the head was trained with columns beside the image, and they are missing: {wanted}")
    return [values[name] for name in names]
