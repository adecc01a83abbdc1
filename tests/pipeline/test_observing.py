"""A kind's observer gets a small part of the worker's time, and nothing that it does harms a job."""

import pytest

from headstart.pipeline import observing
from headstart.pipeline.errors import HeadstartError
from tests.fakes import fake
from tests.support import enqueue_fakes

from .workers import payloads, work


class Recorder:
    def __init__(self, says="a score"):
        self.says, self.allowed, self.is_closed = says, [], False

    def look(self, allowance_s, is_last):
        self.allowed.append((allowance_s, is_last))
        return self.says() if callable(self.says) else self.says

    def close(self):
        self.is_closed = True


@pytest.fixture
def seen(monkeypatch):
    """Makes the fake kind have an observer, which is opened at once."""
    import headstart.jobs.fake as kind

    monkeypatch.setattr(observing, "_OPENING_S", -1.0)
    recorder = Recorder()
    monkeypatch.setattr(kind, "open_observer", lambda workspace, job, settings: recorder, raising=False)
    return recorder


def test_an_observer_is_asked_after_jobs_and_at_the_end_and_is_closed(workspace, seen, monkeypatch):
    monkeypatch.setattr(observing, "SHARE", 1e6)  # whatever a look takes on a busy machine
    enqueue_fakes(workspace, 30)
    summary, heard = work(workspace)
    assert [finished.note for finished in heard] == ["a score"] * 3
    assert summary.notes == ["a score"]
    assert [is_last for _, is_last in seen.allowed] == [False, False, False, True]
    assert seen.is_closed


def test_it_is_never_allowed_more_than_its_share(workspace, seen):
    enqueue_fakes(workspace, 30)
    summary, _ = work(workspace)
    assert all(allowed <= observing.SHARE * summary.seconds for allowed, _ in seen.allowed)


def fails(error):
    def raising():
        raise error

    return raising


@pytest.mark.parametrize(
    ("error", "said"),
    [
        pytest.param(HeadstartError("the disk is odd"), "the disk is odd", id="one that explains itself"),
        pytest.param(ZeroDivisionError("division"), "ZeroDivisionError: division", id="a bug"),
    ],
)
def test_one_that_raises_is_asked_no_more_and_no_job_is_harmed(workspace, seen, error, said):
    seen.says = fails(error)
    enqueue_fakes(workspace, 30)
    summary, _ = work(workspace)
    assert summary.jobs == len(payloads(workspace)) == 3
    assert summary.notes == [f"no score of features/fake: {said}"]
    assert len(seen.allowed) == 1


def test_a_kind_without_one_says_nothing(workspace, monkeypatch):
    monkeypatch.setattr(observing, "_OPENING_S", -1.0)
    assert not hasattr(fake, "open_observer")
    enqueue_fakes(workspace, 30)
    assert work(workspace)[0].notes == []


def test_a_worker_of_an_instant_opens_none(workspace, seen, monkeypatch):
    monkeypatch.setattr(observing, "_OPENING_S", 1e9)
    enqueue_fakes(workspace, 30)
    work(workspace)
    assert seen.allowed == []
