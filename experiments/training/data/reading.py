"""Batches of a training in the order of its steps, made ahead in other processes where that pays."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
from collections.abc import Callable, Generator
from contextlib import AbstractContextManager
from typing import Any

from headstart.experiments.training.conduct import Conduct
from headstart.features.devices import cores
from headstart.pipeline.errors import ExplainedError

from .batch import Batch
from .sets import DataSet, Order

_AT_MOST = 8


def read_ahead(
    rows: DataSet,
    order: Order,
    step: int,
    steps: int,
    conduct: Conduct,
    asked: Callable[[], AbstractContextManager[None]] = contextlib.nullcontext,
) -> Generator[Batch]:
    """The batch of each step from `step` on; the same whatever makes them ahead, and what a data set raises, too.

    Args: asked: stands around each call of the data set.
    """
    made = _Made(rows, order, asked)
    workers = _workers(rows, conduct)
    if not workers:
        yield from (made[number] for number in range(step, steps))
        return
    import torch.utils.data as torch_data

    loader: Any = torch_data.DataLoader(
        _Told(made),  # type: ignore[arg-type]
        batch_size=None,
        sampler=range(step, steps),
        num_workers=workers,
        multiprocessing_context="fork",  # what Python itself would take differs by version and system
        prefetch_factor=2,
        worker_init_fn=_alone,
        collate_fn=_as_it_is,  # type: ignore[arg-type]
    )
    for batch in loader:
        if isinstance(batch, Exception):
            raise batch
        yield batch


class _Made:
    """A map-style set of batches by step."""

    def __init__(self, rows: DataSet, order: Order, asked: Callable[[], AbstractContextManager[None]]) -> None:
        self._rows, self._order, self._asked = rows, order, asked

    def __getitem__(self, step: int) -> Batch:
        with self._asked():
            return self._rows.batch(self._order.rows(step), self._order.epoch_key(step))


class _Told:
    """The same in a process of its own: what it raises is handed over as it is, where torch would make a traceback of it."""

    def __init__(self, made: _Made) -> None:
        self._made = made

    def __getitem__(self, step: int) -> Batch | Exception:
        try:
            return self._made[step]
        except ExplainedError as error:  # of one text, and so whole on the other side
            return error


def _workers(rows: DataSet, conduct: Conduct) -> int:
    if not _can_fork():
        return 0
    if conduct.data_workers is not None:
        return conduct.data_workers
    if getattr(rows, "is_ready", False):
        return 0
    free = cores() - 1
    return min(_AT_MOST, free) if conduct.device != "cpu" else min(1, free)


def _can_fork() -> bool:
    """A data set is handed to its process by a fork alone, for it may be anything; Apple's libraries survive none."""
    return hasattr(os, "fork") and sys.platform != "darwin"


def _as_it_is(batch: Batch) -> Batch:
    return batch


def _alone(number: int) -> None:
    # A child of the worker must not answer the worker's signals: it holds no claims. It ends with its parent.
    for one in (signal.SIGINT, signal.SIGTERM):
        signal.signal(one, signal.SIG_IGN if one == signal.SIGINT else signal.SIG_DFL)
