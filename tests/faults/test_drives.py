import pytest

from tests.drives.mounting import CLOUD, CannotMountError

from . import drives


@pytest.fixture(scope="module")
def reference(tmp_path_factory):
    return drives.reference_of(drives.make_photos(tmp_path_factory.mktemp("images") / "photos", 40))


@pytest.mark.parametrize("kind", ["NTFS", "exFAT", CLOUD])
def test_a_short_storm_of_kills_on_a_drive_leaves_the_bytes_of_another_file_system(reference, kind):
    try:
        report = drives.run_on(kind, reference, kills=4, seed=1)
    except CannotMountError as why:
        pytest.skip(str(why))
    assert report.faults > 0
    assert report.violations == 0, report.row()
