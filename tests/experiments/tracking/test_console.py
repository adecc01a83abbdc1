"""What a person or a log file sees of a training."""

from dataclasses import dataclass, field

import pytest

from headstart.experiments.tracking import console
from headstart.experiments.training.early_stopping import TrainingProgress


@dataclass
class Standing:
    """As much of `TrainingProgress` as is shown."""

    best: tuple[float, float] = (0.5, 0.0)
    best_score: float = 0.5
    best_epoch: int = 0
    is_active: bool = True
    history: list[dict[str, float | None]] = field(default_factory=lambda: [{"train_loss": 1.0}])


@pytest.fixture
def clock(monkeypatch):
    now = [0.0]
    monkeypatch.setattr(console.time, "monotonic", lambda: now[0])
    return now


def lines_of(clock, capsys, epochs: int, seconds: float, heads: int = 1) -> list[str]:
    narrator = console.Narrator("exp_0001_x", epochs, [f"head-{i}" for i in range(heads)], "accuracy")
    for epoch in range(epochs):
        clock[0] += seconds
        narrator.report(epoch, [Standing() for _ in range(heads)])
    return capsys.readouterr().err.splitlines()


def test_a_log_has_a_line_an_epoch_where_epochs_are_long(clock, capsys):
    lines = lines_of(clock, capsys, 3, 90.0)
    assert [line.split("  ")[1] for line in lines] == [f"epoch {epoch} of at most 3" for epoch in (1, 2, 3)]
    assert lines[0].endswith("3m 00s left")


def test_a_log_has_a_line_a_second_at_most_and_always_the_last(clock, capsys):
    lines = lines_of(clock, capsys, 200, 0.05)
    assert 8 <= len(lines) <= 12
    assert lines[0].split("  ")[1] == "epoch 1 of at most 200"
    assert lines[-1].split("  ")[1] == "epoch 200 of at most 200"


@pytest.mark.parametrize(
    ("heads", "words"),
    [
        (1, ["training loss 1.0000", "best validation accuracy so far: 0.5000"]),
        (3, ["3 heads in training", "best validation accuracy so far: 0.5000 (head-0)"]),
    ],
)
def test_one_head_says_its_loss_and_of_several_the_one_that_leads_is_named(clock, capsys, heads, words):
    assert lines_of(clock, capsys, 2, 9.0, heads)[0].split("  ")[2:4] == words


@pytest.mark.parametrize(
    ("metric", "by_loss", "words"),
    [
        ("accuracy", False, "best validation accuracy so far: 0.9500 (b)"),
        ("accuracy", True, "lowest validation loss so far: 0.3000 (a)"),
        ("loss", False, "lowest validation loss so far: 0.4000 (b)"),
    ],
)
def test_what_is_told_of_validation_never_gets_worse(clock, capsys, metric, by_loss, words):
    one, other = TrainingProgress(), TrainingProgress()
    epochs = [(0.4, 0.90, 0.8, 0.95), (0.3, 0.80, 0.7, 0.93)]
    for epoch, (loss, score, other_loss, other_score) in enumerate(epochs):
        one.note_epoch(epoch, 1.0, loss, score if metric != "loss" else -loss - 1, 0, by_loss)
        other.note_epoch(epoch, 1.0, other_loss, other_score if metric != "loss" else -0.4, 0, by_loss)
    narrator = console.Narrator("exp_0001_x", 9, ["a", "b"], metric, by_loss)
    clock[0] += 9.0
    narrator.report(1, [one, other])
    assert capsys.readouterr().err.strip().split("  ")[2:4] == ["2 heads in training", words]


@pytest.mark.parametrize(("heads", "words"), [(1, "diverged"), (2, "none has a finite loss on validation yet")])
def test_a_training_whose_loss_is_no_number_says_so(clock, capsys, heads, words):
    narrator = console.Narrator("exp_0001_x", 9, ["a", "b"][:heads], "accuracy")
    clock[0] += 9.0
    lost = Standing(best_epoch=-1, best_score=float("-inf"), history=[{"train_loss": None}])
    narrator.report(0, [lost] * heads)
    assert words in capsys.readouterr().err


@pytest.mark.parametrize("first", [2.0, 8.0])
def test_a_slow_start_does_not_multiply_the_time_left(clock, capsys, first):
    narrator = console.Narrator("exp_0001_x", 200, ["head"], "accuracy")
    for epoch, seconds in enumerate([first, 1.5, 0.1, 1.5]):
        clock[0] += seconds
        narrator.report(epoch, [Standing()])
    lines = capsys.readouterr().err.splitlines()
    assert "left" not in lines[0]
    assert lines[1].endswith(f"{console.span(198 * 1.5)} left")
    assert lines[-1].endswith(f"{console.span(196 * 3.1 / 3)} left")
