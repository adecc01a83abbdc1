"""Heads from features to a finished experiment by one call: what `headstart train-head` does."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

from headstart.experiments.config import BaselineOptions, HeadConfig, TrainingOptions, idle_settings, linear_head, usual_steps
from headstart.experiments.data.columns import detected_task
from headstart.experiments.evaluation.publish import removed_files
from headstart.experiments.runs.beginning.begin import Begun
from headstart.experiments.runs.beginning.begin_heads import Request, begin_heads
from headstart.experiments.runs.finishing import Ending, Words, finish
from headstart.experiments.runs.head_experiment import HeadExperiment
from headstart.features.devices import device_of_heads
from headstart.features.encoders.folder import chosen_encoder
from headstart.features.manifest.dataset_matching import named_dataset
from headstart.features.manifest.reading import list_datasets
from headstart.features.store.cached_features import CachedFeatures, of_dataset
from headstart.features.store.packing import open_cache
from headstart.pipeline.kinds import Settings
from headstart.pipeline.text import plural
from headstart.pipeline.workspace import Workspace, as_workspace

_NAMED = 4  # heads that a line names


def train_heads(
    heads: Sequence[HeadConfig] | None = None,
    workspace: Workspace | Path | str | None = None,
    *,
    encoder: str | None = None,
    data: str | None = None,
    task: str = "auto",
    targets: Sequence[str] = (),
    auxiliary: Sequence[str] = (),
    val_part: float | None = None,
    options: TrainingOptions | None = None,
    logistic: bool | None = None,
    folds: int = 0,
    name: str | None = None,
    time_limit_s: float | None = None,
    report: Callable[[str], None] = lambda line: None,
) -> Ending[HeadExperiment]:
    """Trains heads on the features that are there, all of them in one pass; killed and called again, it goes on.

    Args:
        heads: with different names; None: one linear head.
        workspace: a folder; None is the one that every command would take, see `find_root`.
        encoder: whose features, if there are several encoders; data: only the images of this data set.
        task: classification, regression, or auto: by the targets.
        targets, auxiliary, val_part, name: see `begin_heads.Request`.
        options: None: small sets are trained until validation gets no better, see `TrainingOptions.steps`.
        logistic: whether logistic regression is fitted, too; None: for classes. folds: see BaselineOptions.
        time_limit_s: leave by then, with a checkpoint.
        report: gets a line as soon as it is known.

    Raises: HeadstartError with one line if nothing can be learnt, options contradict each other, the training fails, or the name
        is taken by another experiment; TryLaterError if the disk is full or the database stays locked.
    """
    begun_at = time.monotonic()
    chosen = tuple(heads or [linear_head()])
    options = options or TrainingOptions(steps=usual_steps(chosen))
    device, note = device_of_heads(options.device)
    if note:
        report(f"note: {note}")
    options = replace(options, device="cpu")  # the machine is no part of what is trained: another one may go on
    opened = as_workspace(workspace)
    features = _features(opened, encoder, data)
    decided = detected_task(features, tuple(targets)) if task == "auto" else task
    baselines = BaselineOptions(decided == "classification" if logistic is None else logistic, folds)
    request = Request(features, decided, tuple(targets), tuple(auxiliary), chosen, options, name, val_part, baselines)
    report(f"features of {features.coverage}, {features.embed_dim:,} numbers each ({features.folder.name})")
    begun = begin_heads(opened, request)
    for note in (*begun.notes, *idle_settings(request.heads, decided)):
        report(f"note: {note}")
    left_s = None if time_limit_s is None else time_limit_s - (time.monotonic() - begun_at)
    return _finished(opened, begun, Settings(device), left_s, report)


def _features(workspace: Workspace, encoder: str | None, data: str | None) -> CachedFeatures:
    features = open_cache(chosen_encoder(workspace, encoder))
    if data is None:
        return features
    is_known = any(data in folder.name for folder in list_datasets(workspace.manifests))
    folder = named_dataset(workspace, data) if is_known else workspace.manifests / Path(data).name
    return of_dataset(features, workspace.relative(folder))


def _finished(
    workspace: Workspace,
    begun: Begun[HeadExperiment],
    settings: Settings,
    time_limit_s: float | None,
    report: Callable[[str], None],
) -> Ending[HeadExperiment]:
    experiment, counts = begun.experiment, begun.experiment.counts
    words = Words(
        same=f"the same heads on the same {counts['train']:,} training images",
        again="train them again",
        begun=f", begun on {counts['train']:,} training images",
        about=f"{experiment.folder.name}: {experiment.task}, {counts['train']:,} train, {counts['val']:,} val and "
        f"{counts['test']:,} test images; {_about_heads(experiment.heads)}, beside baselines, simpler methods without epochs",
    )
    return finish(workspace, begun, words, settings, time_limit_s, report, removed_files)


def _about_heads(heads: Sequence[HeadConfig]) -> str:
    """What they are: 'head' and 'augmented' mean other things elsewhere."""
    what = f"{plural(len(heads), 'head')}, small networks on the features, trained in epochs"
    return f"{what}: {', '.join(map(_about_head, heads))}" if len(heads) <= _NAMED else what


def _about_head(head: HeadConfig) -> str:
    layers = f"hidden layer of {' and '.join(map(str, head.hidden))}" if head.hidden else "no hidden layer"
    return f"{head.name} ({layers}{', on features varied at random' if head.noise or head.mixup else ''})"
