"""What a plan says to people."""

import pytest

from headstart.experiments.training.plan import Plan, Way

TRIED = Way("cut", True, 40, 6 * 10**9, 2.2, 5.0, 97.0)


@pytest.mark.parametrize(("device", "begins"), [("cpu", "plan: cut: "), ("cuda", "plan on the CPU: cut: ")])
def test_times_that_were_tried_on_the_cpu_are_not_given_out_as_those_of_a_gpu(device, begins):
    [line] = Plan([TRIED], device=device).lines
    assert line.startswith(f"{begins}40 steps of 2.2 s")


def test_a_way_that_was_not_timed_is_planned_for_the_device_itself():
    [line] = Plan([Way("as it is", True, 40, 10**9)], device="cuda").lines
    assert line.startswith("plan: as it is: 40 steps")
