from headstart.pipeline.kinds import load_kind

from .crowds import run
from .kinds import tiny


def test_workers_that_start_at_once_do_no_job_twice():
    report = run(2, seed=1)
    assert report.faults >= 8
    assert report.violations == 0, report.notes


def test_the_engine_runs_the_very_kind_that_campaigns_listen_to():
    assert load_kind("tiny") is tiny
