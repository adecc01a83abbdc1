import os
import time

import pytest

from headstart.pipeline.verify import verify
from headstart.pipeline.worker import run_job
from tests.conftest import enqueue_fakes


def lose_last_row(workspace):
    workspace.queue.write_text("".join(workspace.queue.read_text().splitlines(keepends=True)[:-1]))


def age(folder):
    for path in folder.rglob("*"):
        os.utime(path, (time.time() - 3600,) * 2)


@pytest.mark.parametrize("keeps_marker", [False, True], ids=["no marker", "marker"])
def test_what_a_job_left_whose_row_was_lost_is_an_orphan_unless_its_marker_can_bring_it_back(workspace, keeps_marker):
    jobs = enqueue_fakes(workspace, 20)
    for job in jobs:
        run_job(workspace, job.job_id)
    claim = workspace.claims(jobs[1]) / f"{jobs[1].job_id}.g1"
    claim.parent.mkdir(parents=True)
    claim.write_text("{}")
    [payload] = workspace.payloads(jobs[1]).glob(f"{jobs[1].job_id}.*")
    if not keeps_marker:
        workspace.marker(jobs[1]).unlink()
    lose_last_row(workspace)
    age(workspace.root)
    assert verify(workspace).orphans == ([] if keeps_marker else [claim, payload])
