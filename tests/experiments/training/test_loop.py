import copy
import json
import multiprocessing
import os
from types import SimpleNamespace

import pytest
import torch

from headstart.experiments.tracking.guarded import Guarded
from headstart.experiments.training.conduct import Conduct
from headstart.experiments.training.data import reading
from headstart.experiments.training.data.sets import Splits
from headstart.experiments.training.loop import Loop
from headstart.experiments.training.state.checkpoints import Checkpoints
from headstart.pipeline.errors import HeadstartError, InterruptedWork, TryLaterError

from .loops import IDENTITY, RECIPES, begun, facts_of, interrupted, keeper, leave_after, options_of, whole


@pytest.fixture(scope="module")
def uninterrupted():
    return {name: facts_of(whole(name)) for name in RECIPES}


@pytest.mark.parametrize("name", RECIPES)
def test_a_training_that_runs_twice_ends_in_the_same_bits(name, uninterrupted):
    assert facts_of(whole(name)) == uninterrupted[name]


@pytest.mark.parametrize("moments", [[1], [7], [11, 5, 9], [12, 1, 1, 6], [2, 2, 2, 2, 2, 2]], ids=str)
@pytest.mark.parametrize("name", RECIPES)
def test_left_anywhere_and_gone_on_with_it_ends_in_the_same_bits(name, moments, uninterrupted, tmp_path):
    assert facts_of(interrupted(name, tmp_path, moments)) == uninterrupted[name]


def test_a_step_of_several_batches_that_was_left_in_the_middle_is_done_again_from_its_beginning(uninterrupted, tmp_path):
    assert facts_of(interrupted("noise", tmp_path, [4 * 2 + 1])) == uninterrupted["noise"]


@pytest.mark.parametrize("workers", [0, 1, 2])
def test_the_number_of_data_workers_changes_no_bit(workers, uninterrupted, tmp_path):
    conducts = Conduct(data_workers=workers)
    assert facts_of(interrupted("noise", tmp_path, [9], conducts)) == uninterrupted["noise"]


@pytest.mark.skipif(not hasattr(os, "fork"), reason="nothing reads ahead where there is no fork")
def test_data_workers_are_forks_whatever_python_would_start_by_itself(uninterrupted, tmp_path):
    before = multiprocessing.get_start_method()
    multiprocessing.set_start_method("spawn", force=True)
    try:
        loop = interrupted("noise", tmp_path, [9], Conduct(data_workers=1))
    finally:
        multiprocessing.set_start_method(before, force=True)
    assert facts_of(loop) == uninterrupted["noise"]


def test_on_macos_where_a_fork_does_not_survive_nobody_reads_ahead(uninterrupted, tmp_path, monkeypatch):
    monkeypatch.setattr(reading, "sys", SimpleNamespace(platform="darwin"))
    monkeypatch.setattr("torch.utils.data.DataLoader", None)
    assert facts_of(interrupted("noise", tmp_path, [9], Conduct(data_workers=2))) == uninterrupted["noise"]


def left_in_epoch_three(name, folder):
    """After two evaluations, with patience under way, in the middle of an epoch."""
    loop = begun(name, folder)
    per_epoch = loop.order.steps_per_epoch
    calls = next(n for n in range(1, 10_000) if _steps_after(name, n) == 2 * per_epoch + per_epoch // 2)
    with pytest.raises(InterruptedWork):
        loop.run(keeper(folder), IDENTITY, leave_after(calls))


def _steps_after(name, calls):
    loop = begun(name)
    try:
        loop.run(None, IDENTITY, leave_after(calls))
    except InterruptedWork:
        return loop.progress.step
    return loop.progress.step


FIELDS = ("progress", "model", "optimizer", "mean")
PROGRESS = ("step", "sums", "history", "micro_batch")


@pytest.fixture(scope="module")
def in_the_middle(tmp_path_factory):
    folder = tmp_path_factory.mktemp("middle")
    left_in_epoch_three("noise", folder)
    return keeper(folder).latest(IDENTITY)


@pytest.mark.parametrize("field", [*FIELDS, *(f"progress.{name}" for name in PROGRESS)])
def test_a_resume_that_forgets_one_field_ends_otherwise(field, in_the_middle, uninterrupted):
    recipe, _ = RECIPES["noise"]
    options = options_of("noise")
    data = recipe.data(options, None)
    fresh = Loop(recipe, options, data).state()
    state = copy.deepcopy(in_the_middle)
    if "." in field:
        progress, name = json.loads(state["progress"]), field.partition(".")[2]
        progress[name] = {"micro_batch": 3}.get(name, json.loads(fresh["progress"])[name])
        state["progress"] = json.dumps(progress)
    else:
        state[field] = fresh[field]
    loop = Loop(recipe, options, data, Conduct(), state)
    loop.run(None, IDENTITY)
    assert facts_of(loop) != uninterrupted["noise"]


def test_a_state_that_was_read_is_kept_again_in_the_same_bytes(tmp_path, monkeypatch):
    recipe, _ = RECIPES["noise"]
    make = recipe.model

    def with_a_number(*given):
        """Its name has no dot: each dictionary of the model's state has the same string object, and a file says so."""
        model = make(*given)
        model.register_buffer("sharpness", torch.ones(1))
        return model

    monkeypatch.setattr(recipe, "model", with_a_number)
    begun("noise").run(keeper(tmp_path / "once"), IDENTITY)
    loop = begun("noise", tmp_path / "once")
    keeper(tmp_path / "again").keep(loop.progress.step, IDENTITY, loop.state())
    [again] = (tmp_path / "again").iterdir()
    assert again.name == max(path.name for path in (tmp_path / "once").glob("step_*"))


def test_a_resume_that_forgets_the_best_weights_ends_without_them(in_the_middle):
    recipe, _ = RECIPES["noise"]
    options = options_of("noise")
    data = recipe.data(options, None)
    state = copy.deepcopy(in_the_middle)
    progress = json.loads(state["progress"])
    progress["history"][1]["score"] = 1000.0  # nothing later is better
    state["progress"] = json.dumps(progress)
    ends = []
    for best in (state["best"], None):
        loop = Loop(recipe, options, data, Conduct(), copy.deepcopy({**state, "best": best}))
        loop.run(None, IDENTITY)
        ends.append(loop.best)
    assert ends[1] is None
    assert all(torch.equal(ends[0][name], state["best"][name]) for name in state["best"])


def test_the_state_in_the_middle_leads_to_the_uninterrupted_end_so_that_the_test_above_can_fail(in_the_middle, uninterrupted):
    recipe, _ = RECIPES["noise"]
    options = options_of("noise")
    loop = Loop(recipe, options, recipe.data(options, None), Conduct(), copy.deepcopy(in_the_middle))
    loop.run(None, IDENTITY)
    assert facts_of(loop) == uninterrupted["noise"]


def test_a_flipped_bit_in_the_newest_state_costs_the_steps_since_the_one_before(uninterrupted, tmp_path):
    loop = begun("tiny", conduct=Conduct(save_every=10))
    with pytest.raises(InterruptedWork):
        loop.run(keeper(tmp_path), IDENTITY, leave_after(45))
    *_, older, newest = sorted(tmp_path.glob("step_*.pt"))
    damaged = bytearray(newest.read_bytes())
    damaged[len(damaged) // 2] ^= 1
    newest.write_bytes(damaged)
    loop = begun("tiny", tmp_path)
    assert loop.progress.step == int(older.name[5:15])
    loop.run(keeper(tmp_path), IDENTITY)
    assert facts_of(loop) == uninterrupted["tiny"]


def test_five_states_are_kept(tmp_path):
    begun("tiny", conduct=Conduct(save_every=3)).run(keeper(tmp_path), IDENTITY)
    assert len(list(tmp_path.glob("step_*.pt"))) == 5


class Recorder:
    """A tracker and a keeper of states that note who was called when."""

    def __init__(self):
        self.calls = []

    def __getattr__(self, name):
        return lambda *arguments: self.calls.append(name)


@pytest.mark.parametrize("seed", range(6))
def test_a_state_after_an_evaluation_takes_the_place_of_the_one_before_it(tmp_path, seed):
    class Leaving(Recorder):
        def judged(self, entry, loop):
            raise InterruptedWork

    for count in (1, 2, 3):  # six seeds: the names of states are digests, and either might come first
        loop = begun("tiny", tmp_path, Conduct(save_every=1), evaluate_every=2, max_steps=9, seed=seed)
        with pytest.raises(InterruptedWork):
            loop.run(keeper(tmp_path), IDENTITY, listeners=[Leaving()])
        assert [entry["step"] for entry in loop.progress.history] == [2 * number for number in range(1, count + 1)]


def out_of_memory_on_first(calls):
    left = iter(range(calls))

    def forget(module, inputs):
        if module.training and next(left, None) is not None:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")

    return forget


def test_memory_that_runs_out_halves_the_micro_batch_and_changes_no_loss_of_a_network_without_batch_statistics(tmp_path):
    plain = {"dropout": 0.0, "normed": False, "threads": 1}
    expected = whole("noise", **plain)
    loop = begun("noise", **plain)
    loop.model.register_forward_pre_hook(out_of_memory_on_first(2))
    loop.run(None, IDENTITY)
    assert loop.progress.micro_batch == 2
    assert len(loop.progress.notes) == 2
    for ours, theirs in zip(loop.progress.history, expected.progress.history, strict=True):
        assert ours["val"]["error"] == pytest.approx(theirs["val"]["error"], rel=1e-5)
        assert ours["train"]["loss"] == pytest.approx(theirs["train"]["loss"], rel=1e-5)


def test_a_mean_over_points_is_the_same_in_smaller_pieces():
    expected, loop = whole("lines"), begun("lines")
    loop.progress.micro_batch = 3
    loop.run(None, IDENTITY)
    last, wanted = loop.progress.history[-1], expected.progress.history[-1]
    assert last["train"]["loss"] == pytest.approx(wanted["train"]["loss"], rel=1e-5)


def test_the_smaller_micro_batch_is_kept_by_a_resume(tmp_path):
    loop = begun("noise")
    loop.model.register_forward_pre_hook(out_of_memory_on_first(1))
    with pytest.raises(InterruptedWork):
        loop.run(keeper(tmp_path), IDENTITY, leave_after(10))
    assert begun("noise", tmp_path).progress.micro_batch == 4


def test_memory_for_not_even_one_row_is_one_line():
    loop = begun("noise")
    loop.model.register_forward_pre_hook(out_of_memory_on_first(100))
    with pytest.raises(HeadstartError, match=r"one row alone does not fit into memory.*--vram-budget"):
        loop.run(None, IDENTITY)


class Sometimes:
    """A recipe's loss that is no number at some steps."""

    def __init__(self, recipe, steps):
        self._recipe, self._steps = recipe, steps

    def __getattr__(self, name):
        return getattr(self._recipe, name)

    def loss(self, model, batch, step):
        found = self._recipe.loss(model, batch, step)
        return found * float("nan") if step.number in self._steps else found


def test_a_step_whose_loss_is_no_number_is_not_taken_and_is_counted():
    recipe, _ = RECIPES["noise"]
    options = options_of("noise", epochs=1)
    data = recipe.data(options, None)
    loop = Loop(Sometimes(recipe, {0}), options, data)
    before = facts_of(loop)
    numbers = loop._step(data.train.batch(loop.order.rows(0), None), lambda: None)
    assert numbers["loss"] != numbers["loss"]
    assert loop.progress.bad_steps == 1
    after = facts_of(loop)
    assert {path for path in before if path.startswith(("/model", "/mean")) and before[path] != after[path]} == set()


def test_ten_steps_in_a_row_without_a_number_end_the_training_with_the_last_state_and_one_line(tmp_path):
    recipe, _ = RECIPES["noise"]
    options = options_of("noise")
    loop = Loop(Sometimes(recipe, set(range(7, 100))), options, recipe.data(options, None), Conduct(save_every=1))
    with pytest.raises(HeadstartError, match=r"10 steps in a row.*--learning-rate 0\.0005"):
        loop.run(keeper(tmp_path), IDENTITY)
    assert keeper(tmp_path).latest(IDENTITY) is not None


def test_patience_ends_a_training_early():
    loop = whole("tiny", patience=1, learning_rate=0.0, epochs=9)
    assert len(loop.progress.history) == 2


def test_what_is_in_no_group_keeps_every_bit_its_statistics_included():
    recipe, _ = RECIPES["noise"]

    class LastLayer(Sometimes):
        def groups(self, model, options):
            from headstart.experiments.training.optimizer import Group

            return [Group(model[4])]

    options = options_of("noise", ema=0.0)
    loop = Loop(LastLayer(recipe, ()), options, recipe.data(options, None))
    before = {name: tensor.clone() for name, tensor in loop.model.state_dict().items()}
    loop.run(None, IDENTITY)
    after = loop.model.state_dict()
    assert {name for name in before if not torch.equal(before[name], after[name])} == {"4.weight", "4.bias"}


def test_the_running_mean_forgets_the_first_weights_within_a_short_training():
    recipe, _ = RECIPES["noise"]
    options = options_of("noise", ema=0.999)
    loop = Loop(recipe, options, recipe.data(options, None))
    loop.mean.update_parameters(loop.model)
    first = [weights.detach().clone() for weights in loop.model.parameters()]
    with torch.no_grad():
        for weights in loop.model.parameters():
            weights.add_(1)
    for _ in range(100):
        loop.mean.update_parameters(loop.model)
    moved = [float((mean.detach() - before).mean()) for mean, before in zip(loop.mean.module.parameters(), first, strict=True)]
    assert min(moved) > 0.99  # at 0.999 from the first step on: 0.095


def test_an_empty_split_is_one_line():
    recipe, _ = RECIPES["tiny"]
    options = options_of("tiny")
    data = recipe.data(options, None)
    empty = type(data.val)(data.val.whole, data.val.rows[:0])
    with pytest.raises(HeadstartError, match="split 'val' of the data is empty"):
        Loop(recipe, options, Splits(data.train, empty))


def test_a_state_of_another_training_is_refused_in_one_line(tmp_path):
    begun("tiny").run(keeper(tmp_path), IDENTITY)
    with pytest.raises(HeadstartError, match="is of a training with other"):
        keeper(tmp_path).latest("of another")


def test_a_full_disk_in_the_middle_leaves_the_states_before_it_and_the_training_goes_on_later(
    uninterrupted, tmp_path, monkeypatch
):
    plain, calls = Checkpoints.keep, iter(range(3))

    def full(self, step, identity, state):
        if next(calls, None) is None:
            raise TryLaterError("cannot write: No space left on device. Nothing is lost: free some space")
        plain(self, step, identity, state)

    with monkeypatch.context() as patch:
        patch.setattr(Checkpoints, "keep", full)
        loop = begun("tiny", conduct=Conduct(save_every=5))
        with pytest.raises(TryLaterError, match="No space left on device"):
            loop.run(keeper(tmp_path), IDENTITY)
    resumed = begun("tiny", tmp_path)
    assert resumed.progress.step == 15
    resumed.run(keeper(tmp_path), IDENTITY)
    assert facts_of(resumed) == uninterrupted["tiny"]


def test_who_holds_numbers_back_writes_them_before_a_state_is_kept_and_hears_of_it_afterwards():
    recorder = Recorder()
    begun("tiny", conduct=Conduct(save_every=7)).run(recorder, IDENTITY, listeners=[Guarded(lambda: recorder, print)])
    around = [name for name in recorder.calls if name in ("saving", "keep", "saved")]
    assert around
    assert around == ["saving", "keep", "saved"] * (len(around) // 3)
