"""The database's rows of an experiment, made of the files in its folder alone. Imports no numpy."""

from __future__ import annotations

import datetime
import json
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from headstart.experiments.config import as_facts
from headstart.experiments.runs.experiment import DESCRIPTION, METRICS, Experiment, description_digest, read_metrics
from headstart.experiments.runs.head_experiment import REMOVED_HEADS, HeadExperiment, removed_heads
from headstart.pipeline import paths
from headstart.pipeline.doors import records
from headstart.pipeline.errors import HeadstartError
from headstart.pipeline.files import environment_faults

from .database import MadeRun, MetricRow

Report = Callable[[str], None]
HISTORY = "training_history.json"
NUMBERS = "runs.json"
_TABLES = ("per_class", "confusion_matrix", "intervals", "narrow_interval")


def ignored(line: str) -> None:
    """For who has nobody to tell."""


def stamp_of(experiment: Experiment) -> str | None:
    """Changes whenever what the rows are made of does; None while the experiment is not finished."""
    stamps = []
    markers = [path.relative_to(experiment.folder).as_posix() for path in paths.matching(experiment.folder, "done/*/job_*.done")]
    for name in (METRICS, REMOVED_HEADS, *sorted(markers)):
        try:
            with environment_faults(f"cannot read {experiment.folder / name}"):
                stat = paths.stat(experiment.folder / name)
        except FileNotFoundError:
            if name == METRICS:
                return None
            continue
        stamps.append(f"{stat.st_mtime_ns}-{stat.st_size}")
    return " ".join(stamps)


def made_runs(experiment: HeadExperiment, report: Report = ignored) -> list[MadeRun]:
    """One a head that is there, baselines included where they are heads.

    Args: report: called with a line for each file that is damaged and can be done without.

    Raises: HeadstartError if another is damaged.
    """
    stamp = stamp_of(experiment)
    judged = read_metrics(experiment)
    if stamp is None or not judged:
        return []
    require_description(experiment, judged)
    gone = removed_heads(experiment.folder)
    history, numbers = read_json(experiment, HISTORY, report), run_numbers(experiment, report)
    configs = {head.name: head for head in experiment.heads}
    shared = _about(experiment, judged, stamp)
    made = []
    try:
        for entry in judged["heads"]:
            name = entry["head"]
            if name in gone:
                continue
            config = {**as_facts(configs[name]), "options": as_facts(experiment.options)}
            about = {**shared, "method": "gradient", "is_baseline": 0, "is_chosen": int(name == judged["selected"])}
            course = history.get("heads", {}).get(name, {}).get("epochs", [])
            metrics = [*_course(entry, course, str(history.get("monitor"))), *_final(entry)]
            made.append(MadeRun(numbers.get(name), name, experiment.task, config, about, tuple(_unique(metrics))))
        for entry in judged["baselines"]:
            name = entry["baseline"]
            if name in gone or "sha256_of_weights" not in entry:  # an earlier version kept no head of it
                continue
            kept = ("baseline", "val", "test", "sha256_of_weights")
            config = {"name": name, **{key: value for key, value in entry.items() if key not in kept}}
            about = {**shared, "method": name, "is_baseline": 1, "is_chosen": int(name == judged["selected"])}
            metrics = list(_final({**entry, "steps": 0}))
            made.append(MadeRun(numbers.get(name), name, experiment.task, config, about, tuple(_unique(metrics))))
    except (KeyError, TypeError, AttributeError, ValueError):
        raise HeadstartError(
            f"{experiment.folder / METRICS} is damaged. The same {experiment.COMMAND} command writes it again"
        ) from None
    return made


def run_numbers(experiment: Experiment, report: Report = ignored) -> dict[str, int]:
    """By head, as they were given when the training was finished; {} if an earlier version did."""
    noted = read_json(experiment, NUMBERS, report).items()
    return {name: number for name, number in noted if type(number) is int and 0 < number < records.LARGEST}


def require_description(experiment: Experiment, judged: Mapping[str, Any]) -> None:
    """Raises: HeadstartError if the description is not the one under which that was measured. Earlier versions noted none."""
    if judged.get("description", "") not in ("", description_digest(experiment.folder)):
        raise records.DamagedError(
            experiment.folder / DESCRIPTION,
            f"it is not the one that {METRICS} names",
            f"Restore it from a copy, or train anew: {experiment.COMMAND} --name NEW",
        )


def _about(experiment: HeadExperiment, judged: Mapping[str, Any], stamp: str) -> dict[str, Any]:
    counts = experiment.counts
    groups = judged.get("groups")
    return {
        "date": begun_at(experiment),
        "encoder": experiment.encoder.name,
        "fingerprint": experiment.fingerprint,
        "dataset": experiment.dataset,
        "data": experiment.data,
        **{split: int(counts.get(split, 0)) for split in ("train", "val", "test", "images")},
        "groups": None if groups is None else int(groups),
        "versions": json.dumps(noted_versions(experiment), sort_keys=True),
        "stamp": stamp,
    }


def begun_at(experiment: Experiment) -> str:
    """When, UTC, ISO 8601."""
    begun = paths.stat(experiment.folder / DESCRIPTION).st_mtime
    return datetime.datetime.fromtimestamp(begun, datetime.UTC).isoformat(timespec="seconds")


def noted_versions(experiment: Experiment) -> dict[str, Any]:
    """From the job's marker, where there is one."""
    for path in paths.matching(experiment.folder, "done/*/job_*.done"):
        try:
            facts = records.read_record(path, None).record("facts")
            return {**facts.record("versions"), "device": facts["device"]}
        except (OSError, KeyError, HeadstartError):
            continue
    return {}


def read_json(experiment: Experiment, name: str, report: Report = ignored) -> dict[str, Any]:
    """{} if it is gone, or damaged, which is reported: what it holds is good to know."""
    try:
        return dict(records.read_record(experiment.folder / name, None))
    except OSError:
        return {}
    except HeadstartError as error:
        report(f"{error}. The same {experiment.COMMAND} command writes it again")
        return {}


def _course(entry: Mapping[str, Any], epochs: list[dict[str, Any]], monitor: str) -> Iterator[MetricRow]:
    a_step = entry["steps"] // entry["epochs"] if entry["epochs"] else 0
    for epoch in epochs:
        step = (epoch["epoch"] + 1) * a_step
        yield MetricRow(step, "train", "loss", epoch["train_loss"])
        yield MetricRow(step, "val", "loss", epoch["val_loss"])
        if monitor != "loss":
            yield MetricRow(step, "val", f"epoch_{monitor}", epoch["val_score"])


def _final(entry: Mapping[str, Any]) -> Iterator[MetricRow]:
    for split in ("val", "test"):
        for name, value in _scalars(entry.get(split) or {}):
            yield MetricRow(entry["steps"], split, name, value)


def _scalars(metrics: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, float | None]]:
    """Numbers by name: intervals as two of them, those of a target as `<target>.mse`; tables are in the JSON only."""
    for key, value in metrics.items():
        if key in _TABLES:
            continue
        if key == "targets":
            for target, numbers in value.items():
                yield from _scalars(numbers, f"{target}." if len(value) > 1 else "")
        elif isinstance(value, Mapping):
            yield from _scalars(value, f"{prefix}{key}.")
        elif isinstance(value, list):
            yield from ((f"{prefix}{key}_{side}", bound) for side, bound in zip(("low", "high"), value, strict=True))
        else:
            yield f"{prefix}{key}", value


def _unique(metrics: list[MetricRow]) -> list[MetricRow]:
    return list({(m.step, m.split, m.metric): m for m in metrics}.values())
