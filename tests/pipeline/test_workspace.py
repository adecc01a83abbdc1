import errno
import json
import os
import subprocess
import sys

import pytest

from headstart import cli
from headstart.commands.output import progress  # noqa: F401 - see below: imported while this user may read it
from headstart.pipeline import workspace as workspaces
from headstart.pipeline.errors import HeadstartError, TryLaterError
from headstart.pipeline.files import FileSystem
from headstart.pipeline.worker import run_job
from headstart.pipeline.workspace import find_root, open_or_create_workspace, open_workspace
from tests.support import ROOT, enqueue_fakes, run_python

from .disks import small_disk
from .workers import MAIN, tally, work


def test_a_workspace_is_the_same_when_opened_again(tmp_path):
    made = open_or_create_workspace(tmp_path / "w")
    assert open_or_create_workspace(tmp_path / "w") == made == open_workspace(tmp_path / "w")


def test_the_way_to_a_new_workspace_is_durable_before_anything_is_in_it(tmp_path, monkeypatch):
    synced = []
    sync, publish = FileSystem.sync_folder, FileSystem.publish
    monkeypatch.setattr(FileSystem, "sync_folder", lambda files, folder: (synced.append(folder), sync(files, folder)))
    monkeypatch.setattr(FileSystem, "publish", lambda files, *rest: (synced.append("published"), publish(files, *rest))[1])
    open_or_create_workspace(tmp_path / "a" / "b" / "w")
    before = synced[: synced.index("published")]
    assert set(before) == {tmp_path, tmp_path / "a", tmp_path / "a" / "b"}


@pytest.mark.parametrize("inside", ["", "a", "a/b/c"])
def test_the_nearest_parent_that_has_one_is_found(tmp_path, monkeypatch, inside):
    made = open_or_create_workspace(tmp_path / "workspace")
    (tmp_path / inside).mkdir(parents=True, exist_ok=True)
    monkeypatch.chdir(tmp_path / inside)
    assert find_root(None) == made.root
    monkeypatch.chdir(made.root)
    assert find_root(None) == made.root


def test_a_given_folder_comes_before_the_environment_and_that_before_a_parent(tmp_path, monkeypatch):
    open_or_create_workspace(tmp_path / "workspace")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HEADSTART_WORKSPACE", str(tmp_path / "other"))
    assert find_root(None) == tmp_path / "other"
    assert find_root(str(tmp_path / "given")) == tmp_path / "given"


@pytest.mark.parametrize(
    ("ceiling", "is_seen"),
    [
        pytest.param("", True, id="none"),
        pytest.param(".", True, id="where it lies"),
        pytest.param("a", False, id="below it"),
        pytest.param("a/b", False, id="where the search begins"),
        pytest.param("link", False, id="a link below it"),
        pytest.param("elsewhere", True, id="beside the way up"),
    ],
)
def test_no_parent_of_the_ceiling_is_searched(tmp_path, monkeypatch, ceiling, is_seen):
    made = open_or_create_workspace(tmp_path / "workspace")
    (tmp_path / "a" / "b").mkdir(parents=True)
    (tmp_path / "link").symlink_to(tmp_path / "a")
    monkeypatch.chdir(tmp_path / "a" / "b")
    monkeypatch.setenv("HEADSTART_CEILING", ceiling and str(tmp_path / ceiling))
    assert find_root(None) == (made.root if is_seen else tmp_path / "a" / "b" / "workspace")


def test_the_tests_find_no_workspace_above_their_temporary_folder(tmp_path):
    open_or_create_workspace(tmp_path / "workspace")
    looking = (
        "test_cli.py::test_a_mistake_is_one_line_and_an_exit_code",  # in processes of their own
        "features/planning/test_plan.py::test_a_plan_makes_no_workspace_that_nobody_named",  # in this one
    )
    command = [sys.executable, "-m", "pytest", "-q", f"--basetemp={tmp_path / 'above' / 'tests'}", "-p", "no:cacheprovider"]
    (tmp_path / "above").mkdir()
    without = {name: value for name, value in os.environ.items() if name != "HEADSTART_CEILING"}
    done = subprocess.run(
        [*command, *(f"tests/{test}" for test in looking)], cwd=ROOT, env=without, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout


@pytest.mark.skipif(os.name == "nt" or os.geteuid() != 0, reason="needs root, to become somebody with fewer rights")
def test_a_workspace_that_this_user_may_not_enter_is_none_of_theirs(tmp_path, monkeypatch):
    open_or_create_workspace(tmp_path / "workspace").root.chmod(0o700)
    (tmp_path / "a").mkdir()
    for folder in (tmp_path, *list(tmp_path.parents)[:2]):
        folder.chmod(0o755)
    monkeypatch.chdir(tmp_path / "a")
    os.seteuid(65534)
    try:
        assert find_root(None) == tmp_path / "a" / "workspace"
    finally:
        os.seteuid(0)


def test_no_workspace_says_how_to_make_one(tmp_path):
    with pytest.raises(HeadstartError, match="headstart enqueue DATA"):
        open_workspace(tmp_path / "nothing")


def test_a_file_is_no_workspace(tmp_path):
    (tmp_path / "notes.txt").touch()
    with pytest.raises(HeadstartError, match=r"notes\.txt is no folder"):
        open_workspace(tmp_path / "notes.txt")


def test_a_source_checkout_is_refused():
    with pytest.raises(HeadstartError, match="source checkout"):
        open_or_create_workspace(ROOT)
    assert not (ROOT / "workspace.json").exists()


def test_a_file_in_the_way_is_named(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(HeadstartError, match="cannot make a workspace"):
        open_or_create_workspace(tmp_path / "file")


@pytest.mark.skipif(os.name == "nt" or os.geteuid() != 0, reason="needs root, to become somebody with fewer rights")
def test_a_folder_that_is_not_writable_is_named(tmp_path):
    tmp_path.chmod(0o755)
    for parent in list(tmp_path.parents)[:2]:
        parent.chmod(0o755)
    os.seteuid(65534)
    try:
        with pytest.raises(HeadstartError, match=r"Choose a writable folder with -w DIR|Give this user access"):
            open_or_create_workspace(tmp_path / "w")
    finally:
        os.seteuid(0)


def test_a_newer_workspace_is_refused(workspace):
    path = workspace.root / workspaces.WORKSPACE_FILE
    path.write_text(json.dumps({**json.loads(path.read_text()), "format": 2}))
    with pytest.raises(HeadstartError, match="format 2, this version reads up to 1"):
        open_workspace(workspace.root)


@pytest.mark.parametrize(
    "text",
    ["", "{", "[]", '{"format": 1}', '{"format": "x", "id": "1"}', '{"format": 1, "file_system": {}, "id": 7}', "[" * 100_000],
    ids=["empty", "cut off", "a list", "no id", "no format", "no file system", "nested"],
)
def test_a_damaged_workspace_file_is_named_and_mended_by_deleting_it(workspace, text):
    path = workspace.root / workspaces.WORKSPACE_FILE
    path.write_text(text)
    with pytest.raises(HeadstartError, match="is damaged"):
        open_workspace(workspace.root)
    path.unlink()
    assert open_or_create_workspace(workspace.root)


def test_a_workspace_that_cannot_be_read_now_is_never_taken_for_an_empty_one(workspace, monkeypatch):
    def broken(*arguments):
        raise OSError(errno.ENOTCONN, "Transport endpoint is not connected")

    monkeypatch.setattr("headstart.pipeline.doors.reading.read", broken)
    with pytest.raises(TryLaterError):
        open_workspace(workspace.root)


@pytest.mark.parametrize(
    ("error", "status"),
    [(PermissionError(errno.EACCES, "x"), HeadstartError), (OSError(errno.ENOSPC, "x"), TryLaterError)],
    ids=["EACCES", "ENOSPC"],
)
def test_a_disk_that_refuses_the_first_file_is_one_line(tmp_path, monkeypatch, error, status):
    def refuse(*arguments, **options):
        raise error

    monkeypatch.setattr(workspaces, "probe", refuse)
    with pytest.raises(status):
        open_or_create_workspace(tmp_path / "w")


@pytest.mark.parametrize("call", ["link", "fsync"])
@pytest.mark.parametrize(("number", "is_said"), [(errno.EPERM, False), (errno.ENOSPC, True), (errno.EIO, True)], ids=str)
def test_what_a_file_system_cannot_do_is_told_from_what_a_full_disk_cannot(tmp_path, monkeypatch, call, number, is_said):
    def refuse(*arguments, **options):
        raise OSError(number, os.strerror(number))

    with monkeypatch.context() as patched:
        patched.setattr(os, call, refuse)
        if is_said:
            with pytest.raises(TryLaterError):
                open_or_create_workspace(tmp_path)
            assert not list(tmp_path.iterdir())
            return
        files = workspaces.probe(tmp_path)
    assert (files.hard_links, files.fsync) == (call != "link", call != "fsync")


def test_a_folder_of_code_is_refused():
    with pytest.raises(HeadstartError, match="holds Python code"):
        open_or_create_workspace(ROOT / "pipeline" / "data")
    assert not (ROOT / "pipeline" / "data").exists()


def test_a_full_disk_leaves_nothing_of_the_first_look_at_it(tmp_path, monkeypatch):
    def full(path):
        path.touch()
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("headstart.pipeline.paths.create", full)
    with pytest.raises(TryLaterError):
        open_or_create_workspace(tmp_path / "w")
    assert not list((tmp_path / "w").iterdir())


@pytest.mark.skipif(os.name == "nt" or os.geteuid() != 0, reason="needs root, to become somebody with fewer rights")
@pytest.mark.parametrize("locked", ["", "features/jobs_queue.csv", "features/fake/done/0000"])
@pytest.mark.parametrize("command", ["status", "work"])
def test_what_this_user_may_not_read_is_one_line_and_1(workspace, locked, command, tmp_path, monkeypatch, capsys):
    enqueue_fakes(workspace, 10)
    run_job(workspace, "job_000000")
    for folder in (tmp_path, *list(tmp_path.parents)[:2]):
        folder.chmod(0o755)
    for path in [workspace.root, *workspace.root.rglob("*")]:
        os.chown(path, 65534, 65534)
    os.chown(workspace.root / locked, 0, 0)
    (workspace.root / locked).chmod(0o700)
    monkeypatch.setattr(sys, "argv", ["headstart", command, "-w", str(workspace.root)])
    for name in cli.COMMANDS:  # as root: the interpreter's own files may lie where nobody else reads
        cli.group.get_command(None, name)
    os.seteuid(65534)
    try:
        status = cli._run()
    finally:
        os.seteuid(0)
    errors = capsys.readouterr().err
    # What else there is to show, `status` shows.
    assert status == (0 if (command, locked) == ("status", "features/fake/done/0000") else 1), errors
    assert "Permission denied" in errors
    assert "bug" not in errors


@pytest.fixture
def tiny_disk(tmp_path):
    with small_disk(tmp_path / "disk", "1m") as place:
        yield place


def test_a_disk_that_fills_ends_the_worker_with_75_tears_nothing_and_the_next_run_completes(tiny_disk):
    workspace = open_or_create_workspace(tiny_disk / "w")
    enqueue_fakes(workspace, 500)
    filler = tiny_disk / "filler"
    room = os.statvfs(tiny_disk)
    filler.write_bytes(bytes(room.f_bavail * room.f_frsize))
    status, _, errors = run_python(MAIN, "work", "-w", str(workspace.root))
    assert status == 75, errors
    assert "No space left on device" in errors
    assert not list(workspace.root.rglob(".tmp-*"))
    assert tally(workspace).quarantined == 0
    filler.unlink()
    assert work(workspace)[0].is_drained
    assert tally(workspace).done == 50


@pytest.mark.skipif(os.name == "nt", reason="no umask there")
@pytest.mark.parametrize(("mode", "umask", "expected"), [(0o2770, 0o077, 0o660), (0o755, 0o077, 0o600), (0o775, 0o022, 0o664)])
def test_what_is_made_in_a_shared_workspace_follows_its_mode(tmp_path, mode, umask, expected):
    before = os.umask(umask)
    try:
        workspace = open_or_create_workspace(tmp_path / "w")
        workspace.root.chmod(mode)
        os.umask(umask)
        workspace = open_or_create_workspace(tmp_path / "w")
        workspace.files.replace(workspace.root / "x", b"x")
        assert (workspace.root / "x").stat().st_mode & 0o777 == expected
    finally:
        os.umask(before)
