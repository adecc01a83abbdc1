"""What `train-head` says about why a head was chosen."""

from pathlib import Path
from types import SimpleNamespace

import pytest

from headstart.commands.output.training import training_lines


def judged(selected, why):
    accuracies = {"linear": 0.9, "ridge": 0.8, "logistic": 0.8}
    entries = {name: {"val": {"accuracy": value, "accuracy_interval": [0, 1]}} for name, value in accuracies.items()}
    return {
        "heads": [{"head": "linear", **entries["linear"]}],
        "baselines": [{"baseline": name, **entries[name]} for name in ("ridge", "logistic")],
        "selected": selected,
        "selected_by": {"split": "val", "metric": "accuracy", "of": 3, "equals": [], **why},
        "rows": {"train": 70, "val": 30, "test": 0},
        "notes": [],
    }


WHY = {
    "a lead that may be luck": (
        "logistic",
        {"within_noise": ["linear"], "equals": ["ridge"]},
        [
            "chosen is marked *: logistic; linear (0.9000) did better on 30 validation images than logistic (0.8000), but a lead "
            "that small may be luck, so the simpler one is taken",
            "as good there: ridge",
        ],
    ),
    "a lead beyond doubt": (
        "linear",
        {},
        ["best on validation is marked *: linear has the best accuracy of 3 heads on validation"],
    ),
}  # fmt: skip


@pytest.mark.parametrize(("selected", "why", "expected"), WHY.values(), ids=WHY)
def test_why_a_head_was_chosen_is_said_in_a_line(selected, why, expected):
    experiment = SimpleNamespace(folder=Path("exp_0001_linear"), checkpoints=Path("checkpoints"), task="classification")
    lines = training_lines(experiment, judged(selected, why), Path("experiments.db"))
    marked = [line for line in lines if line.startswith("* ")]
    assert [line.split()[1] for line in marked] == [selected]
    begin = next(number for number, line in enumerate(lines) if "is marked *" in line)
    assert lines[begin : begin + len(expected)] == expected
    assert lines[begin + len(expected)].startswith("validation scores flatter a little")


@pytest.mark.parametrize(
    ("corrected", "promise"),
    [(0.75, "; choosing by some of these images and judging by the others gives about 0.7500"), (0.85, ""), (None, "")],
    ids=["below the chosen head's own", "above it: of the best, which was not chosen", "too few images"],
)
def test_what_is_left_without_flattery_is_never_more_than_what_the_chosen_head_has(corrected, promise):
    experiment = SimpleNamespace(folder=Path("exp_0001_linear"), checkpoints=Path("checkpoints"), task="classification")
    told = {**judged("logistic", {"within_noise": ["linear"]}), "corrected_validation": corrected}
    lines = training_lines(experiment, told, Path("experiments.db"))
    assert f"validation scores flatter a little, for heads were chosen by them{promise}" in lines


def test_what_is_a_baseline_is_said_by_a_name_that_people_know():
    experiment = SimpleNamespace(folder=Path("exp_0001_linear"), checkpoints=Path("checkpoints"), task="classification")
    told = judged("linear", {})
    told["baselines"][0]["baseline"] = "of a later version"
    rows = [
        line for line in training_lines(experiment, told, Path("experiments.db")) if line[2:].startswith(("linear", "of ", "log"))
    ]
    assert [row.partition("0.0000 to 1.0000")[2].strip() for row in rows] == [""] * 3  # no test split, no interval
    assert [row.split("none")[1].strip() for row in rows] == [
        "",
        "baseline: of a later version",
        "baseline: logistic regression: like linear, but its best weights are computed, not learned in epochs",
    ]
