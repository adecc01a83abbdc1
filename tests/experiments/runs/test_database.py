import os
import sqlite3
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from headstart.experiments.runs.database import database
from headstart.experiments.runs.database.database import MetricRow, open_database
from headstart.pipeline.errors import HeadstartError, TryLaterError

ROOT = Path(__file__).resolve().parents[3]


@pytest.fixture
def path(tmp_path) -> Path:
    return tmp_path / "experiments" / "experiments.db"


def filled(path: Path, rows: int = 500) -> int:
    with open_database(path) as found:
        run = found.begin_run("exp_0001_first", "linear", "classification", {"epochs": 3})
        found.record(run, [MetricRow(step, "val", "accuracy", step / rows) for step in range(rows)])
    return run


def test_what_was_noted_is_read_back(path):
    run = filled(path, 3)
    with open_database(path) as found:
        assert found.run(run).config == {"epochs": 3}
        assert found.metrics(run) == [MetricRow(step, "val", "accuracy", step / 3) for step in range(3)]


def test_the_last_step_of_each_run_is_read_alone(path):
    first = filled(path, 3)
    with open_database(path) as found:
        second = found.begin_run("exp_0001_first", "mlp", "classification", {})
        found.record(second, [MetricRow(step, split, "loss", step) for step in (2, 7) for split in ("val", "test")])
        found.begin_run("exp_0001_first", "never measured", "classification", {})
        assert found.final_metrics() == {
            first: [MetricRow(2, "val", "accuracy", 2 / 3)],
            second: [MetricRow(7, "test", "loss", 7.0), MetricRow(7, "val", "loss", 7.0)],
        }


def test_writing_the_same_again_changes_nothing_and_another_value_replaces(path):
    run = filled(path, 3)
    assert filled(path, 3) == run
    with open_database(path) as found:
        found.record(run, [MetricRow(1, "val", "accuracy", 0.5)])
        assert [metric.value for metric in found.metrics(run)] == [0.0, 0.5, 2 / 3]
        assert len(found.runs()) == 1


def test_a_run_begun_again_has_the_new_configuration(path):
    run = filled(path, 1)
    with open_database(path) as found:
        assert found.begin_run("exp_0001_first", "linear", "classification", {"epochs": 4}) == run
        assert found.run(run).config == {"epochs": 4}


def test_a_batch_is_noted_whole_or_not_at_all(path):
    run = filled(path, 3)
    with open_database(path) as found:
        with pytest.raises(sqlite3.IntegrityError):
            found.record(run, [MetricRow(9, "val", "accuracy", 1.0), MetricRow(None, "val", "accuracy", 1.0)])
        assert len(found.metrics(run)) == 3


def test_a_number_that_does_not_exist_is_null(path):
    run = filled(path, 1)
    with open_database(path) as found:
        found.record(run, [MetricRow(0, "val", "pearson", float("nan")), MetricRow(0, "val", "r2", None)])
        assert [metric.value for metric in found.metrics(run)] == [0.0, None, None]


def test_many_processes_lose_nothing_and_write_nothing_twice(path):
    code = """
import sys
from pathlib import Path
from headstart.experiments.runs.database.database import MetricRow, open_database
with open_database(Path(sys.argv[1])) as found:
    run = found.begin_run("exp", "shared", "classification", {})
    mine = found.begin_run("exp", sys.argv[2], "classification", {})
    for start in range(0, 1000, 50):
        rows = range(start, start + 50)
        found.record(run, [MetricRow(row, "val", "writer " + sys.argv[2], row) for row in rows])
        found.record(mine, [MetricRow(row, "val", "accuracy", row) for row in rows])
"""
    processes = [
        subprocess.Popen([sys.executable, "-c", code, str(path), str(number)], cwd=ROOT, stderr=subprocess.PIPE, text=True)
        for number in range(8)
    ]
    assert [process.communicate(timeout=120)[1] for process in processes] == [""] * 8
    with open_database(path) as found:
        runs = {run.head: run.run for run in found.runs()}
        assert sorted(runs) == [*"01234567", "shared"]
        assert len(found.metrics(runs["shared"])) == 8000
        assert all(len(found.metrics(runs[str(number)])) == 1000 for number in range(8))


def test_a_database_that_another_process_is_just_publishing_is_taken_as_it_is(path, tmp_path):
    with open_database(path) as begun:
        begun.begin_run("exp", "first", "classification", {})
    temporary = tmp_path / ".being-published"
    os.link(path, temporary)
    threading.Timer(0.1, temporary.unlink).start()
    with open_database(path) as found:
        assert [run.head for run in found.runs()] == ["first"]
    assert not path.with_name(f"{path.name}.replaced").exists()


@pytest.mark.parametrize(("fsync", "synchronous"), [(True, {1, 2}), (False, {0})])
def test_a_drive_without_fsync_is_not_asked_for_it(path, fsync, synchronous):
    """SQLite would call it a broken disk: tests/commands/test_on_drives.py has such a drive."""
    with open_database(path, fsync=fsync) as found:
        found.begin_run("exp", "first", "classification", {})
        assert found._connection.execute("PRAGMA synchronous").fetchone()[0] in synchronous


def locked(path):
    connection = sqlite3.connect(path, isolation_level=None)
    connection.execute("BEGIN EXCLUSIVE")
    return connection


def newer(path):
    with sqlite3.connect(path) as connection:
        connection.execute("PRAGMA user_version = 999")


def cut(path):
    with sqlite3.connect(path) as connection:
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    connection.close()
    os.truncate(path, path.stat().st_size // 2)


HARMS = {
    "locked": (locked, TryLaterError, "locked by another process"),
    "truncated": (cut, HeadstartError, "is damaged"),
    "no database": (lambda path: path.write_bytes(b"what is this?" * 999), HeadstartError, "is damaged"),
    "newer": (newer, HeadstartError, "has version 999"),
    "a folder": (lambda path: (path.unlink(), path.mkdir()), HeadstartError, "cannot be written"),
}


@pytest.mark.parametrize(("harm", "kind", "says"), HARMS.values(), ids=HARMS)
def test_a_database_that_cannot_be_used_is_explained_in_one_line(path, harm, kind, says):
    filled(path)
    kept = harm(path)
    with pytest.raises(kind, match=says) as caught, open_database(path, busy_s=0.05) as found:
        found.record(1, [MetricRow(step, "val", "accuracy", 1.0) for step in range(500)])
    assert "\n" not in str(caught.value)
    del kept


def test_a_read_only_database_is_explained_in_one_line(path):
    filled(path)
    with open_database(path) as found:
        found._connection.execute("PRAGMA query_only = ON")  # chmod does not stop root
        with pytest.raises(HeadstartError, match="cannot be written"):
            found.record(1, [MetricRow(0, "val", "accuracy", 1.0)])


def test_a_full_disk_asks_to_try_later(path):
    run = filled(path, 3)
    with open_database(path) as found:
        [pages] = found._connection.execute("PRAGMA page_count").fetchone()
        found._connection.execute(f"PRAGMA max_page_count = {pages}")
        with pytest.raises(TryLaterError, match="free some space"):
            found.record(run, [MetricRow(step, "val", "x" * 99, 1.0) for step in range(5000)])
        assert len(found.metrics(run)) == 3


def test_an_older_database_is_brought_up_to_date_and_keeps_its_rows(path, monkeypatch):
    run = filled(path, 3)
    monkeypatch.setattr(database, "MIGRATIONS", (*database.MIGRATIONS, ("ALTER TABLE runs ADD COLUMN note TEXT",)))
    with open_database(path) as found:
        assert found._connection.execute("SELECT note FROM runs").fetchall() == [(None,)]
        assert len(found.metrics(run)) == 3
        assert found._connection.execute("PRAGMA user_version").fetchone() == (len(database.MIGRATIONS),)


def test_a_migration_that_fails_leaves_the_database_as_it_was(path, monkeypatch):
    run = filled(path, 3)
    with monkeypatch.context() as patch:
        patch.setattr(database, "MIGRATIONS", (*database.MIGRATIONS, ("CREATE TABLE x (y)", "CREATE NONSENSE")))
        with pytest.raises(sqlite3.OperationalError), open_database(path):
            pass
    with open_database(path) as found:
        assert len(found.metrics(run)) == 3


def test_an_unknown_run_is_answered(path):
    filled(path, 1)
    with open_database(path) as found, pytest.raises(HeadstartError, match="has no run 7"):
        found.run(7)


def test_readers_go_on_while_one_writes(path):
    run = filled(path, 3)
    with open_database(path) as writer, open_database(path, busy_s=0.05) as reader:
        writer._connection.execute("BEGIN EXCLUSIVE")
        assert len(reader.metrics(run)) == 3
        writer._connection.execute("ROLLBACK")
