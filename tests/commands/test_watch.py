"""`headstart watch`: the score so far, the rate, workers, failures; it changes nothing, and no name acts on the terminal."""

import io
import os
import pty
import subprocess
import sys
import time

import pytest
from rich.console import Console

from headstart.commands.output.live import Rates, Snapshot, draw_snapshot, take_snapshot
from headstart.experiments.evaluation.anytime.record import Score, score_path, write_scores
from headstart.pipeline.claims import Claimant
from headstart.pipeline.kinds import Settings
from headstart.pipeline.liveness import current_owner
from headstart.pipeline.status import Status
from headstart.pipeline.tally import Tally
from headstart.pipeline.worker import Limits, Worker
from tests.support import ROOT, enqueue_fakes

from .calling import call

SCORE = Score(1000, 3, 800, 100, 0.5, 0.4, 0.6, 1.0, "w")
EVIL = "a\x1b[31m<script>\u202eb"


def shown(snapshot, width=100, rates=None):
    rates = rates or Rates()
    rates.add(snapshot)
    console = Console(file=io.StringIO(), width=width, force_terminal=False)
    console.print(draw_snapshot("/w", snapshot, rates))
    return console.file.getvalue()


def snapshot(at=0.0, done=10, facts=None, **more):
    tally = Tally(jobs=100, done=done, pending=100 - done, items=6400, items_done=64 * done, seconds=10.0)
    status = Status({("extract", "features/encoder_x"): tally}, **more)
    return Snapshot(at, status, facts or {}, {}, {})


def test_one_look_says_what_is_done_and_changes_nothing(workspace):
    enqueue_fakes(workspace, 30)
    Worker(workspace, Settings(), Limits(max_jobs=1), lambda finished: None).run()
    before = sorted((path, path.stat().st_mtime_ns) for path in workspace.root.rglob("*"))
    done = call("watch", "--once", "-w", workspace.root)
    assert done.status == 0
    assert "1 of 3 jobs" in done.output
    assert "nobody is at work: headstart work" in done.output
    after = sorted((path, path.stat().st_mtime_ns) for path in workspace.root.rglob("*"))
    assert [path for path, _ in before] == [path for path, _ in after]


def test_the_rate_is_of_the_last_half_minute_and_says_what_is_left():
    rates = Rates()
    rates.add(snapshot(0.0, 10))
    rates.add(snapshot(20.0, 20))
    assert rates.of("features/encoder_x") == (0.5, 32.0)
    rates.add(snapshot(100.0, 60))
    assert rates.of("features/encoder_x") == (0.5, 32.0)
    text = shown(snapshot(120.0, 70), rates=rates)
    assert "32 images/s" in text
    assert "1m 00s left" in text


def test_nothing_new_has_no_rate():
    rates = Rates()
    rates.add(snapshot(0.0, 10))
    rates.add(snapshot(9.0, 10))
    assert rates.of("features/encoder_x") is None
    assert rates.of("features/another") is None


def test_the_score_comes_first_with_its_interval_and_its_course(workspace):
    enqueue_fakes(workspace, 30, folder="features/encoder_x")
    write_scores(workspace, score_path(workspace.features / "encoder_x", "data"), [SCORE, SCORE])
    look = take_snapshot(workspace)
    assert look.scores == {}  # of kinds that extract features alone
    text = shown(Snapshot(0.0, snapshot().status, {}, {("features/encoder_x", "data"): [SCORE, SCORE]}, {}))
    assert text.index("50.0 %") < text.index("10 of 100 jobs")
    assert "40.0 to 60.0" in text
    assert "from 50 %" in text


def test_a_worker_is_shown_with_its_memory_against_the_budget(workspace):
    enqueue_fakes(workspace, 30)
    with Claimant(workspace) as claimant:
        look = take_snapshot(workspace)
        name = claimant.owner.worker
        assert look.memory[name] > 1_000_000
        over = Snapshot(0.0, look.status, {"features/encoder_x": {"ram_budget_bytes": 1_000_000}}, {}, look.memory)
        assert "above the budget" in shown(over)
        under = Snapshot(0.0, look.status, {"features/encoder_x": {"ram_budget_bytes": 1 << 50}}, {}, look.memory)
        assert "above the budget" not in shown(under)
        assert not look.is_over


def test_failures_are_said_with_the_command_that_lists_them():
    failing = Status({("extract", "f"): Tally(jobs=2, done=1, quarantined=1, items_failed=3)}, problems=["a bad row"])
    text = shown(Snapshot(0.0, failing, {}, {}, {}))
    assert "3 images, 1 job quarantined" in text
    assert "headstart status --failed" in text
    assert "warning: a bad row" in text


@pytest.mark.parametrize("width", [20, 40, 80, 200])
def test_no_name_acts_on_the_terminal_at_any_width(width):
    owner = current_owner(1.0)
    evil = Status(
        {("extract", f"features/{EVIL}"): Tally(jobs=1)},
        [type(owner)(EVIL + "x" * 5000, "h", owner.machine, owner.pid, owner.started, 1.0)],
        [EVIL],
        [("paused", EVIL, 1)],
    )
    text = shown(Snapshot(0.0, evil, {}, {(EVIL, EVIL): [SCORE]}, {}), width)
    assert "\x1b" not in text
    assert "\u202e" not in text
    assert len(text) < 8000


def test_on_a_terminal_it_ends_by_itself_when_everything_is_done(workspace):
    enqueue_fakes(workspace, 10)
    (workspace.features / "fake" / "slow").touch()
    parent, child = pty.openpty()
    code = (
        f"import sys; sys.path.insert(0, {str(ROOT)!r}); import headstart.jobs\n"
        f"headstart.jobs.__path__.append({str(ROOT / 'tests' / 'fakes')!r})\n"
        f"sys.argv = ['headstart', 'watch', '--every', '0.2', '-w', {str(workspace.root)!r}]\n"
        "from headstart.cli import main; main()"
    )
    environment = {**os.environ, "TERM": "xterm", "COLUMNS": "90"}
    watching = subprocess.Popen([sys.executable, "-c", code], stdout=child, stderr=child, stdin=child, env=environment)
    os.close(child)
    text = b""
    while b"0 of 1 job" not in text:
        text += os.read(parent, 1 << 16)
    Worker(workspace, Settings(), Limits(), lambda finished: None).run()
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        try:
            part = os.read(parent, 1 << 16)
        except OSError:
            break
        if not part:
            break
        text += part
    assert watching.wait(60) == 0, text[-2000:]
    os.close(parent)
    assert b"1 of 1 job" in text
    assert b"\x1b[" in text
