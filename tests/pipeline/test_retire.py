"""The list of withdrawn jobs: what stands in it was written, or is named."""

import pytest

from headstart.pipeline.enqueue import queue_lock
from headstart.pipeline.queue import Reader
from headstart.pipeline.retire import CANCELLED, HEADER, LIVE, PAUSED, REMOVED, Withdrawal, read_withdrawn, withdraw
from tests.support import KINDS, enqueue_fakes, flipped


@pytest.fixture
def jobs(workspace):
    enqueue_fakes(workspace, 40)
    return list(Reader(workspace, KINDS))


def say(workspace, jobs, state):
    with queue_lock(workspace):
        withdraw(workspace, jobs, state, f"because, {state}")


def test_a_flip_of_any_bit_is_named_or_changes_nothing(workspace, jobs):
    say(workspace, jobs[:1], REMOVED)
    say(workspace, jobs[1:3], PAUSED)
    sound, whole = read_withdrawn(workspace), workspace.withdrawn.read_bytes()
    assert not sound.problems
    assert set(sound.jobs) == {job.job_id for job in jobs[:3]}
    for bit in range(8 * len(whole)):
        workspace.withdrawn.write_bytes(flipped(whole, bit))
        now = read_withdrawn(workspace)
        assert now.problems or now == sound, bit
        assert all(problem.isprintable() for problem in now.problems)


def test_what_is_damaged_is_a_problem_of_the_queue_and_stays_one(workspace, jobs):
    say(workspace, jobs[:1], REMOVED)
    whole = workspace.withdrawn.read_bytes()
    workspace.withdrawn.write_bytes(whole.replace(b"removed", b"remoeed"))
    for _ in range(2):
        reader = Reader(workspace, KINDS)
        assert jobs[0] in list(reader)
        assert reader.problems[0].startswith("jobs_withdrawn.csv line 2: it is not what was written")
        say(workspace, jobs[1:2], PAUSED)  # whoever adds a line mends no other one


@pytest.mark.parametrize(
    "end",
    [b"\n", b"", b"\x0b", b"9", b"\njob_00", b"\njob_000003,paused,x,0123456789abcde"],
    ids=["whole", "no line end", "another byte", "a digit", "torn", "torn in its seal"],
)
def test_a_last_line_counts_if_it_is_whole_also_after_the_next_one(workspace, jobs, end):
    say(workspace, jobs[:1], REMOVED)
    whole = workspace.withdrawn.read_bytes()
    workspace.withdrawn.write_bytes(whole.removesuffix(b"\n") + end)
    assert set(read_withdrawn(workspace).jobs) == {jobs[0].job_id}
    say(workspace, jobs[1:2], CANCELLED)
    now = read_withdrawn(workspace)
    assert set(now.jobs) == {job.job_id for job in jobs[:2]}
    assert not now.problems


def test_a_list_of_an_earlier_version_counts_and_is_sealed_when_it_grows(workspace, jobs):
    old = f"job_id,state,why\n{jobs[0].job_id},removed,data x, y\n{jobs[1].job_id},paused,z\njob_"
    workspace.withdrawn.write_text(old)
    before = read_withdrawn(workspace)
    assert before.jobs == {jobs[0].job_id: Withdrawal(REMOVED, "data x, y"), jobs[1].job_id: Withdrawal(PAUSED, "z")}
    say(workspace, jobs[1:2], LIVE)
    assert workspace.withdrawn.read_text().startswith(f"{HEADER}\n{jobs[0].job_id},removed,data x, y,")
    after = read_withdrawn(workspace)
    assert after.jobs == {jobs[0].job_id: before.jobs[jobs[0].job_id]}
    assert not after.problems
