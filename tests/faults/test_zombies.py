from tests.faults import zombies


def test_processes_that_wake_after_their_work_was_redone_change_nothing():
    report = zombies.run(18, seed=1)
    assert report.faults == 18
    assert report.violations == 0, report.row()
