"""From photos to a report on drives of other file systems: photos and workspace both lie there."""

import shutil

import pytest

from tests.drives.mounting import CLOUD, CannotMountError, mounted

from .calling import call


@pytest.mark.parametrize("kind", ["NTFS", "exFAT", CLOUD])
def test_features_heads_a_recipe_and_a_report_are_made_on_a_drive(tmp_path, pictures, kind):
    try:
        with mounted(kind, tmp_path / "drive", spell_every_s=0) as drive:
            data, workspace = drive.folder / "pictures", drive.folder / "w"
            shutil.copytree(pictures, data)
            for command in (
                ("enqueue", data, "--weights", "embedded", "--job-size", 10),
                ("work",),
                ("train-head", "--epochs", 2, "--name", "on-a-drive"),
                ("train", "tiny", "--epochs", 1),
                ("report",),
                ("verify", "--deep"),
            ):
                done = call(*command, "-w", workspace)
                assert done.status == 0, (command, done.errors)
            assert "11 jobs sound" in done.output
            assert "0 leftover files" in done.output
            doctor = call("doctor", "-w", workspace).output
            assert f"{workspace} on {'fuse.cloud_drive' if kind == CLOUD else 'fuseblk'}: " in doctor
            assert ("hard links, durable writes" in doctor) is (kind == "NTFS")
            assert ("other machines see changes late" in doctor) is (kind == CLOUD)
    except CannotMountError as why:
        pytest.skip(str(why))
