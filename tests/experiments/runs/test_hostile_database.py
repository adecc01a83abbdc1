"""A database of a stranger runs nothing, deletes nothing, hangs nothing; each oddity is one line, for readers and for writers."""

import os
import sqlite3
import struct
import time

import pytest

from headstart.experiments.runs.database import database
from headstart.experiments.runs.database.database import MetricRow, open_database
from headstart.pipeline import paths
from headstart.pipeline.errors import HeadstartError

ENDLESS = "WITH RECURSIVE c(x) AS (SELECT 1 UNION ALL SELECT x+1 FROM c)"
ESCAPE = "\x1b]0;OWNED\x07"


@pytest.fixture
def path(tmp_path):
    root = tmp_path / "w"
    root.mkdir()
    paths.enter(root)
    path = root / "experiments" / "experiments.db"
    with open_database(path) as mine:
        run = mine.begin_run("exp_0001_first", "linear", "classification", {"epochs": 3})
        mine.record(run, [MetricRow(step, "val", "accuracy", step / 3) for step in range(3)])
    return path


def everything(mine):
    return [(run, mine.metrics(run.run)) for run in mine.runs()], mine.final_metrics()


def sql(path, *statements):
    with sqlite3.connect(path, isolation_level=None) as connection:
        for statement in statements:
            connection.execute(*statement) if isinstance(statement, tuple) else connection.execute(statement)
    connection.close()


ODD = {
    "endless view": [
        "DROP TABLE metrics",
        f"CREATE VIEW metrics AS {ENDLESS} SELECT 1 run, 1 step, '' split, '' metric, 1 value FROM c",
    ],
    "endless view of another name": [f"CREATE VIEW v AS {ENDLESS} SELECT * FROM c"],
    "trigger": ["CREATE TRIGGER t AFTER INSERT ON runs BEGIN DELETE FROM metrics; END"],
    "trigger on metrics": ["CREATE TRIGGER t BEFORE UPDATE ON metrics BEGIN SELECT 1; END"],
    "no tables": ["DROP TABLE metrics", "DROP TABLE runs"],
    "the view is another": ["DROP VIEW wide", f"CREATE VIEW wide AS {ENDLESS} SELECT * FROM c"],
    "another table": ["CREATE TABLE other (x)"],
    "index on an expression": ["CREATE INDEX i ON runs (abs(run))"],
    "a column more": ["ALTER TABLE runs ADD COLUMN x TEXT"],
    "tables that take anything": [
        "DROP TABLE metrics",
        "CREATE TABLE metrics (run, step, split, metric, value)",
        "INSERT INTO metrics VALUES (1, 9, 'val', 'accuracy', 'high')",
    ],
    "config no JSON": ["UPDATE runs SET config = 'nope'"],
    "config deep": ["UPDATE runs SET config = replace(hex(zeroblob(50000)), '0', '[')"],
    "config an array": ["UPDATE runs SET config = '[]'"],
    "config infinite": ["UPDATE runs SET config = '{\"a\": 1e999}'"],
    "a head that is a path": ["UPDATE runs SET head = '../../x'"],
    "a head that is hidden": ["UPDATE runs SET head = '..'"],
    "a head that acts": [("UPDATE runs SET head = ?", (ESCAPE,))],
    "a head of 300 letters": [("UPDATE runs SET head = ?", ("a" * 300,))],
    "an experiment elsewhere": ["UPDATE runs SET experiment = '/etc'"],
    "an experiment that acts": [("UPDATE runs SET experiment = ?", ("exp\u2028",))],
    "a task that acts": [("UPDATE runs SET task = ?", (ESCAPE,))],
    "a run below zero": ["PRAGMA foreign_keys = OFF", "UPDATE runs SET run = -1"],
    "infinite": ["UPDATE metrics SET value = 9e999"],
}


@pytest.mark.parametrize("statements", ODD.values(), ids=ODD.keys())
def test_what_this_project_did_not_write_is_one_line_at_once(path, statements):
    sql(path, *statements)
    begun = time.monotonic()
    with pytest.raises(HeadstartError, match="is damaged") as caught, open_database(path) as mine:
        everything(mine)
    assert time.monotonic() - begun < 5
    assert str(caught.value).isprintable()


def test_a_statement_has_a_limit_of_steps(path, monkeypatch):
    monkeypatch.setattr(database, "_MOST_STEPS", 10 * database._STEPS_A_LOOK)
    with open_database(path) as mine, pytest.raises(HeadstartError, match="is damaged"), database._explained(path):
        mine._connection.execute(f"{ENDLESS} SELECT count(*) FROM c").fetchall()


def super_journal(path, victim):
    """As of a transaction over several databases that was cut off: `victim` is deleted once it is played back."""
    sql(path, "PRAGMA journal_mode = DELETE")
    data, name = path.read_bytes(), os.fsencode(victim)
    page = struct.unpack(">H", data[16:18])[0]
    head = bytes.fromhex("d9d505f920a163d7") + struct.pack(">IIIII", 0, 0, len(data) // page, 512, page)
    check = sum(byte - 256 * (byte > 127) for byte in name) & 0xFFFFFFFF
    tail = struct.pack(">I", 0x40000000 // page + 1) + name + struct.pack(">II", len(name), check) + head[:8]
    return head.ljust(512, b"\0") + tail


def test_a_journal_that_names_a_file_is_not_played_back(path, tmp_path):
    victim = tmp_path / "thesis.txt"
    victim.write_text("thesis")
    journal = path.with_name(f"{path.name}-journal")
    journal.write_bytes(super_journal(path, victim))
    with pytest.raises(HeadstartError, match="names a file to delete"), open_database(path) as mine:
        everything(mine)
    assert victim.read_text() == "thesis"
    # What is refused here is what SQLite itself does.
    with sqlite3.connect(path) as connection:
        connection.execute("SELECT * FROM runs").fetchall()
    connection.close()
    assert not victim.exists()


@pytest.mark.parametrize("suffix", ["", "-journal", "-wal", "-shm"])
@pytest.mark.parametrize("kind", ["link", "dangling link", "pipe", "folder"])
def test_no_other_kind_of_file_is_opened(path, tmp_path, suffix, kind):
    victim = tmp_path / "thesis.txt"
    victim.write_text("thesis")
    place = path.with_name(path.name + suffix)
    place.unlink(missing_ok=True)
    if kind == "pipe":
        os.mkfifo(place)
    elif kind == "folder":
        place.mkdir()
    else:
        place.symlink_to(victim if kind == "link" else tmp_path / "nowhere")
    with pytest.raises(HeadstartError), open_database(path) as mine:
        everything(mine)
    assert victim.read_text() == "thesis"
    assert not (tmp_path / "nowhere").exists()


def test_a_flipped_bit_is_one_line_or_other_words_never_an_exception_of_another_kind(path):
    sql(path, "PRAGMA wal_checkpoint(TRUNCATE)", "PRAGMA journal_mode = DELETE")
    data = path.read_bytes()
    for at in [*range(0, 100), *range(100, len(data), len(data) // 60)]:
        path.write_bytes(data[:at] + bytes([data[at] ^ 1 << at % 8]) + data[at + 1 :])
        try:
            with open_database(path) as mine:
                everything(mine)
        except HeadstartError as error:
            assert str(error).isprintable()  # noqa: PT017 - many bits mean nothing
        for rest in path.parent.glob("experiments.db-*"):
            rest.unlink()


WRONG = {
    "step infinite": {"metrics": (MetricRow(float("inf"), "val", "loss", 1.0),)},
    "step no number": {"metrics": (MetricRow(float("nan"), "val", "loss", 1.0),)},
    "step nothing": {"metrics": (MetricRow(None, "val", "loss", 1.0),)},
    "step of 30 digits": {"metrics": (MetricRow(10**30, "val", "loss", 1.0),)},
    "value text": {"metrics": (MetricRow(1, "val", "loss", "low"),)},
    "value a list": {"metrics": (MetricRow(1, "val", "loss", [1.0]),)},
    "value of 30 digits": {"metrics": (MetricRow(1, "val", "loss", 10**30),)},
    "run of 30 digits": {"number": 10**30},
    "count infinite": {"about": {"train": float("inf")}},
    "count a list": {"about": {"train": [1]}},
}


@pytest.mark.parametrize("wrong", WRONG.values(), ids=WRONG.keys())
def test_values_that_no_row_can_have_are_damage_and_change_nothing(path, wrong):
    made = database.MadeRun(**{"number": None, "head": "h", "task": "t", "config": {}, "about": {}, "metrics": (), **wrong})
    with open_database(path) as mine:
        before = everything(mine)
        with pytest.raises(HeadstartError, match="exp_0002_x is damaged"):
            mine.replace_experiment("exp_0002_x", [made])
        assert everything(mine) == before
