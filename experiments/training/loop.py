"""The one loop: any recipe's model, from the last checkpoint to the end, in a way that a kill cannot change by one bit.

All that a training carries from step to step is in `Loop.state`; everything else is a function of seed and step.
"""

from __future__ import annotations

import contextlib
import json
import math
import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol, cast

from headstart.experiments.training.data.batch import Batch, Step
from headstart.experiments.training.data.keys import Key
from headstart.experiments.training.data.reading import read_ahead
from headstart.experiments.training.data.sets import Order, Splits
from headstart.experiments.training.judge_model import judge, precision
from headstart.experiments.training.judging.evaluation import Batches, judged_batches
from headstart.experiments.training.judging.metrics import Metric, Table, judging
from headstart.experiments.training.state.checkpoints import Keeper, State
from headstart.features.accelerators import device_kind, move
from headstart.features.devices import is_out_of_memory
from headstart.pipeline.errors import HeadstartError
from headstart.pipeline.memory import freed_memory_kept
from headstart.pipeline.text import plural

from .conduct import Conduct
from .optimizer import make_optimizer, rate_factor, set_learning_rate, set_training
from .recipe import Grouping, Recipe, Starting, asking, has
from .step_memory import FEW, StepMemory, budget_of, room_for_a_step, step_memory

if TYPE_CHECKING:
    from pathlib import Path

    from torch import Tensor, nn

    from headstart.pipeline.workspace import Workspace

    from .options import RecipeOptions

BAD_STEPS = 10  # in a row, after which a training ends
_NAMED = 100  # broken rows whose names and reasons are kept; the others are counted
_SAVING_SHARE = 0.01  # of the time, that checkpoints by time may take


@dataclass(frozen=True)
class Taken:
    """A step that was made. `numbers`: loss, what the recipe logs, gradient_norm and learning_rate."""

    step: int
    steps: int
    numbers: Mapping[str, float]


class Listener(Protocol):
    """Who is told how a training goes: a terminal, a tracker."""

    def began(self, step: int, steps: int) -> None:
        """At the first step of this process; `step` > 0: it was restored from there, and later ones come again."""

    def stepped(self, taken: Taken) -> None: ...

    def judged(self, entry: Mapping[str, Any], loop: Loop) -> None:
        """After an evaluation; `entry` is the newest of the history."""

    def saving(self, step: int) -> None:
        """Before a state is kept: its steps never come again, so whoever still holds numbers of them writes these now."""

    def saved(self, step: int) -> None: ...

    def ended(self, folder: Path) -> None:
        """After all files of the experiment in `folder` were written."""


@dataclass
class Progress:
    """Where a training is: plain numbers, so that JSON keeps it.

    Attributes:
        step: optimizer steps made.
        micro_batch: rows that go through the model at once.
        budget: bytes of memory that they were chosen for; 0: for none.
        threads: of torch; another number of them rounds otherwise.
        device: of the last step; another one rounds otherwise.
        sums: of each logged number since the last evaluation, and of the weights behind it.
        history: an entry an evaluation: step, epoch, learning_rate, train and val (numbers by name), score (larger is better),
            and `followed` where the recipe has such tables.
        broken: rows that could not be made, by number, and why.
        broken_count: how often one was left out of a batch.
        bad_steps, bad_in_a_row: steps not taken because of a loss or gradient that is no number.
        notes: what a reader of the numbers should know.
    """

    step: int = 0
    micro_batch: int = 0
    budget: int = 0
    threads: int = 0
    device: str = ""
    sums: dict[str, list[float]] = field(default_factory=dict)
    history: list[dict[str, Any]] = field(default_factory=list)
    broken: dict[str, str] = field(default_factory=dict)
    broken_count: int = 0
    bad_steps: int = 0
    bad_in_a_row: int = 0
    notes: list[str] = field(default_factory=list)

    @property
    def best(self) -> int:
        """The entry of the history with the best finite score, the first of equals; -1 for none."""
        scores = [entry["score"] for entry in self.history]
        known = [number for number, score in enumerate(scores) if score is not None]
        return max(known, key=lambda number: (scores[number], -number)) if known else -1

    @property
    def stale(self) -> int:
        """Evaluations since the best one."""
        return len(self.history) - 1 - self.best


class Loop:
    """One training. `run` brings it to its end."""

    def __init__(
        self,
        recipe: Recipe,
        options: RecipeOptions,
        splits: Splits,
        conduct: Conduct | None = None,
        state: State | None = None,
        workspace: Workspace | None = None,
    ) -> None:
        """Args: state: of the same training, to go on from; workspace: of it, for a recipe that starts from something there."""
        import torch

        for name, rows in splits.named().items():
            if not len(rows):
                raise HeadstartError(f"the split '{name}' of the data is empty. Give it some rows")
        conduct = conduct or Conduct()
        self.recipe, self.options, self.splits, self.conduct = recipe, options, splits, conduct
        self.about, self.key = splits.facts, Key((options.seed,))
        self.order = Order(splits.train, options.batch_size * options.accumulation, self.key)
        whole = options.epochs * self.order.steps_per_epoch
        self.steps = min(whole, options.max_steps) if options.max_steps else whole
        threads = options.threads or torch.get_num_threads()
        self.progress = Progress(micro_batch=options.batch_size, threads=threads, device=conduct.device)
        with self.key.of("model").seeding(), asking("model"):
            self.model = recipe.model(options, self.about)
        if state is None and workspace is not None and has(recipe, "start"):
            with asking("start"):
                cast(Starting, recipe).start(self.model, options, self.about, workspace)
        if options.gradient_checkpointing:
            _checkpoint_gradients(self.model)
        move(self.model, conduct.device)
        with asking("groups"):
            groups = cast(Grouping, recipe).groups(self.model, options) if has(recipe, "groups") else None
        self.optimizer = make_optimizer(self.model, groups, options)
        self.scaler = torch.amp.GradScaler(device_kind(conduct.device).name, enabled=options.amp == "float16")
        self.mean: Any = _running_mean(self.model, options.ema) if options.ema else None
        self.best: dict[str, Tensor] | None = None
        self.tables: dict[str, Any] = {}  # of the last evaluation, for who listens
        if state is not None:
            self._restore(state)

    @property
    def judged_model(self) -> nn.Module:
        """The running mean of the weights if there is one, else the model."""
        return self.model if self.mean is None else self.mean.module

    def state(self) -> State:
        """Everything that the rest of the training depends on: tensors, and one string of JSON."""
        return {
            "progress": json.dumps(vars(self.progress)),
            "model": self.model.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "scaler": self.scaler.state_dict(),
            "mean": None if self.mean is None else self.mean.state_dict(),
            "best": self.best,
        }

    def _restore(self, state: State) -> None:
        self.progress = progress_of(state)
        self._move()
        self.model.load_state_dict(state["model"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.scaler.load_state_dict(state["scaler"])
        if self.mean is not None:
            self.mean.load_state_dict(state["mean"])
        best = state["best"]
        self.best = None if best is None else {name: tensor.to(self.conduct.device) for name, tensor in best.items()}

    def _move(self) -> None:
        """Another device takes the training over: it is the same one, but for how sums are rounded."""
        import torch

        progress, device = self.progress, self.conduct.device
        before, progress.device = progress.device, device
        if before in ("", device):
            return
        progress.threads = self.options.threads or torch.get_num_threads()  # of this machine
        progress.notes.append(
            f"on {device} from step {progress.step} on, on {before} before: last digits are those of neither of the two alone"
        )

    def run(
        self, keeper: Keeper | None, identity: str, check: Callable[[], None] = lambda: None, listeners: Sequence[Listener] = ()
    ) -> None:
        """From here to the end. Whatever `check` raises, a state is kept first.

        Raises: HeadstartError if the recipe fails, or the loss stays no number.
        """
        saving = _Saving(self, keeper, identity, listeners)
        for listener in listeners:
            listener.began(self.progress.step, self.steps)
        with self.same_rounding(), freed_memory_kept():
            self._fit()
            batches = read_ahead(
                self.splits.train, self.order, self.progress.step, self.steps, self.conduct, lambda: asking("data set's batch")
            )
            try:
                with contextlib.closing(batches):
                    self._run(batches, check, listeners, saving)
            except HeadstartError:
                raise
            except BaseException:
                # A step or an evaluation that was not finished has left no trace in the state.
                saving.keep()
                raise
            saving.keep()

    def _run(self, batches: Iterator[Batch], check: Callable[[], None], listeners: Sequence[Listener], saving: _Saving) -> None:
        progress = self.progress
        while True:
            if self._is_judged_now():
                self._judge(check)
                for listener in listeners:
                    listener.judged(progress.history[-1], self)
            if progress.step >= self.steps or (self.options.patience and progress.stale >= self.options.patience):
                return
            numbers = self._step(next(batches), check)
            progress.step += 1
            taken = Taken(progress.step, self.steps, numbers)
            for listener in listeners:
                listener.stepped(taken)
            saving.keep_if_due()

    def _fit(self) -> None:
        """Chooses rows at once that keep within the budget. A resumed training keeps to them, unless its budget is smaller."""
        progress, conduct = self.progress, self.conduct
        budget, said = budget_of(conduct.device, conduct.ram_bytes, conduct.vram_bytes)
        if budget is None:
            return
        is_chosen = 0 < progress.budget <= budget
        memory = None if is_chosen else self.step_memory()
        room = room_for_a_step(conduct.device, budget, "the model")
        if memory is None:
            return
        progress.budget = budget
        self._take_at_once(memory.rows_within(room, progress.micro_batch, said), f"{said}, from step {progress.step} on")

    def step_memory(self) -> StepMemory:
        """Of a step, counted on the first rows; weights and statistics stay as they were."""
        batch = self.splits.train.batch(self.order.rows(0)[:FEW], self.order.epoch_key(0))
        rows, device = len(batch), self.conduct.device
        if not rows:
            self._note_broken(batch)  # explains it
        key = self.key.of("step", 0)
        set_training(self.model)
        buffers = list(self.model.buffers())
        before = [buffer.clone() for buffer in buffers]

        def loss_of(count: int) -> Tensor:
            step = Step(0, 0, self.options, self.about, key, device, count, 0, count)
            with _drawing_from(key.of("dropout", 0), device), precision(self.options.amp, device, self.model), asking("loss"):
                return _said(self.recipe.loss(self.model, batch[:count].to(device), step))[0]

        try:
            return step_memory(self.model, self.optimizer, loss_of, rows)
        finally:
            _put_back(buffers, before)

    def _is_judged_now(self) -> bool:
        step, every = self.progress.step, self.options.evaluate_every or self.order.steps_per_epoch
        is_due = self.options.judge_start if step == 0 else step % every == 0 or step == self.steps
        return is_due and (not self.progress.history or self.progress.history[-1]["step"] != step)

    def _step(self, batch: Batch, check: Callable[[], None]) -> dict[str, float]:
        """One step of the optimizer; where it must not be taken, weights and statistics are as before."""
        step, progress = self.progress.step, self.progress
        self._note_broken(batch)
        factor = rate_factor(self.options, step, self.steps, [_number(entry["score"]) for entry in progress.history])
        set_learning_rate(self.optimizer, factor)
        set_training(self.model)
        buffers = list(self.model.buffers())
        before = [buffer.clone() for buffer in buffers]
        try:
            numbers, norm = self._gradients(batch, check)
            while numbers is None:
                _put_back(buffers, before)
                numbers, norm = self._gradients(batch, check)
        except BaseException:
            _put_back(buffers, before)
            raise
        loss = numbers["loss"]
        if not math.isfinite(loss) or (not math.isfinite(norm) and not self.scaler.is_enabled()):
            _put_back(buffers, before)
            self.optimizer.zero_grad(set_to_none=True)
            self._count_bad(loss)
        else:
            self.scaler.step(self.optimizer)
            self.scaler.update()
            self.optimizer.zero_grad(set_to_none=True)
            if self.mean is not None:
                self.mean.update_parameters(self.model)
            progress.bad_in_a_row = 0
            weight = len(batch) if batch.weight is None else float(batch.weight.sum())
            for name, value in numbers.items():
                total = progress.sums.setdefault(name, [0.0, 0.0])
                total[0], total[1] = total[0] + value * weight, total[1] + weight
        return {**numbers, "gradient_norm": norm, "learning_rate": self.options.learning_rate * factor}

    def _gradients(self, batch: Batch, check: Callable[[], None]) -> tuple[dict[str, float] | None, float]:
        """Gradients of the mean over the batch, in pieces that fit into memory. None: they did not, and get smaller now."""

        progress, device = self.progress, self.conduct.device
        rows, sums = len(batch), dict[str, Any]()
        pieces = -(-rows // progress.micro_batch)
        key = self.key.of("step", progress.step)
        epoch = progress.step // self.order.steps_per_epoch
        whole = Step(progress.step, epoch, self.options, self.about, key, device, rows, 0, rows)
        try:
            for piece in range(pieces):
                check()
                start, stop = rows * piece // pieces, rows * (piece + 1) // pieces
                part = batch[start:stop] if pieces > 1 else batch
                share = part.share_of(batch) if pieces > 1 else 1.0
                with (
                    _drawing_from(key.of("dropout", piece), device),
                    precision(self.options.amp, device, self.model),
                    asking("loss"),
                ):
                    loss, numbers = _said(self.recipe.loss(self.model, part.to(device), whole.part(start, stop)))
                self.scaler.scale(loss * share if share != 1.0 else loss).backward()  # type: ignore[no-untyped-call]
                for name, value in {"loss": loss, **numbers}.items():
                    value = value.detach() if hasattr(value, "detach") else value  # noqa: PLW2901
                    sums[name] = value * share + sums.get(name, 0.0)
            self.scaler.unscale_(self.optimizer)
            norm = self._norm()
            return {name: float(value) for name, value in sums.items()}, norm
        except Exception as error:
            if not is_out_of_memory(error):
                raise
            self._halve(rows, error)
        self.optimizer.zero_grad(set_to_none=True)
        device_kind(device).empty_cache()
        return None, 0.0

    def _norm(self) -> float:
        import torch

        parameters = [p for group in self.optimizer.param_groups for p in group["params"] if p.grad is not None]
        if not parameters:
            raise HeadstartError("the loss depends on no weight that is trained. Let loss() use what model() returned")
        norm = torch.nn.utils.get_total_norm([p.grad for p in parameters if p.grad is not None])
        if self.options.clip and bool(torch.isfinite(norm)):
            torch.nn.utils.clip_grads_with_norm_(parameters, self.options.clip, norm)
        return float(norm)

    def _halve(self, rows: int, error: BaseException) -> None:
        progress = self.progress
        now = min(progress.micro_batch, rows)
        if now <= 1:
            raise HeadstartError(
                f"one row alone does not fit into memory ({(str(error).splitlines() or [''])[0][:120]}). Give it more "
                "(--vram-budget), a smaller model or input, or --gradient-checkpointing"
            ) from error
        self._take_at_once(-(-now // 2), f"memory ran out at step {progress.step}: since then")

    def _take_at_once(self, rows: int, why: str) -> None:
        if rows >= self.progress.micro_batch:
            return
        self.progress.micro_batch = rows
        note = f"{why} {plural(rows, 'row')} at once"
        if _depends_on_batch(self.model):
            note += "; dropout and batch statistics see other pieces than an unlimited run's"
        self.progress.notes.append(note)

    def _note_broken(self, batch: Batch) -> None:
        progress = self.progress
        progress.broken_count += len(batch.broken)
        for row, reason in batch.broken.items():
            if len(progress.broken) < _NAMED:
                progress.broken.setdefault(str(row), reason)
        if not len(batch):
            row, reason = next(iter(batch.broken.items()), (-1, "the data set made an empty batch"))
            raise HeadstartError(
                f"no row of step {progress.step} could be made; row {row}: {reason}. Mend the data or the recipe"
            )

    def _count_bad(self, loss: float) -> None:
        progress = self.progress
        progress.bad_steps += 1
        progress.bad_in_a_row += 1
        if progress.bad_in_a_row >= BAD_STEPS:
            what = f"the loss is {loss}" if not math.isfinite(loss) else "the gradient is no number"
            hint = ", or --amp bfloat16" if self.options.amp == "float16" else ""
            raise HeadstartError(
                f"{what} for {BAD_STEPS} steps in a row (step {progress.step + 1} of {self.steps}). Try a tenth of the learning "
                f"rate (--learning-rate {self.options.learning_rate / 10:g}), --clip 1{hint}; or look for NaN in the data"
            )

    def batches(self, split: str, check: Callable[[], None] = lambda: None) -> Batches:
        """A split on its way through the model."""
        at_once = self.progress.micro_batch
        return judged_batches(self.splits, split, self.options, self.conduct.device, at_once, check)

    def _judge(self, check: Callable[[], None]) -> None:
        progress = self.progress
        batches = self.batches("val", check).subset(self.options.evaluate_rows)
        with asking("evaluate"):
            metrics = judge(self.recipe, self.judged_model, batches, self.options.amp)
            followed = _followed(metrics)
        chosen = judging(metrics)
        score = chosen.value if chosen.better == "higher" else -chosen.value
        entry = {
            "step": progress.step,
            "epoch": progress.step / self.order.steps_per_epoch,
            "learning_rate": self.optimizer.param_groups[0]["lr"],
            "train": {name: total / weight for name, (total, weight) in sorted(progress.sums.items()) if weight},
            "val": {one.name: _finite(one.value) for one in metrics if isinstance(one, Metric)},
            "judged_by": chosen.name,
            "score": _finite(score),
        }
        progress.history.append({**entry, **({"followed": followed} if followed else {})})
        self.tables = {one.name: one.value for one in metrics if isinstance(one, Table)}
        progress.sums = {}
        if progress.best == len(progress.history) - 1:
            self.best = {name: tensor.detach().clone() for name, tensor in self.judged_model.state_dict().items()}

    def same_rounding(self) -> contextlib.AbstractContextManager[None]:
        """For whatever its model computes outside the loop: what decides bits is as in the steps."""
        return same_rounding(self.progress.threads, self.conduct.device)

    def use_best(self) -> nn.Module:
        """The model as it was at its best. Raises: HeadstartError if no evaluation ever gave a finite number."""
        if self.best is None:
            raise HeadstartError(
                "no evaluation gave a finite number. Try a tenth of the learning rate "
                f"(--learning-rate {self.options.learning_rate / 10:g}), or look for NaN in the data"
            )
        self.model.load_state_dict(self.best)
        return self.model


def progress_of(state: State) -> Progress:
    """Where the training was when this state was kept."""
    return Progress(**json.loads(state["progress"]))


def put_on(state: State, device: str) -> State:
    """Says of a state of an earlier version, which did not, on what device it was made."""
    return {**state, "progress": json.dumps({"device": device, **json.loads(state["progress"])})}


class _Saving:
    """When a state is kept."""

    def __init__(self, loop: Loop, keeper: Keeper | None, identity: str, listeners: Sequence[Listener]) -> None:
        self._loop, self._keeper, self._identity, self._listeners = loop, keeper, identity, listeners
        self._kept_step, self._kept = self._place(), time.monotonic()
        self._took = 0.0

    def _place(self) -> tuple[int, int]:
        return self._loop.progress.step, len(self._loop.progress.history)

    def keep_if_due(self) -> None:
        conduct, step = self._loop.conduct, self._loop.progress.step
        waited = time.monotonic() - self._kept
        if (conduct.save_every and step % conduct.save_every == 0) or waited >= max(conduct.save_s, self._took / _SAVING_SHARE):
            self.keep()

    def keep(self) -> None:
        if self._keeper is None or self._place() == self._kept_step:
            return
        for listener in self._listeners:
            listener.saving(self._loop.progress.step)
        begun = time.monotonic()
        self._keeper.keep(self._loop.progress.step, self._identity, self._loop.state())
        self._kept = time.monotonic()
        self._kept_step, self._took = self._place(), self._kept - begun
        for listener in self._listeners:
            listener.saved(self._loop.progress.step)


@contextlib.contextmanager
def same_rounding(threads: int, device: str) -> Iterator[None]:
    """What decides bits besides the data: torch's threads, and on a GPU deterministic algorithms where there are any."""
    import torch

    before, was_strict = torch.get_num_threads(), torch.are_deterministic_algorithms_enabled()
    torch.set_num_threads(threads)
    if device != "cpu":
        for name, value in device_kind(device).repeatable_with.items():
            os.environ.setdefault(name, value)
        torch.use_deterministic_algorithms(True, warn_only=True)
    try:
        yield
    finally:
        torch.set_num_threads(before)
        torch.use_deterministic_algorithms(was_strict)


@contextlib.contextmanager
def _drawing_from(key: Key, device: str) -> Iterator[None]:
    """torch's own generators begin at this key: dropout draws from them."""
    import torch

    torch.default_generator.manual_seed(key.number)
    device_kind(device).seed(key.number)
    yield


def _said(loss: Any) -> tuple[Tensor, Mapping[str, Any]]:
    import torch

    value, numbers = loss if isinstance(loss, tuple) else (loss, {})
    if not isinstance(value, torch.Tensor) or value.numel() != 1:
        shape = tuple(value.shape) if isinstance(value, torch.Tensor) else type(value).__name__
        raise HeadstartError(f"loss() returned {shape}, expected one number: a tensor of no dimension, the mean over the batch")
    return value, numbers


def _put_back(buffers: Sequence[Tensor], before: Sequence[Tensor]) -> None:
    import torch

    with torch.no_grad():
        for buffer, value in zip(buffers, before, strict=True):
            buffer.copy_(value)


def _running_mean(model: nn.Module, decay: float) -> Any:
    from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

    def towards(means: Any, weights: Any, steps: Any) -> None:
        # The weights of the beginning, which mean nothing, would for long count most.
        risen = (1 + int(steps)) / (10 + int(steps))
        get_ema_multi_avg_fn(min(decay, risen))(means, weights, steps)  # type: ignore[no-untyped-call]

    return AveragedModel(model, multi_avg_fn=towards)


def _checkpoint_gradients(model: nn.Module) -> None:
    offered: dict[str, Any] = {
        name: module for name, module in model.named_modules() if hasattr(module, "set_grad_checkpointing")
    }
    if not offered:
        raise HeadstartError("this model does not offer gradient checkpointing. Leave --gradient-checkpointing out")
    for name, module in offered.items():
        path = name.split(".") if name else []
        if not any(".".join(path[:depth]) in offered for depth in range(len(path))):  # the outermost sees to those in it
            module.set_grad_checkpointing(True)


def _depends_on_batch(model: nn.Module) -> bool:
    return any("BatchNorm" in type(module).__name__ or "Drop" in type(module).__name__ for module in model.modules())


def _followed(metrics: Sequence[Metric | Table]) -> dict[str, dict[str, float | None]]:
    """By table, its numbers by name: what the history keeps of it."""
    tables = [one for one in metrics if isinstance(one, Table) and one.is_followed]
    return {one.name: {str(name): _finite(float(value)) for name, value in one.value.items()} for one in tables}


def _finite(value: float) -> float | None:
    return float(value) if math.isfinite(value) else None


def _number(value: float | None) -> float:
    return float("-inf") if value is None else value
