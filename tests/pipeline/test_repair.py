"""Tests of the one call that `headstart verify --repair` makes."""

import os

from headstart.pipeline.repair import repair
from headstart.pipeline.verify import verify
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
