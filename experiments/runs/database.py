"""`experiments.db`: what every run measured, in SQLite, written by many processes at once.

Writing the same again changes nothing: a run that was killed and resumed leaves the rows of one that was not.
"""

import contextlib
import json
import sqlite3
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from headstart.pipeline.errors import HeadstartError, TryLaterError
from headstart.pipeline.files import environment_faults, probe

BUSY_S = 60.0
# Entry i takes a database from version i to i + 1. Entries are only ever added: somebody's database is at each of them.
MIGRATIONS: tuple[tuple[str, ...], ...] = (
    (
        """
    CREATE TABLE runs (
        run INTEGER PRIMARY KEY,        -- counts from 1, in the order in which runs were begun
        experiment TEXT NOT NULL,       -- folder below experiments/
        head TEXT NOT NULL,             -- name of the configuration
        task TEXT NOT NULL,             -- classification or regression
        config TEXT NOT NULL,           -- JSON
        UNIQUE (experiment, head)
    ) STRICT
    """,
        """
    CREATE TABLE metrics (
        run INTEGER NOT NULL REFERENCES runs (run) ON DELETE CASCADE,
        step INTEGER NOT NULL,          -- of the optimizer; the last one for what was measured at the end
        split TEXT NOT NULL,            -- train, val or test
        metric TEXT NOT NULL,
        value REAL,                     -- NULL where the number does not exist
        PRIMARY KEY (run, step, split, metric)
    ) STRICT, WITHOUT ROWID
    """,
    ),
    (
        """
    CREATE TABLE about (
        run INTEGER PRIMARY KEY REFERENCES runs (run) ON DELETE CASCADE,
        date TEXT NOT NULL,             -- when the experiment was begun, UTC, ISO 8601
        encoder TEXT NOT NULL,          -- folder below features/
        fingerprint TEXT NOT NULL,      -- of the encoder: all that decides its features
        dataset TEXT,                   -- the data set asked for with --data; NULL: all there were
        data TEXT NOT NULL,             -- digest of the rows that it learnt from and was judged on
        train INTEGER NOT NULL,         -- images to learn from
        val INTEGER NOT NULL,           -- images that the head was chosen by
        test INTEGER NOT NULL,          -- images that it was judged on
        images INTEGER NOT NULL,        -- images of the data set, with features or without
        groups INTEGER,                 -- different groups among them (patients, scenes); NULL: none were given
        method TEXT NOT NULL,           -- gradient, or how a baseline was fitted: ridge, lda, logistic, ...
        is_baseline INTEGER NOT NULL,   -- 1: it needed no gradient
        is_chosen INTEGER NOT NULL,     -- 1: the best of its experiment on validation
        versions TEXT NOT NULL,         -- of the software that trained it, JSON
        stamp TEXT NOT NULL             -- of metrics.json when these rows were made of it
    ) STRICT
    """,
        """
    CREATE VIEW wide AS                 -- a line a run, with its last numbers side by side
    WITH last AS (SELECT run, max(step) AS step FROM metrics GROUP BY run),
    final AS (SELECT metrics.* FROM metrics JOIN last USING (run, step))
    SELECT runs.run, experiment, head, task, date, encoder, dataset, data, train, val, test, images, groups, method,
        is_baseline, is_chosen, versions, config,
        max(value) FILTER (WHERE split = 'val' AND metric = 'accuracy') AS val_accuracy,
        max(value) FILTER (WHERE split = 'test' AND metric = 'accuracy') AS test_accuracy,
        max(value) FILTER (WHERE split = 'test' AND metric = 'accuracy_interval_low') AS test_accuracy_low,
        max(value) FILTER (WHERE split = 'test' AND metric = 'accuracy_interval_high') AS test_accuracy_high,
        max(value) FILTER (WHERE split = 'val' AND metric = 'macro_f1') AS val_macro_f1,
        max(value) FILTER (WHERE split = 'test' AND metric = 'macro_f1') AS test_macro_f1,
        max(value) FILTER (WHERE split = 'test' AND metric = 'log_loss') AS test_log_loss,
        avg(value) FILTER (WHERE split = 'val' AND (metric = 'pearson' OR metric GLOB '*.pearson')) AS val_pearson,
        avg(value) FILTER (WHERE split = 'test' AND (metric = 'pearson' OR metric GLOB '*.pearson')) AS test_pearson,
        avg(value) FILTER (WHERE split = 'test' AND (metric = 'mse' OR metric GLOB '*.mse')) AS test_mse
    FROM runs LEFT JOIN about USING (run) LEFT JOIN final USING (run) GROUP BY runs.run
    """,
    ),
)
_NOTE = """
    INSERT OR REPLACE INTO about (run, date, encoder, fingerprint, dataset, data, train, val, test, images, groups, method,
        is_baseline, is_chosen, versions, stamp)
    VALUES (:run, :date, :encoder, :fingerprint, :dataset, :data, :train, :val, :test, :images, :groups, :method,
        :is_baseline, :is_chosen, :versions, :stamp)
"""


@dataclass(frozen=True)
class Metric:
    """One number of a run."""

    step: int
    split: str
    metric: str
    value: float | None


@dataclass(frozen=True)
class Run:
    """One configuration of an experiment."""

    run: int
    experiment: str
    head: str
    task: str
    config: dict[str, Any]


@dataclass(frozen=True)
class MadeRun:
    """All rows of one run, made of its experiment's files.

    Attributes:
        number: that it should have if it has none and nobody else has it; None: the next.
        about: a value for each column of the table `about` but its key.
    """

    number: int | None
    head: str
    task: str
    config: Mapping[str, Any]
    about: Mapping[str, Any]
    metrics: tuple[Metric, ...]


class Database:
    """An open database; use `open_database`."""

    def __init__(self, path: Path, connection: sqlite3.Connection) -> None:
        self.path, self._connection = path, connection

    def begin_run(self, experiment: str, head: str, task: str, config: Mapping[str, Any]) -> int:
        """The number of that run, given now if it has none."""
        values = (experiment, head, task, json.dumps(config, sort_keys=True))
        with self._writing() as connection:
            connection.execute(
                "INSERT INTO runs (experiment, head, task, config) VALUES (?, ?, ?, ?) ON CONFLICT (experiment, head) "
                "DO UPDATE SET task = excluded.task, config = excluded.config",
                values,
            )
            row = connection.execute("SELECT run FROM runs WHERE experiment = ? AND head = ?", (experiment, head)).fetchone()
        return int(row[0])

    def record(self, run: int, metrics: Iterable[Metric]) -> None:
        """Notes all of them or none; what is there already under (run, step, split, metric) is replaced."""
        rows = [(run, m.step, m.split, m.metric, m.value if m.value == m.value else None) for m in metrics]
        with self._writing() as connection:
            connection.executemany(
                "INSERT INTO metrics VALUES (?, ?, ?, ?, ?) "
                "ON CONFLICT (run, step, split, metric) DO UPDATE SET value = excluded.value",
                rows,
            )

    def replace_experiment(self, experiment: str, made: Sequence[MadeRun]) -> None:
        """Makes the rows of an experiment these and no others, all at once; a run that is there keeps its number."""
        with self._writing() as connection:
            there = dict(connection.execute("SELECT head, run FROM runs WHERE experiment = ?", (experiment,)).fetchall())
            for head in there.keys() - {each.head for each in made}:
                connection.execute("DELETE FROM runs WHERE run = ?", (there[head],))
            for each in made:
                values = (each.number, experiment, each.head, each.task, json.dumps(each.config, sort_keys=True))
                taken = connection.execute("SELECT 1 FROM runs WHERE run = ?", (each.number,)).fetchone()
                run = connection.execute(
                    "INSERT INTO runs VALUES (?, ?, ?, ?, ?) ON CONFLICT (experiment, head) "
                    "DO UPDATE SET task = excluded.task, config = excluded.config RETURNING run",
                    (None, *values[1:]) if taken else values,
                ).fetchone()[0]
                connection.execute("DELETE FROM metrics WHERE run = ?", (run,))
                connection.executemany(
                    "INSERT INTO metrics VALUES (?, ?, ?, ?, ?)",
                    [(run, m.step, m.split, m.metric, m.value) for m in each.metrics],
                )
                connection.execute(_NOTE, {**each.about, "run": run})

    def forget(self, experiments: Iterable[str]) -> None:
        """Removes all rows of experiments that are gone."""
        with self._writing() as connection:
            connection.executemany("DELETE FROM runs WHERE experiment = ?", [(name,) for name in experiments])

    def stamps(self) -> dict[str, dict[str, str | None]]:
        """By experiment and head: of what file the rows were made; None if an earlier version wrote them."""
        query = "SELECT experiment, head, stamp FROM runs LEFT JOIN about USING (run)"
        stamps: dict[str, dict[str, str | None]] = {}
        with _explained(self.path):
            for experiment, head, stamp in self._connection.execute(query):
                stamps.setdefault(experiment, {})[head] = stamp
        return stamps

    def wide(self) -> tuple[list[str], list[tuple[Any, ...]]]:
        """Names of the columns, and a row a run, oldest first."""
        with _explained(self.path):
            cursor = self._connection.execute("SELECT * FROM wide ORDER BY run")
            return [column[0] for column in cursor.description], cursor.fetchall()

    def runs(self) -> list[Run]:
        """All runs, oldest first."""
        with _explained(self.path):
            rows = self._connection.execute("SELECT run, experiment, head, task, config FROM runs ORDER BY run").fetchall()
        return [Run(run, experiment, head, task, json.loads(config)) for run, experiment, head, task, config in rows]

    def run(self, number: int) -> Run:
        """Raises: HeadstartError if there is no such run."""
        matching = [run for run in self.runs() if run.run == number]
        if not matching:
            raise HeadstartError(f"{self.path} has no run {number}. See which there are: headstart runs")
        return matching[0]

    def metrics(self, run: int) -> list[Metric]:
        """Of one run, by step, split and name."""
        query = "SELECT step, split, metric, value FROM metrics WHERE run = ? ORDER BY step, split, metric"
        with _explained(self.path):
            return [Metric(*row) for row in self._connection.execute(query, (run,)).fetchall()]

    def final_metrics(self) -> dict[int, list[Metric]]:
        """Of each run, by split and name, those of its last step alone: a long training notes thousands before."""
        query = (
            "SELECT runs.run, step, split, metric, value FROM runs JOIN metrics ON metrics.run = runs.run AND step = "
            "(SELECT max(step) FROM metrics WHERE metrics.run = runs.run) ORDER BY runs.run, split, metric"
        )
        by_run: dict[int, list[Metric]] = {}
        with _explained(self.path):
            for run, *metric in self._connection.execute(query):
                by_run.setdefault(run, []).append(Metric(*metric))
        return by_run

    @contextlib.contextmanager
    def _writing(self) -> Iterator[sqlite3.Connection]:
        # IMMEDIATE: a transaction that reads first and then wants to write fails at once if another wrote in between.
        with _explained(self.path):
            self._connection.execute("BEGIN IMMEDIATE")
            try:
                yield self._connection
                self._connection.execute("COMMIT")
            except BaseException:
                with contextlib.suppress(sqlite3.Error):
                    self._connection.execute("ROLLBACK")
                raise


@contextlib.contextmanager
def open_database(path: Path, busy_s: float = BUSY_S) -> Iterator[Database]:
    """The database at `path`, made if absent and brought to this version's schema.

    Args:
        busy_s: how long to wait for another process that writes.

    Raises: HeadstartError if it is no database, damaged, newer, or must not be written;
        TryLaterError if it stays locked or the disk is full.
    """
    with environment_faults(f"cannot make {path.parent}"):
        path.parent.mkdir(parents=True, exist_ok=True)
    is_new = not path.exists() and _publish_empty(path)
    with _explained(path):
        connection = sqlite3.connect(path, timeout=busy_s, isolation_level=None)
    with contextlib.closing(connection):
        if is_new:
            # WAL lets readers go on while one writes. Some network file systems cannot; SQLite then keeps its journal.
            with contextlib.suppress(sqlite3.OperationalError):
                connection.execute("PRAGMA journal_mode = WAL")
        with _explained(path):
            _prepare(connection, path)
        yield Database(path, connection)


@contextlib.contextmanager
def in_memory(path: Path) -> Iterator[Database]:
    """An empty one that is written nowhere. Args: path: that messages name."""
    with contextlib.closing(sqlite3.connect(":memory:", isolation_level=None)) as connection:
        _make_tables(connection)
        connection.execute("PRAGMA foreign_keys = ON")
        yield Database(path, connection)


def _make_tables(connection: sqlite3.Connection) -> None:
    for number, statements in enumerate(MIGRATIONS):
        for statement in statements:
            connection.execute(statement)
        connection.execute(f"PRAGMA user_version = {number + 1}")


def _publish_empty(path: Path) -> bool:
    """Puts a database with all tables there, whole when it appears, so that an empty file is always one that lost its rows."""
    with contextlib.closing(sqlite3.connect(":memory:", isolation_level=None)) as connection:
        _make_tables(connection)
        data = connection.serialize()
    try:
        with environment_faults(f"cannot make {path}"):
            return probe(path.parent).publish(path, data)
    except FileNotFoundError:
        raise TryLaterError(f"{path.parent} is gone. Check the disk or mount, then run the same command again.") from None


def _prepare(connection: sqlite3.Connection, path: Path) -> None:
    connection.execute("PRAGMA foreign_keys = ON")
    if _version(connection, path) < len(MIGRATIONS):
        connection.execute("BEGIN IMMEDIATE")
        # Looked at again: another process may have done it while this one waited for the lock.
        for number in range(_version(connection, path), len(MIGRATIONS)):
            for statement in MIGRATIONS[number]:
                connection.execute(statement)
            connection.execute(f"PRAGMA user_version = {number + 1}")
        connection.execute("COMMIT")


def _version(connection: sqlite3.Connection, path: Path) -> int:
    version = int(connection.execute("PRAGMA user_version").fetchone()[0])
    if version == 0:
        raise HeadstartError(
            f"{path} is empty or of another program: it has no tables of runs. Make it again from the folders of the runs: "
            "headstart runs --rebuild"
        )
    if version > len(MIGRATIONS):
        raise HeadstartError(
            f"{path} has version {version}, this one reads up to {len(MIGRATIONS)}. Upgrade: pip install -U headstart"
        )
    return version


@contextlib.contextmanager
def _explained(path: Path) -> Iterator[None]:
    """Turns SQLite's errors into one line that says what to do."""
    try:
        yield
    except sqlite3.DatabaseError as error:
        raise _explanation(path, error) from error


def _explanation(path: Path, error: sqlite3.DatabaseError) -> Exception:
    reason = str(error).splitlines()[0]
    name = getattr(error, "sqlite_errorname", "") or ""
    if name.startswith(("SQLITE_BUSY", "SQLITE_LOCKED")):
        return TryLaterError(f"{path} is locked by another process. Nothing is lost: end it, then run the same command again.")
    if name.startswith(("SQLITE_FULL", "SQLITE_IOERR")):
        return TryLaterError(
            f"{path}: {reason}. Nothing is lost: free some space or check the disk, then run the same command again."
        )
    if name.startswith(("SQLITE_READONLY", "SQLITE_CANTOPEN", "SQLITE_PERM")):
        return HeadstartError(f"{path} cannot be written ({reason}). Give this user access to it and its folder")
    if name.startswith(("SQLITE_CORRUPT", "SQLITE_NOTADB")):
        return HeadstartError(
            f"{path} is damaged ({reason}). Make it again from the folders of the runs: headstart runs --rebuild"
        )
    return error
