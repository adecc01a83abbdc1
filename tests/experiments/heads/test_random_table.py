import pytest
import torch

from headstart.experiments.heads.random_table import normal, uniform


@pytest.mark.parametrize("draw", [uniform, normal])
def test_numbers_are_a_function_of_key_and_shape_wherever_they_are_drawn_first(draw):
    first = draw(5, (3, 40), "cpu").clone()
    draw(6, (1 << 20, 1), "cpu")  # a longer table
    assert torch.equal(draw(5, (3, 40), "cpu"), first)
    assert torch.equal(draw(5, (1 << 20, 3), "cpu").flatten()[:120].view(3, 40), first)
    assert not torch.equal(draw(7, (3, 40), "cpu"), first)


def test_uniform_and_normal_numbers_are_that():
    assert (uniform(1, (1000, 300), "cpu") < 0.25).double().mean() == pytest.approx(0.25, abs=0.01)
    numbers = normal(1, (1000, 300), "cpu").double()
    assert (float(numbers.mean()), float(numbers.var())) == pytest.approx((0, 1), abs=0.01)
    assert (numbers.abs() < 1).double().mean() == pytest.approx(0.6827, abs=0.01)


def test_stretches_of_other_keys_begin_in_other_places():
    begins = {float(uniform(key, (1,), "cpu")) for key in range(10_000)}
    assert len(begins) > 9_990  # float32 has two equal ones now and then
