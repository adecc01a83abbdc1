import pytest

from headstart.experiments.config import HeadConfig, TrainingOptions
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
