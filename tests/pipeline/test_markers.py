import contextlib
import errno
import json
import os
from pathlib import Path

import pytest

from headstart.pipeline import files
from headstart.pipeline.errors import HeadstartError, TryLaterError
from headstart.pipeline.files import FileSystem, is_abandoned
from headstart.pipeline.markers import FailedItem, NotDone, Result, commit, read_marker
from headstart.pipeline.worker import run_job
from headstart.pipeline.workspace import Workspace
from tests.support import enqueue_fakes, flipped, run_python

FINGERPRINT = "fingerprint of features/fake"


@pytest.fixture
def job(workspace):
    return enqueue_fakes(workspace, 10)[0]


def result(payload=b"payload", **more):
    return Result(payload, ".npz", {"x": {"dtype": "uint8", "shape": [7]}}, items=10, ok=9, **more)


def payload_of(workspace, job):
    [path] = workspace.payloads(job).glob("job_*")
    return path


def test_what_is_committed_is_read_back(workspace, job):
    failed = (FailedItem(3, "caf\udce9,\n=x.jpg", "truncated", "cut off"),)
    assert commit(workspace, job, FINGERPRINT, result(failed=failed, facts={"seconds": 1.5})) is True
    marker = read_marker(workspace, job, FINGERPRINT, deep=True)
    assert (marker.job, marker.items, marker.ok, marker.failed, marker.facts) == (job, 10, 9, failed, {"seconds": 1.5})
    assert marker.payload.read_bytes() == b"payload"
    assert marker.payload.name == f"job_000000.{marker.sha256[:16]}.npz"


def _flip(path):
    path.write_bytes(flipped(path.read_bytes(), 0))


def _rewrite(path, **changes):
    """As an editor would: without a seal, which would tell."""
    facts = {**json.loads(path.read_text()), **changes}
    facts.pop("seal", None)
    path.write_text(json.dumps(facts))


def _rename(marker, payload, name):
    payload.rename(payload.parent / name)
    _rewrite(marker, payload={**json.loads(marker.read_text())["payload"], "name": name})


FLAWS = {
    "absent": lambda marker, payload: marker.unlink(),
    "empty": lambda marker, payload: marker.write_bytes(b""),
    "truncated": lambda marker, payload: marker.write_bytes(marker.read_bytes()[:-40]),
    "not JSON": lambda marker, payload: marker.write_bytes(b"\x00\xff garbage"),
    "nested too deep": lambda marker, payload: marker.write_text("[" * 200_000),
    "JSON of another shape": lambda marker, payload: marker.write_text("[1, 2]"),
    "of another encoder": lambda marker, payload: _rewrite(marker, fingerprint="other"),
    "of another job": lambda marker, payload: _rewrite(marker, job={**json.loads(marker.read_text())["job"], "stop": 11}),
    "payload outside its folder": lambda marker, payload: _rename(marker, payload, f"../{payload.name}"),
    "payload of another job": lambda marker, payload: _rename(marker, payload, f"job_000001.{payload.name.partition('.')[2]}"),
    "payload missing": lambda marker, payload: payload.unlink(),
    "payload truncated": lambda marker, payload: payload.write_bytes(payload.read_bytes()[:-1]),
    "payload and marker of a terabyte of nothing": lambda marker, payload: (
        os.truncate(payload, 1 << 40),
        _rewrite(marker, payload={**json.loads(marker.read_text())["payload"], "bytes": 1 << 40}),
    ),
    "payload empty": lambda marker, payload: payload.write_bytes(b""),
    "marker is a folder": lambda marker, payload: (marker.unlink(), marker.mkdir()),
}


@pytest.mark.parametrize("flaw", FLAWS)
def test_a_flawed_marker_or_payload_is_not_done_and_is_redone(workspace, flaw):
    job = enqueue_fakes(workspace, 10)[0]
    good = run_job(workspace, job.job_id)
    FLAWS[flaw](workspace.marker(job), good.payload)
    with pytest.raises(NotDone):
        read_marker(workspace, job, FINGERPRINT)
    again = run_job(workspace, job.job_id)
    assert (again.payload, again.sha256) == (good.payload, good.sha256)
    assert read_marker(workspace, job, FINGERPRINT, deep=True)


def test_one_flipped_bit_is_found_by_a_deep_look_and_mended_by_a_commit(workspace, job):
    good = run_job(workspace, job.job_id)
    _flip(good.payload)
    assert read_marker(workspace, job, FINGERPRINT)
    with pytest.raises(NotDone, match="sha256 differs"):
        read_marker(workspace, job, FINGERPRINT, deep=True)
    workspace.marker(job).unlink()
    run_job(workspace, job.job_id)
    assert read_marker(workspace, job, FINGERPRINT, deep=True)


def test_a_marker_of_a_newer_version_is_neither_done_nor_redone(workspace, job):
    commit(workspace, job, FINGERPRINT, result())
    _rewrite(workspace.marker(job), format=2)
    with pytest.raises(HeadstartError, match="format 2, this version reads up to 1"):
        read_marker(workspace, job, FINGERPRINT)


def test_an_unknown_key_of_a_marker_is_passed_over(workspace, job):
    commit(workspace, job, FINGERPRINT, result())
    _rewrite(workspace.marker(job), novelty=1)
    assert read_marker(workspace, job, FINGERPRINT)


def test_what_was_committed_first_stays(workspace, job):
    commit(workspace, job, FINGERPRINT, result(b"first"))
    before = workspace.marker(job).read_bytes()
    assert commit(workspace, job, FINGERPRINT, result(b"second")) is False
    assert workspace.marker(job).read_bytes() == before
    assert read_marker(workspace, job, FINGERPRINT, deep=True).payload.read_bytes() == b"first"


STEPS = ["open", "write", "fsync", "link"]


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT, errno.EIO, errno.EROFS], ids=["ENOSPC", "EDQUOT", "EIO", "EROFS"])
@pytest.mark.parametrize("step", ["fsync", "link"])
@pytest.mark.parametrize("call", [0, 1])
def test_a_full_or_broken_disk_commits_nothing_and_leaves_no_temporary(workspace, job, monkeypatch, number, step, call):
    seen = []
    genuine = getattr(os, step)

    def failing(*arguments, **options):
        seen.append(arguments)
        if len(seen) > call:
            raise OSError(number, os.strerror(number))
        return genuine(*arguments, **options)

    for folder in (workspace.payloads(job), workspace.marker(job).parent):
        workspace.files.make_folder(folder)
    monkeypatch.setattr(files.os, step, failing)
    with pytest.raises(TryLaterError, match="Nothing is lost"):
        commit(workspace, job, FINGERPRINT, result())
    monkeypatch.undo()
    assert not list(workspace.root.rglob(".tmp-*"))
    with pytest.raises(NotDone):
        read_marker(workspace, job, FINGERPRINT)
    assert commit(workspace, job, FINGERPRINT, result()) is True


def test_without_hard_links_a_commit_is_the_same(workspace, job):
    poor = Workspace(workspace.root, workspace.id, FileSystem(hard_links=False, fsync=False))
    assert commit(poor, job, FINGERPRINT, result(b"first")) is True
    assert commit(poor, job, FINGERPRINT, result(b"second")) is False
    assert read_marker(poor, job, FINGERPRINT, deep=True).payload.read_bytes() == b"first"


def test_a_payload_is_durable_before_its_marker_appears(workspace, job, monkeypatch):
    steps = []
    for name in ("link", "fsync"):
        genuine = getattr(os, name)

        def spy(*arguments, name=name, genuine=genuine, **options):
            target = str(Path(f"/proc/self/fd/{arguments[0]}").readlink()) if name == "fsync" else str(arguments[1])
            steps.append((name, target.rsplit("/", 1)[-1].split(".")[-1] if name == "link" else target))
            return genuine(*arguments, **options)

        monkeypatch.setattr(files.os, name, spy)
    commit(workspace, job, FINGERPRINT, result())
    names = [name if name == "fsync" else f"link {target}" for name, target in steps]
    tail = names[names.index("link npz") - 1 :]
    # payload bytes, payload name, folder of the payload; marker bytes, marker name, folder of the marker
    assert tail == ["fsync", "link npz", "fsync", "fsync", "link done", "fsync"]
    assert steps[-1][1] == str(workspace.marker(job).parent)


def test_a_temporary_of_a_dead_process_is_told_from_one_under_way(tmp_path):
    code = (
        "from headstart.pipeline.files import _temporary_name; from pathlib import Path; print(_temporary_name(Path('/x')).name)"
    )
    status, name, errors = run_python(code)
    assert status == 0, errors
    assert is_abandoned(tmp_path / name.strip()) is True
    assert is_abandoned(files._temporary_name(tmp_path)) is False
    assert is_abandoned(tmp_path / ".tmp-0000000-1-2-3") is None


@pytest.mark.skipif(not hasattr(os, "fork"), reason="nothing forks there")
def test_a_fork_names_its_temporary_files_after_itself(tmp_path):
    files._temporary_name(tmp_path)
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        os.write(writer, files._temporary_name(tmp_path).name.encode())
        os._exit(0)
    os.close(writer)
    name = os.read(reader, 999).decode()
    os.close(reader)
    os.waitpid(child, 0)
    assert f"-{child}-" in name
    assert is_abandoned(tmp_path / name) is True


def test_no_flipped_bit_of_a_marker_changes_what_is_read(workspace, job):
    failed = (FailedItem(3, "cats/c.jpg", "truncated", "expected 9 bytes"),)
    commit(workspace, job, FINGERPRINT, Result(b"payload", ".npz", {}, 10, 9, failed, {"seconds": 1.5, "peak_rss_bytes": 300}))
    path = workspace.marker(job)
    sound, expected = path.read_bytes(), read_marker(workspace, job, FINGERPRINT)
    for bit in range(8 * len(sound)):
        path.write_bytes(flipped(sound, bit))
        with contextlib.suppress(NotDone, HeadstartError):
            assert read_marker(workspace, job, FINGERPRINT) == expected, f"byte {bit // 8} bit {bit % 8}"


def test_a_marker_of_a_version_that_sealed_none_counts(workspace, job):
    commit(workspace, job, FINGERPRINT, Result(b"payload", ".npz", {}, 10, 10))
    _rewrite(workspace.marker(job))
    assert b"seal" not in workspace.marker(job).read_bytes()
    assert read_marker(workspace, job, FINGERPRINT, deep=True)
