"""What a finished training leaves: heads, metrics, history and report in its folder, and rows in the database."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from headstart.experiments.heads.trained_head import TrainedHead
from headstart.experiments.heads.trainer import Outcome
from headstart.experiments.runs.database.rows import HISTORY
from headstart.experiments.runs.database.synchronize import record
from headstart.experiments.runs.experiment import METRICS, REPORT, description_digest
from headstart.experiments.runs.experiment_data import ExperimentData
from headstart.experiments.runs.head_experiment import HeadExperiment, best_head_path, head_path, removed_heads
from headstart.pipeline.doors.records import Record, encode, seal
from headstart.pipeline.text import plural, printable
from headstart.pipeline.workspace import Workspace

from .evaluate_experiment import ExperimentEvaluation
from .metrics import classification_report, probabilities_of

FORMAT = 1


def publish(
    workspace: Workspace,
    experiment: HeadExperiment,
    data: ExperimentData,
    outcomes: Sequence[Outcome],
    evaluation: ExperimentEvaluation,
) -> bytes:
    """Writes every file and every row; writing them again changes nothing.

    Args:
        evaluation: of these outcomes.

    Returns: the job's payload: JSON with the headline of each head and the sha256 of each file.
    Raises: TryLaterError if the disk is full or the database stays locked; the same again then finishes it.
    """
    judged = evaluation.metrics
    files = dict(_files(experiment, data, outcomes, evaluation))
    workspace.make_folder(best_head_path(experiment).parent)
    for name, content in files.items():
        workspace.files.replace(experiment.folder / name, content)
    record(workspace, experiment)
    digests = {name: hashlib.sha256(content).hexdigest() for name, content in sorted(files.items())}
    headlines = {entry["head"]: headline(entry) for entry in judged["heads"]}
    headlines |= {entry["baseline"]: headline(entry) for entry in judged["baselines"]}
    payload = {"format": FORMAT, "experiment": experiment.folder.name, "selected": judged["selected"]}
    return encode({**payload, "heads": headlines, "files": digests})


def headline(entry: Mapping[str, Any]) -> dict[str, Any]:
    """The one number of a head or baseline on each split: accuracy, or Pearson's r averaged over targets; with its interval."""
    result: dict[str, Any] = {}
    for split in ("val", "test"):
        metrics = entry.get(split)
        if metrics is None:
            continue
        if "accuracy" in metrics:
            result[split] = {"metric": "accuracy", "value": metrics["accuracy"], "interval": metrics["accuracy_interval"]}
            continue
        targets = list(metrics["targets"].values())
        values = [target["pearson"] for target in targets]
        mean = None if None in values else float(np.mean(values))
        interval = targets[0]["pearson_interval"] if len(targets) == 1 else [None, None]
        result[split] = {"metric": "pearson", "value": mean, "interval": interval}
    return result


def removed_files(experiment: HeadExperiment, payload: Record) -> frozenset[Path]:
    """Files that the payload names and that are gone because their user removed the head."""
    removed = removed_heads(experiment.folder)
    gone = {head_path(experiment, head) for head in removed}
    return frozenset(gone | ({best_head_path(experiment)} if payload.get("selected") in removed else set()))


def _files(
    experiment: HeadExperiment, rows: ExperimentData, outcomes: Sequence[Outcome], evaluation: ExperimentEvaluation
) -> Iterator[tuple[str, bytes]]:
    judged = evaluation.metrics
    course = {
        outcome.head.config.name: {"is_stopped_early": outcome.is_stopped_early, "epochs": list(outcome.history)}
        for outcome in outcomes
    }
    yield HISTORY, seal({"format": FORMAT, "monitor": judged["selected_by"]["metric"], "heads": course})
    removed = removed_heads(experiment.folder)
    for head in (*(outcome.head for outcome in outcomes if outcome.best_epoch >= 0), *evaluation.baselines):
        name = head.config.name
        if name == judged["selected"] and experiment.task == "classification":
            yield REPORT, _report(experiment, rows, head, evaluation.scores)
        if name in removed:
            continue
        data = head.encode()
        yield head_path(experiment, name).relative_to(experiment.folder).as_posix(), data
        if name == judged["selected"]:
            yield best_head_path(experiment).relative_to(experiment.folder).as_posix(), data
    yield (
        METRICS,
        seal({**judged, "description": description_digest(experiment.folder)}),
    )  # the last one: who sees it sees the others


def _report(experiment: HeadExperiment, data: ExperimentData, head: TrainedHead, scores: NDArray[np.float32]) -> bytes:
    split, rows = ("test", data.test) if len(data.test) else ("val", data.data.val)
    targets = data.data.targets
    said = probabilities_of(scores, head.config.output_for(experiment.task)).argmax(axis=1)
    names = [printable(name) for name in targets.names]
    text = classification_report(targets.codes[rows], said, names)
    title = f"{experiment.folder.name}, head {head.config.name}, {plural(len(rows), 'image')} of the split '{split}'\n\n"
    return f"{title}{text}".encode()
