"""Tests of the one call that `headstart verify --repair` makes."""

import os

import pytest

from headstart.pipeline.job import Job
from headstart.pipeline.repair import Repaired, Verified, repair
from headstart.pipeline.verify import Findings, verify
from tests.support import enqueue_fakes

from .workers import payloads, work


def test_one_call_does_torn_jobs_again_and_removes_leftovers(workspace):
    enqueue_fakes(workspace, 40)
    work(workspace)
    whole = payloads(workspace)
    torn, sound = sorted(workspace.root.glob("features/fake/shards/*/*"))[:2]
    torn.write_bytes(torn.read_bytes()[:-1])
    orphan = sound.with_name("job_000009.0123456789abcdef.txt")
    orphan.write_bytes(b"nobody's")
    os.utime(orphan, (0, 0))
    finished = []
    findings = verify(workspace, deep=True)
    repaired = repair(workspace, findings, deep=True, report=finished.append)
    assert (repaired.redone, repaired.removed, repaired.interrupted) == (1, len(findings.orphans), 0)
    assert [one.job.job_id for one in finished] == [torn.name.split(".")[0]]
    assert payloads(workspace) == whole
    after = verify(workspace, deep=True)
    assert (after.sound, after.torn, after.orphans) == (4, [], [])


def test_a_whole_workspace_is_left_as_it_is(workspace):
    enqueue_fakes(workspace, 20)
    work(workspace)
    assert repair(workspace, verify(workspace)) == (0, 0, 0)


@pytest.mark.parametrize(
    ("torn", "problems", "repaired", "status"),
    [
        pytest.param(0, [], Repaired(), 0, id="all is sound"),
        pytest.param(2, [], Repaired(), 1, id="torn, nothing mended"),
        pytest.param(2, [], Repaired(redone=1), 1, id="torn, half of it mended"),
        pytest.param(2, [], Repaired(redone=2), 0, id="torn, all mended"),
        pytest.param(0, ["a line"], Repaired(), 1, id="a problem of the queue"),
        pytest.param(2, [], Repaired(redone=1, interrupted=143), 143, id="ended by a signal"),
    ],
)
def test_the_exit_code_of_verify_says_whether_anything_is_still_wrong(torn, problems, repaired, status):
    jobs = [(Job(f"job_{number:06d}", "fake", "features/fake", "source", 0, 1), "gone") for number in range(torn)]
    assert Verified(Findings(torn=jobs, problems=problems), repaired).exit_code == status
