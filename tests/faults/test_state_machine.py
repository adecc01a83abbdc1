from tests.faults import state_machine


def test_short_random_sequences_never_leave_the_model():
    report = state_machine.run(8, 1)
    assert report.faults
    assert report.violations == 0, report.row()
