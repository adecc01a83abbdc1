import json

import pytest

from headstart.pipeline.status import read_status
from headstart.pipeline.worker import run_job
from tests.support import enqueue_fakes


@pytest.fixture
def done(workspace):
    jobs = enqueue_fakes(workspace, 20)
    for job, rss, vram, reserved in zip(jobs, (300e6, 200e6), (None, 2e9), (3e9, 1e9), strict=True):
        run_job(workspace, job.job_id)
        marker = json.loads(workspace.marker(job).read_bytes())
        del marker["seal"]
        marker["facts"] |= {"peak_rss_bytes": int(rss), "vram_process_bytes": vram, "peak_vram_reserved_bytes": int(reserved)}
        workspace.marker(job).write_text(json.dumps(marker))
    return workspace


def tally(workspace):
    return next(iter(read_status(workspace).folders.values()))


def test_status_knows_the_largest_peaks_that_workers_noted(done):
    # What the driver says of the process counts; where it says nothing, what the allocator held.
    assert (tally(done).peak_rss_bytes, tally(done).peak_vram_bytes) == (300_000_000, 3_000_000_000)


def test_peaks_of_several_groups_are_not_added(done):
    first = tally(done)
    first.add(tally(done))
    assert (first.jobs, first.peak_rss_bytes, first.peak_vram_bytes) == (4, 300_000_000, 3_000_000_000)
