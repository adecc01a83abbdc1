import pytest

from headstart.experiments.config import HeadConfig, TrainingOptions, default_ablation, linear_head, usual_steps
from headstart.pipeline.errors import HeadstartError


@pytest.mark.parametrize(
    "bad",
    [{"label_smoothing": 1.0}, {"hidden": (4,), "dropout": 1.0}, {"noise": -1.0}],
    ids=["all smoothed away", "all dropped", "negative noise"],
)
def test_a_head_that_cannot_be_is_refused(bad):
    with pytest.raises(HeadstartError, match="expected"):
        HeadConfig(**bad)


def test_a_warm_up_longer_than_the_training_is_refused():
    with pytest.raises(HeadstartError, match=r"warmup is 1\.5"):
        TrainingOptions(warmup=1.5)


@pytest.mark.parametrize(
    ("options", "rows", "is_by_loss"),
    [
        (TrainingOptions(steps=500), 1000, True),
        (TrainingOptions(steps=500), 50_000, False),
        (TrainingOptions(steps=500, monitor="accuracy"), 1000, False),
        (TrainingOptions(epochs=30), 1000, False),
    ],
    ids=["few images", "many", "asked for accuracy", "so many epochs asked for"],
)
def test_epochs_of_a_small_set_are_judged_by_the_loss_unless_something_else_is_asked_for(options, rows, is_by_loss):
    assert options.settled(rows).by_loss is is_by_loss


def test_a_linear_head_alone_takes_a_third_of_the_steps():
    assert usual_steps([linear_head()]) * 3 == usual_steps(default_ablation())
