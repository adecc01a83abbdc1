"""Trains all heads of an ablation in one pass over the features, in a way that a kill cannot change by one bit."""

from __future__ import annotations

import itertools
import json
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from headstart.experiments.config import HeadConfig, TrainingOptions
from headstart.experiments.data.feature_source import as_source
from headstart.experiments.data.statistics import standardization_from
from headstart.experiments.data.targets import class_targets, value_targets
from headstart.experiments.data.training_data import Scaling, TrainingData, scaling_of
from headstart.experiments.training.early_stopping import TrainingProgress, monitor_for
from headstart.experiments.training.prefetch import ahead
from headstart.experiments.training.schedule import learning_rate_factor
from headstart.experiments.training.state.checkpoints import Keeper, State
from headstart.features.devices import cores
from headstart.pipeline.errors import HeadstartError

from .batches import BatchReader, Chunk
from .lanes import Lane
from .losses import losses, scores
from .parameters import STATE
from .pass_plan import PassPlan, has_short_products, intraop_threads, plan_pass
from .random_table import forget_tables
from .trained_head import TrainedHead, folded

if TYPE_CHECKING:
    from torch import Tensor

_BLOCK_ROWS = 2048


@dataclass(frozen=True)
class Outcome:
    """What became of one configuration.

    Attributes:
        head: as it was at its best on validation.
        best_epoch, best_score: by the monitor.
        history: of each epoch.
        is_stopped_early: ran out of patience.
        steps_per_epoch: of the optimizer.
        is_short: whether its hidden layers multiplied in bfloat16.
    """

    head: TrainedHead
    best_epoch: int
    best_score: float
    history: tuple[dict[str, Any], ...]
    is_stopped_early: bool
    steps_per_epoch: int
    is_short: bool = False


class Trainer:
    """The state of one pass: lanes, progress, and a place (epoch, batch) in the schedule."""

    def __init__(
        self,
        data: TrainingData,
        configurations: Sequence[HeadConfig],
        options: TrainingOptions,
        planned: PassPlan | None = None,
        state: State | None = None,
    ) -> None:
        """Args: planned: of these arguments, if it is there already; state: of the same training, to go on from."""
        import torch

        self.data, self.options = data, options
        self.plan = planned or plan_pass(data, configurations, options)
        if state is None:
            self.scaling = scaling_of(data, standardization_from(data.source, data.train), self.plan.is_scaled)
        else:  # a resumed training need not read all rows again before its first step
            self.scaling = Scaling(*(state[f"scaling.{name}"].numpy() for name in Scaling.__dataclass_fields__))
        facts = {} if state is None else json.loads(state["facts"])
        # Like the split of a sum, decided where a training begins: another machine goes on to the same digits, as near as it can.
        self.is_short = facts.get("amp", options.amp) if facts else has_short_products(options, data.targets.task)
        task = replace(self.plan.task, amp=self.is_short)
        self.reader = BatchReader(data, self.scaling, options)
        self.lanes = []
        for number, members in enumerate(self.plan.members):
            start = None if state is None else {name: state[f"{number}.{name}"] for name in STATE}
            self.lanes.append(Lane([configurations[i] for i in members], task, start))
        shape = (options.batch_size, data.inputs)
        self._memory = [torch.empty(shape, device=options.device) for _ in self.lanes]  # of a batch each
        self.progress = [TrainingProgress() for _ in configurations]
        self.epoch, self.batch = 0, 0
        self.intraop = self.plan.intraop
        if state is not None:
            self._restore(state, facts)

    @property
    def identity(self) -> str:
        """Equal only if the training would end in the same bits, begun on the same machine."""
        return self.plan.identity

    @property
    def step(self) -> int:
        """Steps made so far."""
        return self.epoch * self.reader.steps_per_epoch + -(-self.batch // self.options.accumulation)

    def run(
        self, keeper: Keeper | None, check: Callable[[], None], report: Callable[[int, list[TrainingProgress]], None]
    ) -> None:
        """From here to the end, or until every head has stopped. Whatever `check` raises, a state is kept first."""
        import torch

        kept, kept_step = time.monotonic(), self.step
        workers = max(1, min(len(self.lanes), cores()))
        with intraop_threads(self.intraop), torch.no_grad(), ThreadPoolExecutor(workers, "lane") as pool:
            for chunk in self.reader.chunks(self.epoch, self.batch):
                if not any(progress.is_active for progress in self.progress):
                    break
                try:
                    check()
                except BaseException:
                    if keeper and self.step != kept_step:
                        keeper.keep(self.step, self.identity, self.state())
                    raise
                self._each_lane(pool, chunk)
                self.batch = chunk.first_batch + len(chunk.bounds) - 1
                if self.batch == self.reader.batches:
                    self._end_epoch(pool)
                    report(self.epoch - 1, self.progress)
                if keeper and time.monotonic() - kept >= self.options.checkpoint_s:
                    keeper.keep(self.step, self.identity, self.state())
                    kept, kept_step = time.monotonic(), self.step
        forget_tables()
        if keeper and self.step != kept_step:  # so that what follows a training never costs it
            keeper.keep(self.step, self.identity, self.state())

    def state(self) -> State:
        """Everything that the rest of the training depends on: tensors, and one string of JSON."""
        import torch

        facts = {
            "epoch": self.epoch,
            "batch": self.batch,
            "intraop": self.intraop,
            "amp": self.is_short,
            "progress": [asdict(p) for p in self.progress],
        }
        tensors: State = {"facts": json.dumps(facts)}
        for name in Scaling.__dataclass_fields__:
            tensors[f"scaling.{name}"] = torch.from_numpy(getattr(self.scaling, name))
        for number, lane in enumerate(self.lanes):
            parameters = lane.parameters
            for name in STATE:
                tensors[f"{number}.{name}"] = getattr(parameters, name)
            tensors[f"{number}.loss_sums"] = lane.loss_sums
        return tensors

    def _restore(self, state: State, facts: dict[str, Any]) -> None:
        self.epoch, self.batch, self.intraop = facts["epoch"], facts["batch"], facts["intraop"]
        self.progress = [
            TrainingProgress(**{**facts_of_head, "best": tuple(facts_of_head["best"])}) for facts_of_head in facts["progress"]
        ]
        for number, lane in enumerate(self.lanes):
            lane.loss_sums.copy_(state[f"{number}.loss_sums"])
            lane.parameters.regroup([self.progress[i].is_active for i in self.plan.members[number]])

    def outcomes(self) -> list[Outcome]:
        """One a configuration. Raises: HeadstartError if none ever had a finite score."""
        if all(progress.best_epoch < 0 for progress in self.progress):
            raise HeadstartError("no head reached a finite validation score: the learning rate is too high. Try a tenth of it")
        outcomes: dict[int, Outcome] = {}
        for lane, members in zip(self.lanes, self.plan.members, strict=True):
            for place, number in enumerate(members):
                progress = self.progress[number]
                outcomes[number] = Outcome(
                    self._trained(lane, place),
                    progress.best_epoch,
                    progress.best_score,
                    tuple(progress.history),
                    not progress.is_active,
                    self.reader.steps_per_epoch,
                    lane.is_short,
                )
        return [outcomes[number] for number in range(len(self.progress))]

    def _each_lane(self, pool: ThreadPoolExecutor, chunk: Chunk) -> None:
        lanes = self._active_lanes()
        if len(lanes) == 1 or self.options.device != "cpu":
            for number in lanes:
                self._advance(number, chunk)
        else:
            # The longest first: the others fill the time that is left of it.
            lanes.sort(key=lambda number: self.lanes[number].cost, reverse=True)
            list(pool.map(lambda number: self._advance(number, chunk), lanes))

    def _active_lanes(self) -> list[int]:
        """Those with a head that has not stopped: nobody asks for the others' weights again, but for the best, which are kept."""
        members = enumerate(self.plan.members)
        return [number for number, heads in members if any(self.progress[head].is_active for head in heads)]

    def _advance(self, number: int, chunk: Chunk) -> None:
        import torch

        lane, memory = self.lanes[number], self._memory[number]
        accumulation, size = self.options.accumulation, self.options.batch_size
        steps = self.options.epochs * self.reader.steps_per_epoch
        with torch.no_grad():
            for offset, (start, stop) in enumerate(itertools.pairwise(chunk.bounds)):
                batch = chunk.first_batch + offset
                first = batch - batch % accumulation
                last = min(first + accumulation, self.reader.batches) - 1
                share = (stop - start) / (min((last + 1) * size, self.reader.used) - first * size)
                rows = self.reader.batch(chunk, start, stop, memory)
                lane.batch(rows, chunk.targets[:, start:stop], (chunk.epoch, batch), share, is_first=batch == first)
                if batch == last:
                    step = chunk.epoch * self.reader.steps_per_epoch + batch // accumulation
                    factor = learning_rate_factor(step, steps, round(self.options.warmup * steps))
                    lane.parameters.step(step + 1, factor)

    def _end_epoch(self, pool: ThreadPoolExecutor) -> None:
        import torch

        val, monitor = self.data.val, monitor_for(self.options.monitor, self.data.targets.task)
        lanes = [(self.lanes[number], self.plan.members[number]) for number in self._active_lanes()]
        blocks: list[list[Tensor]] = [[] for _ in lanes]
        positions = [val[start : start + _BLOCK_ROWS] for start in range(0, len(val), _BLOCK_ROWS)]
        for rows in ahead(self.reader.rows, positions):
            for blocks_of_lane, block in zip(blocks, pool.map(lambda lane, r=rows: lane[0].scores(r), lanes), strict=True):
                blocks_of_lane.append(block)
        targets = self.reader.targets(val).to(self.options.device)
        for (lane, members), blocks_of_lane in zip(lanes, blocks, strict=True):
            logits = torch.cat(blocks_of_lane, 2)
            output = lane.heads[0].output_for(self.data.targets.task)
            loss = losses(logits, targets, output, self.data.targets.task)
            values = scores(logits, targets, output, monitor, loss)
            for place, number in enumerate(members):
                progress = self.progress[number]
                train_loss = float(lane.loss_sums[place]) / self.reader.used
                if progress.is_active and progress.note_epoch(
                    self.epoch, train_loss, float(loss[place]), float(values[place]), self.options.patience, self.options.by_loss
                ):
                    lane.parameters.keep_best(place)
            lane.loss_sums.zero_()
            lane.parameters.regroup([self.progress[number].is_active for number in members])
        self.epoch, self.batch = self.epoch + 1, 0

    def _trained(self, lane: Lane, place: int) -> TrainedHead:
        parameters = lane.parameters
        layers, running = [], []
        for number, layer in enumerate(parameters.layers):
            blocks = [block[place].cpu().double().numpy() for block in parameters.blocks(parameters.best, layer)]
            layers.append([blocks[0], *(block[:, 0] for block in blocks[1:])])
            mine = slice(place * layer.outputs, (place + 1) * layer.outputs)
            pair = (
                None
                if layer.gamma is None
                else parameters.running_of(parameters.best_running, number)[:, mine].cpu().double().numpy()
            )
            running.append(None if pair is None else (pair[0], pair[1]))
        scaling = self.scaling
        inputs, targets = (scaling.mean, scaling.inverse_scale), (scaling.target_mean, scaling.target_scale)
        return TrainedHead(
            lane.heads[place],
            self.data.targets.task,
            self.data.targets.names,
            folded(layers, running, inputs, targets),
            auxiliary=self.data.auxiliary_units,
            outputs=self.data.targets.units,
        )


def train(
    data: TrainingData,
    configurations: Sequence[HeadConfig],
    options: TrainingOptions,
    keeper: Keeper | None = None,
    check: Callable[[], None] = lambda: None,
    report: Callable[[int, list[TrainingProgress]], None] = lambda epoch, progress: None,
) -> list[Outcome]:
    """Every configuration, trained on the same rows in the same order; none influences another.

    Args:
        keeper: keeps states and gives the last one back; None trains without.
        check: called between chunks of batches; may raise to leave, and the same call then goes on where it was.
        report: called after every epoch.

    Raises: HeadstartError if a target does not fit an output, names repeat, or every head diverges.
    """
    planned = plan_pass(data, configurations, options)
    state = keeper.latest(planned.identity) if keeper else None
    trainer = Trainer(data, configurations, options, planned, state)
    trainer.run(keeper, check, report)
    return trainer.outcomes()


def train_head_only(
    features: Any,
    config: HeadConfig | None = None,
    labels: Sequence[Any] | NDArray[Any] | None = None,
    splits: Sequence[str] | NDArray[np.str_] | None = None,
    options: TrainingOptions | None = None,
) -> Outcome:
    """Trains one head on features that are there already: the call that notebooks know.

    Args:
        features: what `load_cached_features` returns, or a matrix (n, d).
        config: linear if None.
        labels: n classes (text) or numbers (float, for regression); those of the cache if None.
        splits: n times 'train', 'val' or anything else; those of the cache if None.

    Raises: HeadstartError as `train`.
    """
    source = as_source(features)
    names = np.asarray(features.splits if splits is None else splits)
    wanted = np.asarray(features.labels if labels is None else labels)
    train_rows, val_rows = np.flatnonzero(names == "train"), np.flatnonzero(names == "val")
    if wanted.dtype.kind == "f":
        targets = value_targets(["target"], [wanted.astype(np.float64)], train_rows)
    else:
        targets = class_targets(wanted.astype(np.str_), train_rows, [val_rows])
    data = TrainingData(source, targets, train_rows, val_rows)
    return train(data, [config or HeadConfig()], options or TrainingOptions())[0]
