import pytest

from headstart.pipeline import retry
from headstart.pipeline.markers import NotDone, read_marker
from headstart.pipeline.worker import run_job
from tests.support import enqueue_fakes


@pytest.fixture
def torn(workspace):
    """A job whose marker is torn."""
    [job] = enqueue_fakes(workspace, 10)
    run_job(workspace, job.job_id)
    workspace.marker(job).write_bytes(b"{")
    return job


def test_reopening_retires_a_torn_marker_and_keeps_it(workspace, torn):
    retry.reopen(workspace, torn)
    assert not workspace.marker(torn).exists()
    assert [path.read_bytes() for path in workspace.marker(torn).parent.glob("*.retired*")] == [b"{"]


def test_reopening_leaves_a_job_alone_that_others_mended_after_the_look(workspace, torn, monkeypatch):
    def look(*arguments, **options):
        try:
            return read_marker(*arguments, **options)
        except NotDone:
            run_job(workspace, torn.job_id)  # somebody else is faster
            raise

    monkeypatch.setattr(retry, "read_marker", look)
    retry.reopen(workspace, torn)
    assert read_marker(workspace, torn, "fingerprint of features/fake", deep=True)
    assert not list(workspace.marker(torn).parent.glob("*.retired*"))
