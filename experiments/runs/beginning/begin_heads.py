"""Begins an experiment of heads: finds the one that the same command began before, or makes its folder and queues its job."""

import hashlib
from dataclasses import dataclass, replace

from headstart.experiments.config import (
    USUAL_BASELINES,
    BaselineOptions,
    HeadConfig,
    TrainingOptions,
    flaw_of_head_names,
)
from headstart.experiments.heads.grid import refuse_too_large
from headstart.experiments.heads.pass_plan import plan_pass
from headstart.experiments.linear.method import is_baseline
from headstart.experiments.runs.beginning.begin import Begun, Complete, begin_experiment
from headstart.experiments.runs.experiment import ROWS, nowhere, refuse_bad_name
from headstart.experiments.runs.experiment_data import data_of, training_folds
from headstart.experiments.runs.head_experiment import HeadExperiment
from headstart.features.store.cached_features import CachedFeatures
from headstart.features.store.snapshot import serialize_snapshot
from headstart.pipeline.errors import HeadstartError
from headstart.pipeline.memory import available_bytes
from headstart.pipeline.workspace import Workspace


@dataclass(frozen=True)
class Request:
    """What a user asks for.

    Attributes:
        features: to learn from.
        task, targets, auxiliary, heads, options, baselines: see HeadExperiment.
        val_part: likewise; None: a tenth if the data has no validation split.
        name: of the experiment, None to call it after its heads.
    """

    features: CachedFeatures
    task: str
    targets: tuple[str, ...]
    auxiliary: tuple[str, ...]
    heads: tuple[HeadConfig, ...]
    options: TrainingOptions
    name: str | None = None
    val_part: float | None = None
    baselines: BaselineOptions = USUAL_BASELINES


def begin_heads(workspace: Workspace, request: Request) -> Begun[HeadExperiment]:
    """Finds or makes the experiment, and its row in the queue. Two callers at once get two numbers.

    Raises: HeadstartError if nothing can be learnt from these rows, or the name is taken by an experiment that differs.
    """
    if request.name is not None:
        refuse_bad_name(request.name)
    _refuse_bad_head_names(request.heads)
    if request.baselines.logistic and request.task != "classification":
        raise HeadstartError(
            "--logistic needs classes, these targets are numbers. Leave it out: ridge is the baseline of numbers"
        )

    def complete(sketch: HeadExperiment) -> Complete[HeadExperiment]:
        data = data_of(request.features, request.task, request.targets, request.auxiliary, sketch.val_part, sketch.centers)
        refuse_too_large(request.heads, data.data.inputs, data.data.targets.outputs, available_bytes())
        plan_pass(data.data, request.heads, request.options)  # refuses what does not fit before anything is written, as below
        training_folds(data, request.baselines.folds)
        rows = serialize_snapshot(request.features)
        experiment = replace(sketch, counts=data.counts, rows_sha256=hashlib.sha256(rows).hexdigest())
        return Complete(experiment, {ROWS: rows}, data.notes)

    return begin_experiment(workspace, _sketch(workspace, request), request.name, complete)


def _refuse_bad_head_names(heads: tuple[HeadConfig, ...]) -> None:
    """Raises: HeadstartError if a head's file could not carry its name."""
    flaw = flaw_of_head_names(heads)
    taken = next((head.name for head in heads if is_baseline(head.name)), None)
    if flaw is None and taken is not None:
        flaw = f"a head is named {taken!r}, and so is a baseline that every experiment has"
    if flaw:
        raise HeadstartError(f"{flaw}. Give it another name")


def _sketch(workspace: Workspace, request: Request) -> HeadExperiment:
    return HeadExperiment(
        folder=nowhere(workspace),
        number=0,
        name=request.name or _default_name(request.heads),
        encoder=request.features.folder,
        fingerprint=request.features.rows.fingerprint,
        task=request.task,
        # What was left open is settled: a later version may have another usual weight decay.
        heads=tuple(replace(head, weight_decay=head.decay) for head in request.heads),
        options=request.options,
        targets=request.targets,
        auxiliary=request.auxiliary,
        val_part=_val_part(request),
        data=request.features.digest,
        rows_sha256="",
        counts={},
        baselines=request.baselines,
        dataset=request.features.selected,
        centers=_centers(request),
    )


def _centers(request: Request) -> tuple[str, ...]:
    """Numbers whose unit and offset must not matter; what a sigmoid has to reach stays as it is."""
    is_free = request.task == "regression" and all(head.output_for(request.task) == "linear" for head in request.heads)
    return (("targets",) if is_free else ()) + (("auxiliary",) if request.auxiliary else ())


def _val_part(request: Request) -> float:
    has_val = bool(request.features.rows.split.is_("val").any())
    if request.val_part is None:
        return 0.0 if has_val else 0.1
    if has_val:
        raise HeadstartError("the data has a validation split, so none is drawn: leave --val-part out")
    return request.val_part


def _default_name(heads: tuple[HeadConfig, ...]) -> str:
    return heads[0].name[:40].replace("+", "_") if len(heads) == 1 else "ablation"
