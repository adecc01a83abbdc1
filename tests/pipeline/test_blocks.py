"""Many jobs by one claim: the same guarantees, and far fewer claims."""

import multiprocessing
import os
import signal
import time
from pathlib import Path

import pytest

from headstart.pipeline import next_job
from headstart.pipeline.blocks import Span, read_spans, span_of
from headstart.pipeline.claims import Claimant
from headstart.pipeline.files import FileSystem
from headstart.pipeline.next_job import Frontier
from headstart.pipeline.quarantine import NO_HISTORY, History, is_claim, read_histories
from headstart.pipeline.verify import sweep, verify
from headstart.pipeline.workspace import open_or_create_workspace, open_workspace
from tests.support import enqueue_fakes

from .workers import tally, work


def claims(workspace):
    return sorted(path.name for path in workspace.root.glob("features/fake/claims/**/*") if path.is_file())


def prepared(workspace):
    return (workspace.root / "features/fake/prepared.log").read_text().split()


def dying(task):
    """Runs `task` in a child that is killed where it ends; a zombie until the test ends, as in a container without init."""
    pid = os.fork()
    if pid == 0:
        task()
        os.kill(os.getpid(), signal.SIGKILL)
    os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)


@pytest.mark.parametrize(
    ("name", "span"),
    [
        pytest.param("jobs_000064-000127", Span(64, 127), id="a block"),
        pytest.param("jobs_000007-000007", Span(7, 7), id="of one job"),
        pytest.param("jobs_1234567-1234568", Span(1234567, 1234568), id="beyond a million"),
        pytest.param("jobs_000009-000007", None, id="backwards"),
        pytest.param("jobs_64-127", None, id="too short"),
        pytest.param("jobs_000064-000127.g1", None, id="something behind"),
        pytest.param("job_000064.g1", None, id="a single claim"),
        pytest.param("jobs_-00064-000127", None, id="a sign"),
        pytest.param("jobs_0000000000064-000127", None, id="too long"),
        pytest.param("", None, id="nothing"),
    ],
)
def test_only_names_of_this_form_are_blocks(name, span):
    assert span_of(name) == span
    if span is not None:
        assert span.name == name


@pytest.mark.parametrize("block", [2, 5, 64])
def test_workers_with_blocks_and_without_do_each_job_once(workspace, block):
    enqueue_fakes(workspace, 600, job_size=2)
    context = multiprocessing.get_context("fork")
    limits = [{"block": block} if number % 3 else {} for number in range(9)]
    workers = [context.Process(target=_work, args=(workspace.root, limit)) for limit in limits]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(100)
    assert [worker.exitcode for worker in workers] == [0] * len(workers)
    assert len(prepared(workspace)) == len(set(prepared(workspace))) == 300
    assert tally(workspace).done == 300
    assert claims(workspace) == []


def _work(root, limits):
    work(open_workspace(root), **limits)


def test_sixty_four_jobs_take_one_claim(workspace, monkeypatch):
    enqueue_fakes(workspace, 200, job_size=1)
    monkeypatch.setattr(next_job, "_BLOCK_S", 1e9)  # however slow this machine
    monkeypatch.setattr(next_job, "_KEPT_S", 1e9)
    made = []
    link = os.link
    monkeypatch.setattr(os, "link", lambda old, new, **more: link(old, new, **more) or made.append(Path(new).name))
    work(workspace, block=64)
    taken = [name for name in made if span_of(name) or is_claim(name)]
    assert 0 < len(taken) <= 12  # the first few are small
    spans = [span for name in taken if (span := span_of(name))]
    # Each job by a block. At the end one may be tried again that ended since the folder was listed: released, not done twice.
    assert sum(span.last - span.first + 1 for span in spans) == 200


def test_without_hard_links_blocks_work_too(tmp_path, monkeypatch):
    monkeypatch.setattr("headstart.pipeline.workspace.probe", lambda folder: FileSystem(hard_links=False, fsync=False))
    workspace = open_or_create_workspace(tmp_path / "w")
    enqueue_fakes(workspace, 100, job_size=1)
    assert work(workspace, block=16)[0].jobs == 100
    assert claims(workspace) == []


def test_who_sees_the_other_yields(workspace):
    jobs = enqueue_fakes(workspace, 80, job_size=10)
    with Claimant(workspace) as first, Claimant(workspace) as second:
        single = first.acquire(jobs[3], NO_HISTORY)
        block = second.acquire_block(jobs)
        assert [job.number for job in block.waiting] == [0, 1, 2, 4, 5, 6, 7]
        assert first.acquire(jobs[5], NO_HISTORY) is None
        assert not (workspace.claims(jobs[5]) / "job_000005.g1").exists()
        overlapping = first.acquire_block(jobs[6:])
        assert overlapping is None
        first.release(single)
        assert first.acquire(jobs[3], NO_HISTORY) is None, "the block's span has it, although the block does not do it"
    assert claims(workspace) == []


def test_what_is_done_or_was_tried_is_in_no_block(workspace):
    jobs = enqueue_fakes(workspace, 60, job_size=10)
    work(workspace, only=frozenset({jobs[1].job_id}))
    with Claimant(workspace) as claimant:
        claimant.fail(claimant.acquire(jobs[4], NO_HISTORY), "it rained")
        assert [job.number for job in claimant.acquire_block(jobs).waiting] == [0, 2, 3, 5]


def test_jobs_of_a_block_whose_worker_died_are_done_one_by_one(workspace, monkeypatch):
    jobs = enqueue_fakes(workspace, 20, job_size=1)
    (workspace.root / "features/fake/kill_job_000004").touch()
    dying(lambda: work(workspace, block=64))
    assert tally(workspace).done < 20
    [dead] = read_spans(workspace.blocks(jobs[0]))
    assert dead.covers(4)
    taken = []
    acquire = Claimant.acquire_block
    monkeypatch.setattr(Claimant, "acquire_block", lambda claimant, jobs: taken.extend(jobs) or acquire(claimant, jobs))
    summary, _ = work(workspace, block=64)
    assert tally(workspace).done == 20
    assert summary.failed_jobs == 0
    assert [job.number for job in taken if dead.covers(job.number)] == [], "one of these jobs may be why"
    assert sweep(verify(workspace).orphans) >= 1
    assert claims(workspace) == []


def test_a_job_that_fails_in_a_block_is_tried_again_alone_and_its_neighbours_are_done(workspace):
    enqueue_fakes(workspace, 20, job_size=1)
    (workspace.root / "features/fake/raise_job_000004").touch()
    summary, _ = work(workspace, block=64)
    assert (summary.jobs, summary.failed_jobs) == (19, 3)
    assert (tally(workspace).done, tally(workspace).quarantined) == (19, 1)
    assert [name for name in claims(workspace) if name.endswith(".failed")] == [f"job_000004.g{n}.failed" for n in (1, 2, 3)]
    assert [name for name in claims(workspace) if not name.startswith("job_000004.g")] == []


def test_a_worker_that_has_to_end_itself_leaves_a_claim_on_the_job_at_fault_alone(workspace):
    jobs = enqueue_fakes(workspace, 60, job_size=10)

    def hang():
        claimant = Claimant(workspace).__enter__()
        block = claimant.acquire_block(jobs)
        claimant.next_of(block)
        claimant.leave(claimant.next_of(block))

    dying(hang)
    assert claims(workspace) == ["job_000001.g1"]
    assert read_histories(workspace.claims(jobs[0]))["job_000001"] == History(generation=1, open=(1,), last=1)


def test_what_waits_goes_back_when_jobs_are_slower_than_those_before(workspace, monkeypatch):
    jobs = enqueue_fakes(workspace, 60, job_size=10)
    with Claimant(workspace) as claimant, Claimant(workspace) as other:
        block = claimant.acquire_block(jobs)
        first, second = claimant.next_of(block), claimant.next_of(block)
        assert [job.number for job in claimant.take_apart(block)] == [2, 3, 4, 5]
        assert claims(workspace) == ["job_000000.g1", "job_000001.g1"]
        assert other.acquire(jobs[1], History(generation=1, open=(1,), last=1)) is None
        theirs = other.acquire(jobs[2], NO_HISTORY)
        for claim in (first, second):
            claimant.release(claim)
        other.release(theirs)
    assert claims(workspace) == []
    monkeypatch.setattr(next_job, "_KEPT_S", 0.0)
    summary, _ = work(workspace, block=64)
    assert summary.jobs == 6
    assert len(prepared(workspace)) == 6


def test_blocks_shrink_to_what_takes_seconds(workspace):
    enqueue_fakes(workspace, 10)
    with Claimant(workspace) as claimant:
        frontier = Frontier(workspace, claimant, None, None, block=64)
        sizes = {}
        for pace_s in (0.001, 0.1, 1.0, 4.0, 60.0):
            frontier._paces.clear()
            frontier._paces.extend(number * pace_s for number in range(16))
            sizes[pace_s] = frontier._block_size()
        assert sizes == {0.001: 64, 0.1: 50, 1.0: 5, 4.0: 1, 60.0: 1}
        frontier._paces.clear()
        assert frontier._block_size() == 8


def test_workers_with_blocks_begin_at_different_places(workspace):
    enqueue_fakes(workspace, 400, job_size=1)
    firsts = set()
    for _ in range(12):
        with Claimant(workspace) as claimant:
            claim = Frontier(workspace, claimant, None, None, block=8).next_claim()
            firsts.add(claim.job.number)
    assert len(firsts) > 3
    assert all(number % 8 == 0 for number in firsts)


def test_in_a_long_queue_they_begin_where_a_group_does(workspace):
    enqueue_fakes(workspace, 40_000, job_size=2)
    for _ in range(3):
        with Claimant(workspace) as claimant:
            claim = Frontier(workspace, claimant, None, None, block=64).next_claim()
            assert claim.job.number % 1000 == 0


def test_the_jobs_of_a_living_block_count_as_running(workspace):
    jobs = enqueue_fakes(workspace, 60, job_size=10)
    with Claimant(workspace) as claimant:
        block = claimant.acquire_block(jobs[:4])
        claimant.next_of(block)
        assert (tally(workspace).running, tally(workspace).pending) == (4, 2)
        assert verify(workspace).orphans == []
    assert tally(workspace).pending == 6


def test_who_waits_for_a_block_goes_on_when_its_worker_is_gone(workspace):
    enqueue_fakes(workspace, 40, job_size=10)
    context = multiprocessing.get_context("fork")
    ready = context.Event()

    def hold():
        claimant = Claimant(workspace).__enter__()
        list_of = list(next_job.Reader(workspace, frozenset({"fake"})))
        claimant.acquire_block(list_of)
        ready.set()
        time.sleep(600)

    holder = context.Process(target=hold)
    holder.start()
    assert ready.wait(60)
    waiting = context.Process(target=_work, args=(workspace.root, {"block": 64}))
    waiting.start()
    time.sleep(0.3)
    assert waiting.is_alive()
    holder.kill()
    waiting.join(60)
    assert waiting.exitcode == 0
    assert tally(workspace).done == 4
    holder.join(10)
