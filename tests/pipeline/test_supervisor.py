import os
import signal
import subprocess
import time
from time import sleep

import pytest

from headstart.pipeline import supervisor
from headstart.pipeline.status import quarantined_jobs
from headstart.pipeline.supervisor import Supervision
from tests.support import run_python, spawn_python

from .suspects import FOLDER, enqueue_fragile, outcome, squares
from .workers import MAIN, tally

# What a child does, by the number of children so far.
SUPERVISE = """
import os, signal, sys, time
from headstart.pipeline import supervisor
supervisor._FIRST_PAUSE_S = 0.001
log = sys.argv[1]
def run(supervision):
    with open(log, "a") as file:
        file.write(f"{os.getpid()}\\n")
    number = len(open(log).readlines())
    BODY
sys.exit(supervisor.supervised(run))
"""

# Where there is no fork, as on Windows; tried here.
COMMAND = "supervisor.supervised(run) if supervisor.OF_PARENT in os.environ else supervisor.supervised_command()"


def supervise(body, log, call="supervisor.supervised(run)"):
    return SUPERVISE.replace("BODY", body).replace("supervisor.supervised(run)", call), str(log)


with_and_without_fork = pytest.mark.parametrize("call", ["supervisor.supervised(run)", COMMAND], ids=["fork", "command"])


def is_gone(pid):
    """Waits until it is."""
    for _ in range(1000):
        try:
            os.kill(pid, 0)
        except ProcessLookupError:
            return True
        time.sleep(0.01)
    return False


def children(log):
    return [int(line) for line in log.read_text().split()]


@with_and_without_fork
@pytest.mark.parametrize(
    ("body", "code", "count"),
    [
        ("return 0", 0, 1),
        ("return 75", 75, 1),
        ("os.kill(os.getpid(), signal.SIGSEGV) if number < 3 else None; return 10", 10, 3),
        ("os._exit(124) if number < 3 else None; return 0", 0, 3),
        ("os.kill(os.getpid(), signal.SIGKILL)", 137, 10),
        ("supervision.job_finished() if number < 4 else None; os.kill(os.getpid(), signal.SIGKILL)", 137, 12),
    ],
    ids=["done", "try later", "two crashes", "two that were ended for their time", "only crashes", "crashes after some jobs"],
)
def test_a_worker_that_dies_is_started_again_until_it_ends_or_nothing_is_ever_done(tmp_path, body, code, count, call):
    status, _, errors = run_python(*supervise(body, tmp_path / "log", call))
    assert status == code, errors
    assert len(children(tmp_path / "log")) == count


@with_and_without_fork
def test_jobs_are_counted_over_all_workers(tmp_path, call):
    body = "supervision.job_finished(); os.kill(os.getpid(), signal.SIGKILL) if number < 4 else None; return supervision.jobs"
    assert run_python(*supervise(body, tmp_path / "log", call))[0] == 4


def test_an_error_of_windows_is_a_death_and_no_answer_of_the_worker(capfd, monkeypatch):
    class Workers:
        is_asked = False
        statuses = iter([0xC0000005, 1])

        def start(self):
            return False

        def wait_for_child(self):
            return next(self.statuses)

    monkeypatch.setattr(supervisor, "_FIRST_PAUSE_S", 0)
    assert supervisor._last_status(Workers(), Supervision()) == 1
    assert capfd.readouterr().err == "the worker ended its process with exit status 0xc0000005; the next one goes on\n"


def test_no_worker_starts_after_a_signal_that_came_at_the_end_of_a_pause(monkeypatch):
    class Workers:
        is_asked = False
        starts = 0

        def start(self):
            self.starts += 1
            assert self.starts == 1
            return False

        def wait_for_child(self):
            return -signal.SIGSEGV

    workers = Workers()
    monkeypatch.setattr(supervisor, "_FIRST_PAUSE_S", 0.01)
    monkeypatch.setattr(supervisor.time, "sleep", lambda seconds: (sleep(seconds), setattr(workers, "is_asked", True)))
    assert supervisor._last_status(workers, Supervision()) == 128 + signal.SIGSEGV


def test_a_console_that_tells_a_command_and_its_worker_of_its_end_ends_both(tmp_path):
    body = """
    seen = []
    signal.signal(signal.SIGINT, lambda number, frame: seen.append(number))
    print("ready", flush=True)
    while not seen:
        time.sleep(0.01)
    os._exit(124)
"""
    process = spawn_python(*supervise(body, tmp_path / "log", COMMAND), start_new_session=True)
    assert process.stdout.readline() == "ready\n"
    os.killpg(process.pid, signal.SIGINT)
    assert process.wait(30) == 124
    assert len(children(tmp_path / "log")) == 1


def test_a_process_ends_after_another_that_is_not_its_parent(tmp_path):
    process = spawn_python("import sys; sys.stdin.read()", stdin=subprocess.PIPE)
    follower = spawn_python(f"from headstart.pipeline.child import end_after; print(1, flush=True); end_after({process.pid})")
    assert follower.stdout.readline() == "1\n"
    assert follower.poll() is None
    process.communicate()
    assert follower.wait(30) == 1


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT], ids=["SIGTERM", "SIGINT"])
def test_a_signal_reaches_the_worker_once_and_ends_both(tmp_path, number):
    body = """
    seen = []
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda number, frame: seen.append(number))
    print("ready", flush=True)
    while not seen:
        time.sleep(0.01)
    time.sleep(0.2)
    return 100 + len(seen)
"""
    process = spawn_python(*supervise(body, tmp_path / "log"))
    assert process.stdout.readline() == "ready\n"
    process.send_signal(number)
    assert process.wait(30) == 101


# A signal that another thread takes does not interrupt what the first one waits in; neither does one that arrives just
# before it waits, a moment too short to be met by trying.
FORWARD = """
import os, signal, threading, time
from headstart.pipeline.forked import Forwarding
with Forwarding() as forwarding:
    if forwarding.start():
        time.sleep(600)
        os._exit(0)
    threading.Timer(0.3, lambda: signal.pthread_kill(threading.get_ident(), signal.SIGTERM)).start()
    print(forwarding.wait_for_child(), flush=True)
"""


def test_a_signal_that_does_not_interrupt_the_wait_still_reaches_the_worker():
    process = spawn_python(FORWARD)
    try:
        assert process.communicate(timeout=60)[0] == f"{-signal.SIGTERM}\n"
    finally:
        process.kill()


def test_neither_the_worker_nor_what_follows_keeps_a_handler_or_a_file(tmp_path):
    body = "tell(signal.set_wakeup_fd(-1)); os._exit(0)"
    tell = "lambda *more: print(signal.getsignal(signal.SIGCHLD) is signal.SIG_DFL, files() == before, *more, flush=True)"
    around = f"files = lambda: len(os.listdir('/dev/fd')); before = files(); tell = {tell}; supervisor.supervised(run); tell()"
    script, log = supervise(body, tmp_path / "log")
    assert run_python(script.replace("sys.exit(supervisor.supervised(run))", around), log)[:2] == (0, "True True -1\nTrue True\n")


def test_a_worker_does_not_outlive_its_parent(tmp_path):
    body = "print('ready', flush=True); time.sleep(60)"
    process = spawn_python(*supervise(body, tmp_path / "log"))
    assert process.stdout.readline() == "ready\n"
    process.kill()
    [child] = children(tmp_path / "log")
    assert process.stdout.read() == ""  # the end of the pipe: nobody holds it any more
    assert is_gone(child)


def test_one_command_drains_a_queue_with_killers(workspace):
    jobs = enqueue_fragile(workspace, 20, "crash_3", "crash_12")
    status, _, errors = run_python(MAIN, "work", "-w", str(workspace.root))
    assert status == 0, errors
    assert "the worker ended its process with SIGSEGV; the next one goes on" in errors
    assert outcome(workspace, jobs[0]) == (squares(0, 1, 2, 4), {3: ("killed", "ended its process with SIGSEGV")})
    assert (tally(workspace).done, tally(workspace).items_failed) == (4, 2)
    assert not list(quarantined_jobs(workspace))


def test_max_jobs_holds_over_restarts(workspace):
    enqueue_fragile(workspace, 40, "crash_22")  # the fifth of eight jobs
    status, _, errors = run_python(MAIN, "work", "--max-jobs", "5", "--exit-status", "-w", str(workspace.root))
    assert status == 10, errors
    assert "SIGSEGV" in errors
    assert tally(workspace).done == 5


def test_a_hanging_job_ends_its_worker_and_no_other_job_is_blamed(workspace):
    jobs = enqueue_fragile(workspace, 15, "hang_3")
    status, _, errors = run_python(MAIN, "work", "--job-timeout", "3", "-w", str(workspace.root))
    assert status == 0, errors
    assert f"{jobs[0].job_id} showed no sign of life for 3 s" in errors
    assert outcome(workspace, jobs[0])[1] == {3: ("killed", "did not end within 3 s")}
    # The job that was prepared beside it was given back, so it is no suspect.
    assert {path.name.split(".")[0] for path in workspace.claims(jobs[0]).glob("*.g*")} == {jobs[0].job_id}
    assert (workspace.root / FOLDER / "examined.log").exists()
