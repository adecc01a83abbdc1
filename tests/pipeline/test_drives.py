"""What drives are called, and of which of them a worker says what it cannot rely on."""

import json
from dataclasses import replace
from types import SimpleNamespace

import psutil
import pytest

from headstart.pipeline import drives
from headstart.pipeline.claims import LEASE_S
from headstart.pipeline.liveness import current_owner
from headstart.pipeline.workspace import open_or_create_workspace


def mount(monkeypatch, place, kind):
    parts = [SimpleNamespace(mountpoint="/", fstype="ext4"), SimpleNamespace(mountpoint=str(place), fstype=kind)]
    monkeypatch.setattr(psutil, "disk_partitions", lambda all: parts)


def test_the_nearest_mount_counts_also_behind_a_link_and_for_a_folder_that_is_not_there(tmp_path, monkeypatch):
    mount(monkeypatch, tmp_path / "drive", "exfat")
    (tmp_path / "drive").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "drive")
    assert drives.kind_of_drive(tmp_path / "drive/a/b") == "exfat"
    assert drives.kind_of_drive(tmp_path / "link/a") == "exfat"
    assert drives.kind_of_drive(tmp_path / "drives") == "ext4"


@pytest.mark.parametrize("kind", ["fuse.rclone", "fuse.gcsfuse", "fuse.drive", "fuse.sshfs", "fuse", "macfuse"])
def test_what_fuse_brings_from_afar_is_seen_late(tmp_path, kind):
    assert drives.seen_late(tmp_path / "w", kind) == kind


@pytest.mark.parametrize(
    "kind", ["ext4", "fuseblk", "fuse.ntfs-3g", "fuse.mergerfs", "fuse.ceph", "exfat", "NTFS", "nfs4", "apfs"]
)
def test_disks_and_drives_whose_machines_are_in_step_are_not(tmp_path, kind):
    assert drives.seen_late(tmp_path / "w", kind) == ""


@pytest.mark.parametrize(
    ("path", "part"),
    [
        ("OneDrive/w", "OneDrive"),
        ("OneDrive - Some Company/data/w", "OneDrive - Some Company"),
        ("Dropbox (Personal)/w", "Dropbox (Personal)"),
        ("Library/CloudStorage/GoogleDrive-a@b.c/My Drive/w", "My Drive"),
        ("drive/MyDrive/w", "MyDrive"),
        ("dropboxes/w", ""),
        ("notes on OneDrive/w", ""),
    ],
)
def test_folders_that_are_copied_between_machines_are_seen_late_whatever_they_lie_on(tmp_path, path, part):
    assert drives.seen_late(tmp_path / path, "NTFS") == (f"{part!r}, a folder that is copied between machines" if part else "")


def test_a_worker_is_told_who_else_works_on_a_drive_that_shows_changes_late(tmp_path, monkeypatch):
    workspace = open_or_create_workspace(tmp_path / "w")
    mount(monkeypatch, tmp_path, "ext4")
    assert drives.caution(workspace) == ""
    mount(monkeypatch, tmp_path, "fuse.rclone")
    assert "lies on fuse.rclone: other machines see changes late. Let one machine at a time" in drives.caution(workspace)
    workspace.make_folder(workspace.workers)
    for owner in (
        replace(current_owner(LEASE_S), worker="mine", host="here"),
        replace(current_owner(LEASE_S), worker="theirs", host="desk\n", machine="elsewhere"),
    ):
        (workspace.workers / f"{owner.worker}.json").write_text(json.dumps(owner.as_json()))
    assert "At work here now: desk\\n. Let one machine" in drives.caution(workspace)
