import signal
import time

import pytest

from headstart.pipeline import watchdog
from headstart.pipeline.claims import Claim
from headstart.pipeline.job import Job
from headstart.pipeline.watchdog import FIRST_S, FLOOR_S, TIMED_OUT, Watchdog, memory_limit
from tests.support import run_python, spawn_python

from .suspects import enqueue_fragile
from .workers import WORK

CLAIM = Claim(Job("job_000000", "fake", "features/fake", "s", 0, 1), None)


def limited(job_timeout_s):
    return WORK.replace("Limits()", f"Limits(job_timeout_s={job_timeout_s})")


@pytest.mark.parametrize(
    ("given", "finished", "limit"),
    [
        (None, [], FIRST_S),
        (None, [1.0, 2.0, 3.0], FLOOR_S),
        (None, [5.0, 20.0, 1000.0], 200.0),
        (7.0, [5.0, 20.0, 1000.0], 7.0),
    ],
    ids=["nothing is known", "fast jobs", "slow jobs", "given"],
)
def test_the_limit_is_ten_times_the_median_unless_it_is_given(given, finished, limit):
    dog = Watchdog(given, None, None)
    for seconds in finished:
        dog.finished("features/a", seconds)
    assert dog.limit_s("features/a") == limit
    assert dog.limit_s("features/b") == (given or FIRST_S)


def test_a_job_that_shows_signs_of_life_may_take_as_long_as_it_likes(monkeypatch):
    monkeypatch.setattr(watchdog, "_TICK_S", 0.01)
    ended = []
    dog = Watchdog(0.1, None, lambda claim, reason: ended.append(reason))
    with dog, dog.watching(CLAIM):
        until = time.monotonic() + 0.5
        while time.monotonic() < until:
            dog.sign_of_life()
            time.sleep(0.001)
        assert not ended
        while not ended:
            time.sleep(0.001)
    assert ended[0] == "job_000000 showed no sign of life for 0.1 s"


def test_nothing_is_watched_between_two_jobs(monkeypatch):
    monkeypatch.setattr(watchdog, "_TICK_S", 0.01)
    ended = []
    dog = Watchdog(0.05, None, lambda claim, reason: ended.append(reason))
    with dog:
        with dog.watching(CLAIM):
            pass
        time.sleep(0.2)
    assert not ended


def test_a_process_that_takes_too_much_memory_is_ended(monkeypatch):
    monkeypatch.setattr(watchdog, "_TICK_S", 0.01)
    monkeypatch.setattr(watchdog, "current_rss_bytes", lambda: memory_limit(10**9) + 1)
    ended = []
    dog = Watchdog(None, 10**9, lambda claim, reason: ended.append(reason))
    with dog, dog.watching(CLAIM):
        while not ended:
            time.sleep(0.001)
    assert ended[0] == "this process took more than 1.5 GB of memory"


def test_a_hanging_job_ends_its_worker_with_its_own_exit_code_and_a_line(workspace):
    [job] = enqueue_fragile(workspace, 5, "hang_3")
    status, _, errors = run_python(limited(0.4), str(workspace.root))
    assert status == TIMED_OUT == 124
    assert errors.strip() == f"{job.job_id} showed no sign of life for 0.4 s; this worker ends itself"
    assert [path.name for path in workspace.claims(job).iterdir()] == [f"{job.job_id}.g1"]
    assert not list(workspace.workers.iterdir())


@pytest.mark.skipif(not hasattr(signal, "SIGPROF"), reason="this system has no profiling timer")
def test_a_job_that_hangs_and_holds_the_interpreter_is_ended_by_the_kernel(workspace):
    enqueue_fragile(workspace, 5, "spin_3")
    status, _, errors = run_python(limited(0.5), str(workspace.root))
    assert status == -signal.SIGPROF, errors


def test_a_worker_that_was_stopped_for_longer_than_its_limit_goes_on(workspace):
    enqueue_fragile(workspace, 10)
    code = limited(3.0).replace(
        "summary =",
        "import time\nfrom headstart.jobs import fragile\ngenuine = fragile.Session.compute\n"
        "def compute(self, prepared, check):\n    print('computing', flush=True)\n"
        "    for _ in range(10):\n        time.sleep(0.1)\n"
        "    return genuine(self, prepared, check)\n"
        "fragile.Session.compute = compute\nsummary =",
    )
    process = spawn_python(code, str(workspace.root))
    assert process.stdout.readline() == "computing\n"
    process.send_signal(signal.SIGSTOP)
    time.sleep(4.0)
    process.send_signal(signal.SIGCONT)
    assert process.wait(30) == 0, process.stderr.read()


def test_a_worker_that_cannot_leave_because_something_hangs_ahead_is_ended(workspace):
    enqueue_fragile(workspace, 10, "hang_7")
    code = limited(0.5).replace(
        "summary =",
        "from headstart.jobs import fragile\nfrom headstart.pipeline.errors import TryLaterError\n"
        "def compute(self, prepared, check):\n    raise TryLaterError('the disk is full')\n"
        "fragile.Session.compute = compute\nsummary =",
    )
    status, _, errors = run_python(code, str(workspace.root))
    assert status == TIMED_OUT
    assert errors.strip() == "leaving showed no sign of life for 0.5 s; this worker ends itself"


def test_an_item_that_holds_a_thread_ends_its_worker_and_says_which_it_is(workspace):
    [job] = enqueue_fragile(workspace, 5)
    code = WORK.replace(
        "summary =",
        "from headstart.jobs import fragile\nfrom headstart.pipeline.errors import ItemHung\n"
        "def compute(self, prepared, check):\n    raise ItemHung('cats/a.jpg: decoding it took more than 30 s')\n"
        "fragile.Session.compute = compute\nsummary =",
    )
    status, _, errors = run_python(code, str(workspace.root))
    assert status == TIMED_OUT
    assert errors.strip() == f"{job.job_id}: cats/a.jpg: decoding it took more than 30 s; this worker ends itself"
    assert [path.name for path in workspace.claims(job).iterdir()] == [f"{job.job_id}.g1"]
