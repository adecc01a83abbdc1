"""A time limit ends a training only after something was kept."""

import pytest

from headstart.experiments.training.time_limit import LoopTimeLimit
from headstart.pipeline.errors import InterruptedWork, TimeIsUp


def raising(error):
    def check():
        raise error

    return check


def test_time_that_is_up_waits_for_the_first_thing_worth_keeping():
    limit = LoopTimeLimit(raising(TimeIsUp()))
    limit.began(7, 9)
    limit.check()
    limit.stepped(None)
    with pytest.raises(TimeIsUp):
        limit.check()


def test_an_evaluation_is_worth_keeping_too():
    limit = LoopTimeLimit(raising(TimeIsUp()))
    limit.judged({}, None)
    with pytest.raises(TimeIsUp):
        limit.check()


def test_any_other_reason_to_leave_passes_at_once():
    with pytest.raises(InterruptedWork):
        LoopTimeLimit(raising(InterruptedWork())).check()
