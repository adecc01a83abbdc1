import pytest
import torch


@pytest.fixture
def one_thread():
    """Of a network this small two threads do nothing but wait for each other."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)
