"""What a finished training of a recipe leaves: weights, numbers, history and pictures in its folder, rows in the database.

Everything is a function of the training's last state, so writing it again changes nothing.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, cast

import numpy as np

from headstart.experiments.runs.database.rows import HISTORY
from headstart.experiments.runs.database.synchronize import record
from headstart.experiments.runs.experiment import METRICS, REPORT, description_digest
from headstart.experiments.runs.recipe_experiment import RecipeExperiment, headline_metric
from headstart.experiments.training.judge_model import judge
from headstart.experiments.training.judging.metrics import Metric, Table, judging
from headstart.experiments.training.loop import Loop
from headstart.experiments.training.recipe import Recipe, Showing, asking, has, named_file
from headstart.experiments.training.state.final_weights import Final, encode_final
from headstart.pipeline.doors.records import encode, seal
from headstart.pipeline.memory import freed_memory_kept
from headstart.pipeline.text import printable
from headstart.pipeline.workspace import Workspace

from .curves import draw_curves
from .intervals import Sample

FORMAT = 1
RESULTS = "test_results.json"
SHOWN = "shown"
CURVES = "figures/curves.png"


def publish_recipe(workspace: Workspace, experiment: RecipeExperiment, loop: Loop, check: Callable[[], None]) -> bytes:
    """Judges the best weights, the test split for the first time, and writes every file and row.

    Returns: the job's payload: JSON with the headline and the sha256 of each file.
    Raises: HeadstartError if no evaluation gave a finite number; TryLaterError if the disk is full.
    """
    with loop.same_rounding(), freed_memory_kept():
        return _published(workspace, experiment, loop, check)


def _published(workspace: Workspace, experiment: RecipeExperiment, loop: Loop, check: Callable[[], None]) -> bytes:
    model = loop.use_best()
    said = {}
    for split in loop.splits.named():
        if split != "train":
            with asking("evaluate"):
                said[split] = judge(loop.recipe, model, loop.batches(split, check), loop.options.amp)
    judged = _judged(experiment, loop, said)
    if loop.options.judge_start:
        judged |= _against_start(workspace, loop, said, check)
    files = dict(_files(experiment, loop, judged, check))
    for name, data in files.items():
        path = experiment.folder / name
        workspace.make_folder(path.parent)
        workspace.files.replace(path, data)
    record(workspace, experiment)
    digests = {name: hashlib.sha256(data).hexdigest() for name, data in sorted(files.items())}
    payload = {"format": FORMAT, "experiment": experiment.folder.name, "headline": recipe_headline(judged), "files": digests}
    return encode(payload)


def numbers_of(metrics: Sequence[Metric | Table]) -> dict[str, Any]:
    """Numbers by name, each with its 95 % interval where it has one, then tables; ready for JSON."""
    result: dict[str, Any] = {}
    for one in metrics:
        if isinstance(one, Table):
            result[one.name] = one.value
            continue
        result[one.name] = one.value if one.value == one.value else None
        if one.rows is not None:
            result[f"{one.name}_interval"] = _interval(one)
    return result


def _interval(metric: Metric) -> list[float | None]:
    assert metric.rows is not None
    rows = metric.rows
    sample = Sample(len(rows))
    return sample.proportion(rows[:, 0] == 1) if is_proportion(metric) else sample.bca(rows, metric.of)


def _judged(experiment: RecipeExperiment, loop: Loop, said: Mapping[str, Sequence[Metric | Table]]) -> dict[str, Any]:
    progress = loop.progress
    best = progress.history[progress.best]
    chosen = judging(said["val"])
    notes = [*loop.splits.notes, *progress.notes]
    if progress.broken_count:
        row, reason = next(iter(progress.broken.items()))
        notes.append(f"{progress.broken_count} times a row could not be made and was left out, such as row {row}: {reason}")
    if progress.bad_steps:
        notes.append(f"{progress.bad_steps} steps were not taken because loss or gradient was no number")
    return {
        "format": FORMAT,
        "recipe": experiment.recipe,
        "judged_by": {"metric": chosen.name, "better": chosen.better, **_headline_of(said["val"])},
        "best": {"step": best["step"], "epoch": best["epoch"]},
        "steps": progress.step,
        "device": progress.device,
        "rows": dict(experiment.counts),
        "broken_rows": dict(progress.broken),
        "notes": notes,
        **{split: numbers_of(metrics) for split, metrics in said.items()},
    }


def _headline_of(metrics: Sequence[Metric | Table]) -> dict[str, str]:
    """Nothing where what judges is also what is told."""
    names = [one.name for one in metrics if isinstance(one, Metric) and one.is_headline]
    return {"headline": names[0]} if names else {}


def _against_start(
    workspace: Workspace, loop: Loop, said: Mapping[str, Sequence[Metric | Table]], check: Callable[[], None]
) -> dict[str, Any]:
    """What the model said before its first step, and the gain since, on the same rows in pairs."""
    fresh = Loop(loop.recipe, loop.options, loop.splits, loop.conduct, workspace=workspace)
    before, gain = {}, {}
    for split, after in said.items():
        with asking("evaluate"):
            first = judge(fresh.recipe, fresh.judged_model, fresh.batches(split, check), fresh.options.amp)
        before[split] = numbers_of(first)
        one, other = judging(after), judging(first)
        gain[split] = {"metric": one.name, "value": one.value - other.value, "interval": paired_interval(one, other)}
    return {"start": before, "gain": gain}


def paired_interval(one: Metric, other: Metric) -> list[float | None]:
    """95 % of the difference of two numbers of the same rows, by rows in pairs; none where rows do not say it."""
    if one.rows is None or other.rows is None or len(one.rows) != len(other.rows):
        return [None, None]
    sample, width = Sample(len(one.rows)), one.rows.shape[1]
    if is_proportion(one) and is_proportion(other):
        return sample.paired(one.rows[:, 0] == 1, other.rows[:, 0] == 1)
    rows = np.concatenate([one.rows, other.rows], axis=1)
    return sample.bca(rows, lambda sums: one.of(sums[..., :width]) - other.of(sums[..., width:]))


def is_proportion(metric: Metric) -> bool:
    """Whether it is the share of rows that are right."""
    rows = metric.rows
    if rows is None or rows.shape[1] != 2:
        return False
    return bool((rows[:, 1] == 1).all() and ((rows[:, 0] == 0) | (rows[:, 0] == 1)).all())


def recipe_headline(judged: Mapping[str, Any]) -> dict[str, Any]:
    """What is told of it, on each split, with its interval: the metric that judges it unless the recipe names another one."""
    name = headline_metric(judged["judged_by"])
    return {
        split: {"metric": name, "value": judged[split].get(name), "interval": judged[split].get(f"{name}_interval", [None, None])}
        for split in ("val", "test")
        if split in judged
    }


def _files(
    experiment: RecipeExperiment, loop: Loop, judged: Mapping[str, Any], check: Callable[[], None]
) -> Iterator[tuple[str, bytes]]:
    progress = loop.progress
    about = {"recipe": experiment.recipe, "code": experiment.code, "options": dict(experiment.values)}
    final = Final(about, dict(loop.about), {name: tensor.cpu() for name, tensor in (loop.best or {}).items()})
    yield experiment.final_weights.relative_to(experiment.folder).as_posix(), encode_final(final)
    course = {"format": FORMAT, "recipe": experiment.recipe, "judged_by": judged["judged_by"], "entries": progress.history}
    yield HISTORY, seal(course)
    yield CURVES, draw_curves(progress.history, judged["judged_by"]["metric"])
    split = "test" if "test" in judged else "val"
    yield RESULTS, seal({"format": FORMAT, "split": split, "rows": experiment.counts[split], **judged[split]})
    if "per_class" in judged[split]:
        yield REPORT, _report(experiment, split, judged[split])
    if has(loop.recipe, "show"):
        yield from _shown(loop.recipe, loop, split, check)
    yield (
        METRICS,
        seal({**judged, "description": description_digest(experiment.folder)}),
    )  # the last one: who sees it sees the others


def _shown(recipe: Recipe, loop: Loop, split: str, check: Callable[[], None]) -> Iterator[tuple[str, bytes]]:
    import torch

    batches = loop.batches(split, check)
    loop.model.eval()
    with asking("show"), torch.inference_mode(), loop.key.of("show").seeding():
        for name, value in cast(Showing, recipe).show(loop.model, batches):
            file, data = named_file("show", name, value)
            yield f"{SHOWN}/{file}", data


def _report(experiment: RecipeExperiment, split: str, numbers: Mapping[str, Any]) -> bytes:
    rows = numbers["per_class"]
    width = max(len(printable(name)) for name in rows)
    lines = [
        f"{experiment.folder.name}, recipe {experiment.recipe}, {experiment.counts[split]:,} rows of the split '{split}'",
        "",
    ]
    lines.append(f"{'':{width}}  precision  recall      f1    rows")
    for name, one in rows.items():
        lines.append(
            f"{printable(name):{width}}  {one['precision']:>9.4f}  {one['recall']:.4f}  {one['f1']:.4f}  {one['images']:>6,}"
        )
    return ("\n".join(lines) + "\n").encode()
