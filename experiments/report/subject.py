"""What a page is about: a finished experiment, one of its heads, what that says of every image."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from headstart.experiments.evaluation.metrics import classification_metrics, regression_metrics
from headstart.experiments.heads.trained_head import TrainedHead, read_head
from headstart.experiments.runs.catalog import BEST, choose_run
from headstart.experiments.runs.experiment import is_finished
from headstart.experiments.runs.experiment_data import ExperimentData
from headstart.experiments.runs.head_experiment import (
    HeadExperiment,
    best_head_path,
    head_path,
    list_head_experiments,
    read_head_experiment,
)
from headstart.pipeline import paths
from headstart.pipeline.errors import HeadstartError
from headstart.pipeline.text import printable
from headstart.pipeline.workspace import Workspace

from .answers import Answers

SPLIT_NAMES = {"train": "training", "val": "validation", "test": "test", "": "not used"}
MISTAKES_SHOWN = 18  # mistakes on the page
_SAMPLE = 5000  # images that t-SNE arranges and that have thumbnails, besides the mistakes
_MOST_POINTS = 100_000
_MOST_MISTAKES = 4000  # that have thumbnails


@dataclass(frozen=True)
class Subject:
    """What a page is about: a finished experiment and one of its heads."""

    workspace: Workspace
    experiment: HeadExperiment
    metrics: Mapping[str, Any]
    head: TrainedHead
    data: ExperimentData
    answers: Answers
    mistakes: NDArray[np.int64]

    @property
    def shown(self) -> str:
        return self.head.config.name

    @property
    def split(self) -> str:
        return "test" if len(self.data.test) else "val"

    @property
    def is_classes(self) -> bool:
        return self.head.task == "classification"


def chosen_experiment(workspace: Workspace, what: str) -> tuple[HeadExperiment, str | None]:
    """The experiment, and the head that was asked for by its run; None: the one that validation chose."""
    if what == BEST or what.isdecimal():
        chosen = choose_run(workspace, what)
        return chosen.experiment, chosen.run.head
    known = list_head_experiments(workspace)
    named = [each for each in known if what in (each.folder.name, each.name)]
    if not named:
        names = ", ".join(each.folder.name for each in known[-3:]) or "none yet; train heads: headstart train-head"
        raise HeadstartError(f"there is no experiment {printable(what)!r}; the newest are: {names}")
    experiment = read_head_experiment(workspace, named[-1].folder)
    if not is_finished(experiment):
        raise HeadstartError(f"{experiment.folder.name} is not finished, so it has no answer yet. Finish it: headstart work")
    return experiment, None


def head_of(experiment: HeadExperiment, metrics: Mapping[str, Any], shown: str | None) -> TrainedHead:
    selected = str(metrics["selected"])
    name = shown or selected
    path = head_path(experiment, name)
    return read_head(best_head_path(experiment) if name == selected and not paths.exists(path) else path)


def looked_at(subject: Subject) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Positions on the map, and those among them with thumbnails: a seeded sample and all mistakes, ascending."""
    count = len(subject.data.features)
    random = np.random.Generator(np.random.Philox(0))
    mistakes = subject.mistakes[:_MOST_MISTAKES] if subject.is_classes else subject.mistakes[:MISTAKES_SHOWN]
    everything = np.arange(count)
    if count > _MOST_POINTS:
        everything = np.union1d(random.choice(count, _MOST_POINTS, replace=False), mistakes)
    sample = everything
    if len(everything) > _SAMPLE:
        sample = np.union1d(random.choice(everything, _SAMPLE, replace=False), mistakes)
    return everything.astype(np.int64), sample.astype(np.int64)


def own_metrics(subject: Subject) -> dict[str, Any]:
    """Of the shown head on the judged images: as training noted them, else computed again."""
    for entry in [*subject.metrics["heads"], *subject.metrics["baselines"]]:
        noted = entry.get(subject.split) or {}
        if subject.shown in (entry.get("head"), entry.get("baseline")) and ("confusion_matrix" in noted or "targets" in noted):
            return dict(noted)
    data, judged = subject.data, subject.answers.judged
    targets, groups = data.data.targets, data.features.groups[judged]
    if subject.is_classes:
        from headstart.experiments.evaluation.metrics import probabilities_of

        scores = subject.head.scores(data.data.source, judged, data.data.auxiliary)
        output = subject.head.config.output_for(subject.head.task)
        return classification_metrics(probabilities_of(scores, output), targets.codes[judged], targets.names, groups=groups)
    return regression_metrics(subject.answers.predicted[judged], targets.values[judged], targets.names, groups)
