"""What a person or a log file sees of a training."""

from dataclasses import dataclass, field

import pytest

from headstart.experiments.tracking import console


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
    assert [line.split("  ")[1] for line in lines] == ["epoch 1/3", "epoch 2/3", "epoch 3/3"]
    assert lines[0].endswith("3m 00s left")


def test_a_log_has_a_line_a_second_at_most_and_always_the_last(clock, capsys):
    lines = lines_of(clock, capsys, 200, 0.05)
    assert 8 <= len(lines) <= 12
    assert lines[0].split("  ")[1] == "epoch 1/200"
    assert lines[-1].split("  ")[1] == "epoch 200/200"


@pytest.mark.parametrize(("heads", "words"), [(1, "1 head in training"), (3, "3 heads in training")])
def test_counts_agree_in_number(clock, capsys, heads, words):
    assert lines_of(clock, capsys, 2, 9.0, heads)[0].split("  ")[4] == words


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


@pytest.mark.parametrize(("metric", "words"), [("accuracy", "accuracy 0.5000"), ("loss", "loss -0.5000")])
def test_what_the_number_is_stands_before_it(clock, capsys, metric, words):
    narrator = console.Narrator("exp_0001_x", 2, ["head"], metric)
    clock[0] += 9.0
    narrator.report(0, [Standing()])
    assert f"best on validation: head, {words}" in capsys.readouterr().err
