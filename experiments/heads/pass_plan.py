"""What is settled before the first step of a pass: lanes, threads, and the identity that a resumed training must share."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np

from headstart.experiments.config import HeadConfig, TrainingOptions, as_facts
from headstart.experiments.data.training_data import TrainingData
from headstart.features.accelerators import device_kind
from headstart.features.devices import cores
from headstart.pipeline.errors import HeadstartError

from .lanes import Task, split_into_lanes
from .torch_private import has_bfloat16

_VERSION = 2  # of the arithmetic, random numbers included: no state of another one is gone on with
_WORTH_THREADS = 5e7  # operations of one product below which waking a second core costs more than it helps


@dataclass(frozen=True)
class PassPlan:
    """One pass.

    Attributes:
        task: for the lanes, in float32: the trainer asks `has_short_products`, for which torch must be there.
        members: positions of the heads of each lane.
        is_scaled: whether numbers are predicted in units of their spread.
        intraop: threads that one product is computed with.
        identity: version of the arithmetic, and sha256 (hex) of all that decides the result.
    """

    task: Task
    members: tuple[tuple[int, ...], ...]
    is_scaled: bool
    intraop: int
    identity: str


def plan_pass(data: TrainingData, heads: Sequence[HeadConfig], options: TrainingOptions) -> PassPlan:
    """Raises: HeadstartError if names repeat, an output does not fit the targets, or threads may not share the device."""
    _refuse_repeated([head.name for head in heads])
    targets = data.targets
    outputs = {head.output_for(targets.task) for head in heads}
    if targets.task == "regression":
        _refuse_unfit(outputs, targets.values[data.train])
    elif options.monitor == "pearson":
        raise HeadstartError("monitor 'pearson' needs numbers to predict, these are classes. Use accuracy or loss")
    if targets.task == "regression" and options.monitor == "accuracy":
        raise HeadstartError("monitor 'accuracy' needs classes, these are numbers. Use loss or pearson")
    if not device_kind(options.device).is_threaded:
        raise HeadstartError(f"device '{options.device}': several threads train heads, which cpu and cuda allow. Use one of them")
    members = tuple(tuple(lane) for lane in split_into_lanes(heads, targets.outputs))
    widest = max(sum((heads[i].hidden or (targets.outputs,))[0] for i in lane) for lane in members)
    is_worth_it = 2.0 * options.batch_size * data.inputs * widest > _WORTH_THREADS
    return PassPlan(
        task=Task(targets.task, data.inputs, targets.outputs, _balanced(data), options.device),
        members=members,
        is_scaled=outputs == {"linear"},
        intraop=max(1, cores() // len(members)) if is_worth_it else 1,
        identity=_identity(data, heads, options),
    )


def has_short_products(options: TrainingOptions, task: str) -> bool:
    """Whether hidden layers multiply in bfloat16: as was asked for, else for classes on a CPU that has instructions for it.

    They learn the same in 3/4 of the time (`benchmarks/RESULTS.md`). Numbers that are predicted need more digits.
    """
    if options.amp or options.float32:
        return options.amp
    return task == "classification" and options.device == "cpu" and has_bfloat16()


@contextmanager
def intraop_threads(count: int) -> Iterator[None]:
    """Within it, torch computes each product with `count` threads: how a sum is split decides its last bit."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _identity(data: TrainingData, heads: Sequence[HeadConfig], options: TrainingOptions) -> str:
    shared = as_facts(options)
    del shared["checkpoint_s"]  # decides when, not what
    shared["device"] = "cpu"  # whatever it is: another machine may go on
    digest = hashlib.sha256(json.dumps([data.source.digest, [as_facts(h) for h in heads], shared, data.targets.names]).encode())
    for array in (data.train, data.val, data.targets.codes, data.targets.values, data.auxiliary):
        digest.update(b"" if array is None else array.tobytes())
    return f"v{_VERSION}-{digest.hexdigest()}"


def _balanced(data: TrainingData) -> tuple[float, ...]:
    if data.targets.task != "classification":
        return ()
    counts = np.bincount(data.targets.codes[data.train], minlength=data.targets.outputs)
    return tuple(float(len(data.train) / (len(counts) * max(1, count))) for count in counts)


def _refuse_repeated(names: Sequence[str]) -> None:
    repeated = sorted({name for name in names if names.count(name) > 1})
    if repeated or not names:
        flaw = f"'{repeated[0]}' names {names.count(repeated[0])} of them" if repeated else "there are none"
        raise HeadstartError(f"heads of a run need different names; {flaw}")


def _refuse_unfit(outputs: set[str], values: np.ndarray[tuple[int, ...], np.dtype[np.float32]]) -> None:
    if len(outputs) > 1:
        raise HeadstartError("heads with linear and with sigmoid outputs need differently scaled targets. Train them in two runs")
    if outputs == {"sigmoid"} and (values.min() < 0 or values.max() > 1):
        raise HeadstartError(
            f"targets run from {values.min():g} to {values.max():g}, a sigmoid output only from 0 to 1. "
            "Scale them, or use output 'linear'"
        )
