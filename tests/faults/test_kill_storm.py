from tests.faults import kill_storm


def test_a_short_storm_of_kills_loses_repeats_and_leaves_nothing():
    report = kill_storm.run(60, seed=1)
    assert report.faults >= 60
    assert report.violations == 0, report.row()
