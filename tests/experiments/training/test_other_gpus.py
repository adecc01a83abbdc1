"""Trainings on GPUs that are not here: with `fake_gpu` they end in the bits of the CPU, and do nothing that the device lacks."""

import contextlib

import pytest
import torch

from headstart.experiments import train_recipe
from headstart.experiments.training.conduct import Conduct
from headstart.experiments.training.judge_model import require_amp
from headstart.experiments.training.loop import Loop
from headstart.experiments.training.step_memory import budget_of, room_for_a_step, vram_facts
from headstart.features import accelerators
from headstart.pipeline.errors import HeadstartError, InterruptedWork
from tests.fake_gpu import fake_gpu

from .loops import IDENTITY, RECIPES, begun, facts_of, interrupted, keeper, leave_after, options_of, whole

OF_THE_DEVICE = ("/progress/device", "/progress/budget")


def on(kind):
    return Conduct(device=kind, data_workers=0)


def result_of(loop):
    return {name: value for name, value in facts_of(loop).items() if name not in OF_THE_DEVICE}


@pytest.mark.parametrize("kind", ["mps", "xpu"])
@pytest.mark.parametrize("name", RECIPES)
def test_a_training_ends_there_in_the_bits_of_the_cpu(name, kind, monkeypatch):
    with fake_gpu(monkeypatch, kind) as gpu:
        loop = whole(name, on(kind))
        assert all(gpu.has(parameter) for parameter in loop.model.parameters())
    assert result_of(loop) == result_of(whole(name))


def test_a_training_that_is_left_there_and_gone_on_with_there_ends_in_the_same_bits(tmp_path, monkeypatch):
    with fake_gpu(monkeypatch, "mps") as gpu:
        loop = interrupted("noise", tmp_path, [7], on("mps"))
    # A seed of its own for each of a step's two pieces; the same again where a step is counted beforehand, or taken anew.
    assert len(set(gpu.seeds)) == 2 * loop.steps < len(gpu.seeds)
    assert result_of(loop) == result_of(whole("noise"))


@pytest.mark.parametrize(("first", "second"), [("mps", "cpu"), ("cpu", "mps")])
def test_a_training_moves_between_devices_with_all_its_state(first, second, tmp_path, monkeypatch):
    def leave(device):
        loop = begun("noise", tmp_path, on(device))
        with pytest.raises(InterruptedWork):
            loop.run(keeper(tmp_path), IDENTITY, leave_after(9))

    def end(device):
        loop = begun("noise", tmp_path, on(device))
        loop.run(keeper(tmp_path), IDENTITY)
        return loop

    for go, device in ((leave, first), (end, second)):
        if device == "cpu":
            ended = go(device)
        else:
            with fake_gpu(monkeypatch, device):
                ended = go(device)
    [note] = ended.progress.notes
    assert note.startswith(f"on {second} from step ")
    ended.progress.notes.clear()
    assert result_of(ended) == result_of(whole("noise"))


@pytest.mark.parametrize(
    ("kind", "amp", "about", "words"),
    [
        ("mps", "bfloat16", {"has_bfloat16": False}, "--amp bfloat16 on mps: macOS has it from version 14 on"),
        ("xpu", "bfloat16", {"has_bfloat16": False}, "--amp bfloat16 on xpu: this GPU has no such numbers"),
        ("xpu", "float16", {}, "--amp float16 on xpu: torch scales gradients in float64, which this GPU lacks"),
    ],
)
def test_a_precision_that_the_device_lacks_is_refused_before_the_first_step(kind, amp, about, words, monkeypatch):
    with fake_gpu(monkeypatch, kind, **about), pytest.raises(HeadstartError, match=words):
        require_amp(amp, kind, torch.nn.Linear(1, 1))


def test_float16_on_mps_wants_a_torch_that_scales_gradients_there(monkeypatch):
    with fake_gpu(monkeypatch, "mps"):
        require_amp("float16", "mps", torch.nn.Linear(1, 1))
        monkeypatch.setattr(torch, "__version__", "2.7.1")
        with pytest.raises(HeadstartError, match=r"--amp float16 on mps: torch 2\.7\.1 scales no gradients on mps, 2\.8 does"):
            require_amp("float16", "mps", torch.nn.Linear(1, 1))


@pytest.mark.parametrize("amp", ["float16", "bfloat16"])
def test_a_training_in_half_precision_runs_there(amp, monkeypatch):
    with fake_gpu(monkeypatch, "mps"):
        loop = whole("tiny", on("mps"), amp=amp, max_steps=3)
    assert result_of(loop) == result_of(whole("tiny", amp=amp, max_steps=3))


def test_memory_that_runs_out_there_halves_the_rows_and_empties_the_cache(monkeypatch):
    recipe, _ = RECIPES["noise"]
    loss, most = recipe.loss, 5

    def limited(model, batch, step):
        if len(batch) > most:
            raise RuntimeError(
                "MPS backend out of memory (MPS allocated: 5.56 GB, other allocations: 1.10 GB, max allowed: 6.80 GB)"
            )
        return loss(model, batch, step)

    monkeypatch.setattr(recipe, "loss", limited)
    with fake_gpu(monkeypatch, "mps") as gpu:
        loop = begun("noise", conduct=on("mps"), max_steps=2)
        emptied = gpu.emptied
        loop.run(None, IDENTITY)
        assert gpu.emptied > emptied + 1
    assert loop.progress.micro_batch <= most


def test_a_model_in_float64_is_refused_by_the_name_of_its_first_tensor(monkeypatch):
    recipe, _ = RECIPES["tiny"]
    options = options_of("tiny")
    monkeypatch.setattr(recipe, "model", lambda options, about: torch.nn.Sequential(torch.nn.Linear(64, 10).double()))
    with fake_gpu(monkeypatch, "mps"), pytest.raises(HeadstartError, match=r"--device mps has no float64, and '0\.weight'"):
        Loop(recipe, options, recipe.data(options, None), on("mps"))


def test_a_step_takes_of_a_mac_s_memory_what_the_process_leaves_of_the_budget(monkeypatch):
    monkeypatch.setattr(accelerators, "current_rss_bytes", lambda: 600)
    monkeypatch.setattr(accelerators, "available_bytes", lambda: 10**9)
    with fake_gpu(monkeypatch, "mps", total=8_000) as gpu:
        held = torch.zeros(50).to("mps")
        assert gpu.held_bytes() == 200
        assert room_for_a_step("mps", 2_000, "the model") == 2_000 - 600 - 200
        assert gpu.cap == (2_000 - 600) / 8_000
        assert vram_facts("mps") == {"peak_vram_reserved_bytes": 200, "vram_process_bytes": 800}
        del held


@pytest.mark.parametrize(
    ("device", "ram", "vram", "budget"),
    [
        ("mps", None, None, 4 * 10**9),
        ("mps", 10**9, None, 10**9),
        ("mps", 3 * 10**9, 2 * 10**9, 2 * 10**9),
        ("cuda", 10**9, None, 4 * 10**9),
        ("cuda", 10**9, 2 * 10**9, 2 * 10**9),
    ],
)
def test_where_memory_is_shared_the_smaller_limit_holds(device, ram, vram, budget):
    assert budget_of(device, ram, vram)[0] == budget


@pytest.mark.parametrize(("kind", "is_held"), [("cpu", True), ("mps", True), ("xpu", False)])
def test_a_plan_counts_what_the_process_holds_where_that_is_the_device_s_memory(kind, is_held, tmp_path, monkeypatch):
    monkeypatch.setattr(train_recipe, "current_rss_bytes", lambda: 10**15)
    with contextlib.nullcontext() if kind == "cpu" else fake_gpu(monkeypatch, kind):
        [way] = train_recipe.plan_recipe("tiny", workspace=tmp_path / "w", device=kind).ways
    assert (way.memory_bytes > 10**15) is is_held
