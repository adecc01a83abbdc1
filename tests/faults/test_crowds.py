from .crowds import run


def test_workers_that_start_at_once_do_no_job_twice():
    report = run(2, seed=1)
    assert report.faults >= 8
    assert report.violations == 0, report.notes
