from types import SimpleNamespace

import numpy as np
import pytest

from headstart.features.extraction import memory_budget
from headstart.features.extraction.memory_budget import plan_ram
from headstart.pipeline.errors import HeadstartError

MB = 10**6


class FakeEncoder:
    """An encoder whose every image takes 40 MB of a process that has 200 MB: nothing is really allocated."""

    device = "cpu"

    def __init__(self, monkeypatch, threads=2, keeps=True):
        self.threads = threads
        self.spec = SimpleNamespace(model="fake_net", transform=SimpleNamespace(image_size=(8, 8)))
        self.rss, self.peak, self.keeps = 200 * MB, 210 * MB, keeps
        monkeypatch.setattr(memory_budget, "current_rss_bytes", lambda: self.rss)
        monkeypatch.setattr(memory_budget, "peak_rss_bytes", lambda: self.peak)

    def encode(self, images):
        assert images.shape == (1, 8, 8, 3)
        self.peak = max(self.peak, self.rss + 40 * MB)
        self.rss += 40 * MB if self.keeps else 0
        return np.zeros((1, 2), np.float32)


@pytest.mark.parametrize(
    ("budget", "batch", "threads"),
    [(4000, 8, 2), (700, 4, 2), (450, 2, 2), (400, 1, 2), (300, 1, 1)],
    ids=["ample", "halved once", "halved twice", "one image a thread", "one image"],
)
def test_the_batch_is_halved_until_it_fits(monkeypatch, budget, batch, threads):
    plan = plan_ram(FakeEncoder(monkeypatch), 8, budget * MB, other_bytes=20 * MB)
    assert (plan.batch, plan.threads) == (batch, threads)
    assert 20 * MB + 200 * MB + 40 * MB * batch * threads <= plan.peak_bytes <= budget * MB


def test_memory_that_the_encoder_gives_back_counts_too(monkeypatch):
    kept, given_back = (
        plan_ram(FakeEncoder(monkeypatch, keeps=keeps), 8, 4000 * MB, other_bytes=0).peak_bytes for keeps in (True, False)
    )
    assert given_back >= 0.8 * kept


def test_a_budget_that_is_too_small_is_one_sentence(monkeypatch):
    with pytest.raises(HeadstartError, match=r"--ram-budget 230 MB: fake_net needs 2\d\d MB even with one image") as caught:
        plan_ram(FakeEncoder(monkeypatch), 8, 230 * MB, other_bytes=0)
    assert "\n" not in str(caught.value)
