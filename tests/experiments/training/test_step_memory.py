import pytest
import torch
import torch.nn.functional as F
from torch import nn

from headstart.experiments.training import step_memory as module
from headstart.experiments.training.conduct import Conduct
from headstart.experiments.training.step_memory import StepMemory, step_memory
from headstart.features import accelerators
from headstart.pipeline.errors import HeadstartError, InterruptedWork
from tests.commands.calling import call

from .loops import IDENTITY, begun, facts_of, keeper, leave_after, whole

PLAIN = {"dropout": 0.0, "normed": False}


@pytest.fixture(autouse=True)
def an_empty_process(monkeypatch):
    monkeypatch.setattr(module, "current_rss_bytes", lambda: 0)


def test_what_waits_for_the_backward_pass_is_counted_once_and_for_each_row():
    network = nn.Sequential(nn.Linear(100, 200), nn.ReLU(), nn.Linear(200, 10))
    inputs, labels = torch.zeros(4, 100), torch.zeros(4, dtype=torch.long)
    memory = step_memory(
        network, torch.optim.AdamW(network.parameters()), lambda rows: F.cross_entropy(network(inputs[:rows]), labels[:rows]), 4
    )
    kept = 4 * 200 + 4 * 10  # the output of the ReLU serves the layer behind it too; the inputs are one tensor for all rows
    assert kept <= memory.row_bytes <= kept + 2 * 4 * 200 + 64
    assert memory.fixed_bytes == 3 * 4 * (100 * 200 + 200 + 200 * 10 + 10)  # gradients, and two moments of each


@pytest.mark.parametrize(
    ("room", "rows"), [pytest.param(10**9, 12, id="all"), pytest.param(1_000, 6, id="half"), pytest.param(260, 1, id="one")]
)
def test_rows_are_halved_as_often_as_it_takes(room, rows):
    assert StepMemory(100, 100).rows_within(room, 12, "--ram-budget 1 MB") == rows


def budget_for(rows):
    """What so many rows of the test's network take."""
    return begun("noise", **PLAIN).step_memory().of(rows)


def test_a_budget_chooses_the_rows_at_once_before_the_first_step_and_changes_no_loss(tmp_path):
    expected = whole("noise", **PLAIN)
    loop = begun("noise", tmp_path, Conduct(ram_bytes=budget_for(3)), **PLAIN)
    loop.run(keeper(tmp_path), IDENTITY)
    assert loop.progress.micro_batch == 2  # 8, 4, 2
    assert "from step 0 on 2 rows at once" in loop.progress.notes[0]
    for one, other in zip(loop.progress.history, expected.progress.history, strict=True):
        assert one["train"]["loss"] == pytest.approx(other["train"]["loss"], abs=1e-5)


def test_looking_leaves_weights_statistics_and_random_streams_as_they_were():
    expected = facts_of(begun("noise"))
    loop = begun("noise")
    loop.step_memory()
    assert facts_of(loop) == expected
    budgeted = begun("noise", conduct=Conduct(ram_bytes=10**12))
    budgeted.run(None, IDENTITY)
    assert {**facts_of(budgeted), "/progress/budget": 0} == facts_of(whole("noise"))


def test_a_resume_keeps_the_rows_at_once_unless_its_budget_is_smaller(tmp_path, monkeypatch):
    loop = begun("noise", tmp_path, Conduct(ram_bytes=budget_for(4)), **PLAIN)
    with pytest.raises(InterruptedWork):
        loop.run(keeper(tmp_path), IDENTITY, leave_after(9))
    assert loop.progress.micro_batch == 4
    for budget, rows in ((budget_for(4), 4), (budget_for(2), 2), (10**12, 2)):
        again = begun("noise", tmp_path, Conduct(ram_bytes=budget), **PLAIN)
        with pytest.raises(InterruptedWork):
            again.run(keeper(tmp_path), IDENTITY, leave_after(9))
        assert again.progress.micro_batch == rows


def test_a_budget_for_not_even_one_row_is_one_line(tmp_path, monkeypatch):
    with pytest.raises(HeadstartError, match="--ram-budget 0 MB: a step of one row takes"):
        begun("noise", conduct=Conduct(ram_bytes=1)).run(None, IDENTITY)
    monkeypatch.setenv("HEADSTART_CONFIG", str(tmp_path / "configuration"))
    monkeypatch.setattr(module, "current_rss_bytes", lambda: 10**12)
    done = call("train", "tiny", "--ram-budget", "100GB", "-w", tmp_path / "workspace")  # less would end the process itself
    assert done.status == 1
    assert "--ram-budget 100,000 MB: a step of one row takes" in done.errors.strip().splitlines()[-1]


def test_a_gpu_s_allocator_is_capped_within_the_budget_and_rows_are_chosen_for_what_is_left(monkeypatch):
    said = []

    class Fake:
        def __init__(self, device):
            assert device == "cuda:0"

        def process_bytes(self):
            return 700  # 200 of them are the driver's

        def reserved_bytes(self):
            return 500

        def free_bytes(self):
            return 10_000

        def forget(self):
            said.append("forget")

        def cap(self, size):
            said.append(size)

    monkeypatch.setattr(accelerators, "CudaMemory", Fake)
    assert module.room_for_a_step("cuda:0", 2_000, "the model") == 2_000 - 200 - 500
    assert said == ["forget", 1_800]
