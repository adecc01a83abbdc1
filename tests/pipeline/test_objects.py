"""Payloads in an object store: put once, compared when they come back, missed by nobody while they are there."""

import json

import click
import fsspec
import pytest
from click.testing import CliRunner

from headstart.cli import group
from headstart.pipeline import objects
from headstart.pipeline.doors.records import seal
from headstart.pipeline.errors import HeadstartError, TryLaterError
from headstart.pipeline.kinds import Settings, known_kinds
from headstart.pipeline.markers import Result, commit, read_marker
from headstart.pipeline.objects import Objects, fetch_payloads, open_objects
from headstart.pipeline.queue import Reader
from headstart.pipeline.repair import verify_all
from headstart.pipeline.status import read_status
from headstart.pipeline.sync import synchronize_folder
from headstart.pipeline.verify import verify
from headstart.pipeline.worker import Limits, Worker
from headstart.pipeline.workspace import open_workspace
from tests.faults.fakes import enqueue, new_workspace
from tests.faults.kinds import tiny

URL = "s3://bucket/some/where"


@pytest.fixture
def store(monkeypatch):
    """An object store in memory, which opens under every URL."""
    files = fsspec.filesystem("memory")
    files.store.clear()
    found = Objects(URL, files)
    monkeypatch.setattr(objects, "open_objects", lambda url: found)
    monkeypatch.setattr(tiny, "PAYLOADS_IN_OBJECTS", True, raising=False)
    yield found
    files.store.clear()


@pytest.fixture
def workspace(tmp_path, store):
    workspace = new_workspace(tmp_path / "workspace")
    enqueue(workspace, 20)  # four jobs
    return workspace


def work(workspace, store=None):
    return Worker(workspace, Settings(), Limits(), lambda finished: None, store).run()


def stored(store):
    return {path: file.getvalue() for path, file in store._files.store.items()}


def here(workspace):
    return {path.name: path.read_bytes() for path in workspace.root.glob("features/*/shards/*/*")}


def test_jobs_are_done_when_their_payload_is_in_the_store_alone(workspace, store):
    assert work(workspace, store).jobs == 4
    assert here(workspace) == {}
    assert sorted(stored(store).values()) == sorted(tiny.squares(start, start + 5) for start in range(0, 20, 5))
    assert verify(workspace, deep=True, objects=store).sound == 4
    assert work(workspace).jobs == 0  # nor does a worker that knows of no store do them again
    [tally] = read_status(workspace).folders.values()
    assert (tally.done, tally.payload_bytes) == (4, sum(map(len, stored(store).values())))


def test_what_is_fetched_has_the_bytes_that_a_worker_without_a_store_writes(workspace, store, tmp_path):
    work(workspace, store)
    fetched = fetch_payloads(workspace, store)
    assert (fetched.files, fetched.there, fetched.flaws) == (4, 0, ())
    other = new_workspace(tmp_path / "other")
    enqueue(other, 20)
    work(other)
    assert here(workspace) == here(other)
    again = fetch_payloads(workspace, store)
    assert (again.files, again.there) == (0, 4)
    assert verify(workspace, deep=True).orphans == []


def test_a_fetch_goes_on_where_it_was_ended(workspace, store):
    work(workspace, store)

    def stop(done, of):
        if done == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fetch_payloads(workspace, store, stop)
    assert fetch_payloads(workspace, store).flaws == ()
    assert len(here(workspace)) == 4


def test_the_same_payload_put_again_is_one_object_and_a_damaged_one_is_mended(workspace, store):
    work(workspace, store)
    before = stored(store)
    path = min(before)
    store.put(path.removeprefix("/bucket/some/where/"), before[path])
    assert stored(store) == before
    store._files.store[path].truncate(3)
    store.put(path.removeprefix("/bucket/some/where/"), before[path])
    assert stored(store) == before


@pytest.mark.parametrize(
    ("harm", "deep", "words"),
    [
        (lambda files, path: files.store.pop(path), False, "is missing in s3://bucket/some/where"),
        (lambda files, path: files.pipe_file(path, b"short"), False, "has 5 bytes in s3://bucket/some/where, expected"),
        (lambda files, path: files.pipe_file(path, b"\0" + files.cat_file(path)[1:]), True, "other bytes in s3://bucket"),
    ],
    ids=["gone", "other size", "other bytes"],
)
def test_a_lost_or_damaged_object_is_named_and_done_again(workspace, store, harm, deep, words):
    work(workspace, store)
    before = stored(store)
    harm(store._files, min(before))
    fetched = fetch_payloads(workspace, store)
    assert fetched.exit_code == 1
    assert [words in flaw for flaw in fetched.flaws] == [True]
    assert len(here(workspace)) == 3
    [(job, why)] = verify(workspace, deep, store).torn
    assert words in why
    assert (job.start, job.stop) == (0, 5)
    verified = verify_all(workspace, deep, repairs=True, objects=URL)
    assert (verified.repaired.redone, verified.exit_code) == (1, 0)
    assert stored(store) == before


def test_without_the_store_nobody_asks_for_what_lies_there(workspace, store):
    work(workspace, store)
    store._files.store.clear()
    assert verify(workspace, deep=True).sound == 4


def test_a_copy_in_the_workspace_is_compared_like_any_payload(workspace, store):
    work(workspace, store)
    fetch_payloads(workspace, store)
    [path, *_] = workspace.root.glob("features/*/shards/*/*")
    path.write_bytes(b"0" * path.stat().st_size)
    assert len(verify(workspace, deep=True, objects=store).torn) == 1


def test_a_reader_says_how_to_bring_it_here(workspace, store):
    work(workspace, store)
    [job, *_] = verify(workspace).sound_jobs
    marker = read_marker(workspace, job, tiny.FINGERPRINT)
    with pytest.raises(HeadstartError, match=r"lies in an object store\. .*headstart fetch --objects URL"):
        marker.payload_here()
    fetch_payloads(workspace, store)
    assert marker.payload_here().is_file()


def test_only_kinds_that_say_so_put_anything_there(workspace, store, monkeypatch):
    monkeypatch.delattr(tiny, "PAYLOADS_IN_OBJECTS")
    work(workspace, store)
    assert (len(here(workspace)), stored(store)) == (4, {})


@pytest.mark.parametrize("name", ["", None, 1, "elsewhere", ["objects"]], ids=str)
def test_a_marker_that_names_another_place_has_its_payload_in_the_workspace(workspace, store, name):
    work(workspace, store)
    path = min(workspace.root.glob("features/*/done/*/*.done"))
    facts = json.loads(path.read_bytes())
    facts["payload"]["in"] = name
    del facts["seal"]
    path.write_bytes(seal(facts))
    [(_, why)] = verify(workspace).torn
    assert "is missing" in why


@pytest.mark.parametrize(
    "url",
    ["", "bucket/prefix", "http://host/bucket", "file:///etc", "s3://", "s3:///x", "s3://b/../c", "s3://bucket//x", "s3://b\nucket/x",
     "simplecache::s3://bucket/x", "s3://bucket/x?versionId=3", "s3://user:word@bucket/x"],
    ids=repr,
)  # fmt: skip
def test_what_names_no_store_is_refused(url):
    with pytest.raises(HeadstartError, match="names no object store"):
        open_objects(url)


def test_a_missing_package_is_named_with_its_extra(monkeypatch):
    def missing(protocol, **options):
        raise ImportError("Install s3fs")

    monkeypatch.setattr(fsspec, "filesystem", missing)
    with pytest.raises(HeadstartError, match=r"s3:// needs s3fs\. Install it: pip install 'headstart\[s3\]'"):
        open_objects(URL)


@pytest.mark.parametrize(
    ("raised", "kind", "words"),
    [
        (
            FileNotFoundError("The specified bucket does not exist"),
            HeadstartError,
            "does not exist. Make the bucket",
        ),
        (PermissionError("Access Denied"), HeadstartError, "Access Denied. Give these credentials access"),
        (type("NoCredentialsError", (Exception,), {})("Unable to locate credentials"), HeadstartError, "locate credentials"),
        (OSError("[Errno 5] slow down"), TryLaterError, "slow down. Then run the same command again"),
        (TimeoutError("no answer"), TryLaterError, "no answer. Then run the same command again"),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, Exception) else "",
)
def test_a_store_that_refuses_or_is_silent_costs_a_line_and_no_job(workspace, store, monkeypatch, raised, kind, words):
    def fail(path, data, mode="overwrite"):
        raise raised

    monkeypatch.setattr(store._files, "pipe_file", fail)
    with pytest.raises(kind, match="cannot put features/tiny/shards") as said:
        work(workspace, store)
    assert words in str(said.value)
    assert "\n" not in str(said.value)
    monkeypatch.undo()
    monkeypatch.setattr(tiny, "PAYLOADS_IN_OBJECTS", True, raising=False)
    assert work(workspace, store).jobs == 4


def test_a_copy_of_the_workspace_has_the_markers_and_needs_no_payload(workspace, store, tmp_path):
    work(workspace, store)
    synchronize_folder(workspace.root, tmp_path / "drive")
    synchronize_folder(tmp_path / "back", tmp_path / "drive")
    back = open_workspace(tmp_path / "back")
    assert verify(back, deep=True, objects=store).sound == 4
    assert fetch_payloads(back, store).files == 4


def test_commands_fetch_and_verify_say_what_they_did(workspace, store):
    def said(status, *words, **environment):
        answer = CliRunner().invoke(group, [*words, "-w", str(workspace.root)], env=environment, standalone_mode=False)
        assert answer.return_value == status, answer.output
        return answer

    work(workspace, store)
    with pytest.raises(click.UsageError, match="--objects s3://BUCKET/PREFIX"):
        group.main(["fetch", "-w", str(workspace.root)], standalone_mode=False)
    assert "4 files" in said(0, "fetch", "--objects", URL).output
    assert json.loads(said(0, "fetch", "--json", HEADSTART_OBJECTS=URL).stdout) == {
        "files": 0, "size_bytes": 0, "there": 4, "flaws": []
    }  # fmt: skip
    store._files.store.clear()
    for path in workspace.root.glob("features/*/shards/*/*"):
        path.unlink()
    assert said(1, "fetch", "--objects", URL).output.count("is missing in s3://bucket/some/where") == 4
    assert "0 jobs sound" in said(1, "verify", "--objects", URL).output


def test_what_another_worker_committed_first_stays(workspace, store):
    job = next(iter(Reader(workspace, known_kinds())))
    first, second = (Result(payload, ".txt", {}, 5, 5) for payload in (b"first", b"second"))
    assert commit(workspace, job, tiny.FINGERPRINT, first, store) is True
    assert commit(workspace, job, tiny.FINGERPRINT, second, store) is False
    assert store.get(workspace.relative(read_marker(workspace, job, tiny.FINGERPRINT).payload), 100) == b"first"


def test_a_real_store_keeps_the_first_and_a_worker_killed_after_its_put_leaves_nothing_twice():
    pytest.importorskip("s3fs", reason="needs the extra s3")
    pytest.importorskip("moto.server", reason="needs moto[server]")
    from tests.faults import objects as campaign

    report = campaign.run(6, seed=3)
    assert (report.faults, report.violations) == (6, 0), report.row()


def test_a_worker_killed_between_put_and_marker_leaves_what_the_next_one_names(workspace, store):
    put, puts = store.put, []

    def put_and_stop(name, data):
        put(name, data)
        puts.append(name)
        raise TryLaterError("killed here")

    store.put = put_and_stop
    with pytest.raises(TryLaterError):
        work(workspace, store)
    store.put = put
    assert len(stored(store)) == 1
    assert list(workspace.root.glob("features/*/done/*/*.done")) == []
    work(workspace, store)
    assert len(stored(store)) == 4
    assert verify(workspace, deep=True, objects=store).sound == 4
