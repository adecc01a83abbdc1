"""`experiments.db`: what every run measured, in SQLite, written by many processes at once.

Writing the same again changes nothing: a run that was killed and resumed leaves the rows of one that was not.

A database is a program: a view or trigger of a stranger may never end, and a journal may name any file for SQLite to delete. So
nobody opens one beside a journal that names other files or through a link, its schema has to be this project's word for word,
every statement has a limit of steps, and every value is checked before it is used.
"""

import contextlib
import hashlib
import json
import math
import os
import re
import sqlite3
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple, cast

from headstart.pipeline import paths
from headstart.pipeline.doors import reading, records
from headstart.pipeline.errors import HeadstartError, TryLaterError
from headstart.pipeline.files import environment_faults, probe

BUSY_S = 60.0
_MOST_STEPS = 2_000_000_000  # of SQLite's machine in one statement: a hundred times what a list of a million runs takes
_STEPS_A_LOOK = 100_000
_LONGEST_VALUE = 1 << 26
_AGAIN = "Make it again from the folders of the runs: headstart runs --rebuild"
# What becomes part of a path, or is compared with words of this project; not every name that a configuration may have.
_NAME = re.compile(r"[^\W][^/\\\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]{0,99}")
_WORD = re.compile(r"[a-z][a-z_]{0,39}")
_DIGESTS = "|"  # between a stamp and its digests
_SUPER_JOURNAL = bytes.fromhex("d9d505f920a163d7")
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
_COUNTS = slice(6, 9)  # train, val and test in a row of `about`
_NOTE = """
    INSERT OR REPLACE INTO about (run, date, encoder, fingerprint, dataset, data, train, val, test, images, groups, method,
        is_baseline, is_chosen, versions, stamp)
    VALUES (:run, :date, :encoder, :fingerprint, :dataset, :data, :train, :val, :test, :images, :groups, :method,
        :is_baseline, :is_chosen, :versions, :stamp)
"""


@dataclass(frozen=True)
class MetricRow:
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
    metrics: tuple[MetricRow, ...]


def _require_values(experiment: str, made: MadeRun) -> None:
    """The rows are made of files that somebody else may have written."""
    beside = {key: value for key, value in made.about.items() if value is not None and not isinstance(value, str)}
    wrong = [f"{key} is {value!r}" for key, value in beside.items() if not _is_whole(value)]
    wrong += [f"the step is {m.step!r}" for m in made.metrics if not _is_whole(m.step)]
    wrong += [f"{m.metric} is {m.value!r}" for m in made.metrics if not (m.value is None or _is_number(m.value))]
    if made.number is not None and not _is_whole(made.number):
        wrong.append(f"the run is {made.number!r}")
    if wrong:
        raise HeadstartError(f"{experiment} is damaged ({wrong[0][:80]}). The command that trained it writes its files again")


def _is_whole(value: object) -> bool:
    return isinstance(value, int) and -records.LARGEST <= value <= records.LARGEST


def _is_number(value: object) -> bool:
    return isinstance(value, float) or _is_whole(value)  # NaN and infinities included, which mean that there is no number


class DifferentRows(records.DamagedError):
    """The rows of a run are not those that were written."""

    def __init__(self, path: Path, what: str) -> None:
        super().__init__(path, f"{what} has other rows than were written", _AGAIN)


class Database:
    """An open database; use `open_database`.

    SQLite keeps no checksums, so one flipped bit would be another number. `about.stamp` ends with two digests: of a run with what
    was measured at its end, which is all that a list shows, and of every row of it.
    """

    def __init__(self, path: Path, connection: sqlite3.Connection) -> None:
        self.path, self._connection = path, connection
        self._last: _Rows | None = None  # what was read and compared is not read again

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

    def record(self, run: int, metrics: Iterable[MetricRow]) -> None:
        """Notes all of them or none; what is there already under (run, step, split, metric) is replaced."""
        rows = [(run, m.step, m.split, m.metric, m.value if m.value == m.value else None) for m in metrics]
        with self._writing() as connection:
            connection.executemany(
                "INSERT INTO metrics VALUES (?, ?, ?, ?, ?) "
                "ON CONFLICT (run, step, split, metric) DO UPDATE SET value = excluded.value",
                rows,
            )

    def replace_experiment(self, experiment: str, made: Sequence[MadeRun]) -> None:
        """Makes the rows of an experiment these and no others, all at once; a run that is there keeps its number.

        Raises: HeadstartError, and changes nothing, if a value is none that such a row can have.
        """
        for each in made:
            _require_values(experiment, each)
        with self._writing() as connection:
            self._require_indices(connection)
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
            rows = _rows(connection, experiment)
            last, every = _digests(rows), _digests(_rows(connection, experiment, in_full=True))
            for run, about in rows.about.items():
                stamp = _DIGESTS.join([about[-1], last[run], every[run]])
                connection.execute("UPDATE about SET stamp = ? WHERE run = ?", (stamp, run))

    def _require_indices(self, connection: sqlite3.Connection) -> None:
        # What a list reads does not go through an index, so nothing before has looked at one; a row is found by it.
        if connection.execute("PRAGMA integrity_check(1)").fetchone()[0] != "ok":
            raise DifferentRows(self.path, "an index")

    def forget(self, experiments: Iterable[str]) -> None:
        """Removes all rows of experiments that are gone."""
        with self._writing() as connection:
            self._require_indices(connection)
            connection.executemany("DELETE FROM runs WHERE experiment = ?", [(name,) for name in experiments])

    def stamps(self, in_full: bool = False) -> dict[str, dict[str, str | None]]:
        """By experiment and head: of what file the rows were made; None if an earlier version wrote them.

        Args:
            in_full: compare all rows of each run, not only those of its last step.

        Raises: DifferentRows if rows of a run are not as they were written.
        """
        stamps: dict[str, dict[str, str | None]] = {}
        with _read(self.path):
            rows = _rows(self._connection, in_full=in_full)
            expected = _digests(rows)
            for run, (_, experiment, head, *_) in rows.runs.items():
                stamp, *digests = str(rows.about[run][-1]).split(_DIGESTS) if run in rows.about else [None]
                if len(digests) == 2 and digests[in_full] != expected[run]:
                    raise DifferentRows(self.path, f"run {run}")
                stamps.setdefault(str(experiment), {})[str(head)] = stamp if len(digests) == 2 else None
        self._last = None if in_full else rows
        return stamps

    def wide(self) -> tuple[list[str], list[tuple[Any, ...]]]:
        """Names of the columns, and a row a run, oldest first."""
        with _read(self.path):
            cursor = self._connection.execute("SELECT * FROM wide ORDER BY run")
            return [column[0] for column in cursor.description], cursor.fetchall()

    def runs(self) -> list[Run]:
        """All runs, oldest first."""
        with _read(self.path):
            rows = self._last or _rows(self._connection)
        return [_run(self.path, *row) for row in rows.runs.values()]

    def run(self, number: int) -> Run:
        """Raises: HeadstartError if there is no such run."""
        matching = [run for run in self.runs() if run.run == number]
        if not matching:
            raise HeadstartError(f"{self.path} has no run {number}. See which there are: headstart runs")
        return matching[0]

    def metrics(self, run: int) -> list[MetricRow]:
        """Of one run, by step, split and name."""
        query = "SELECT step, split, metric, value FROM metrics WHERE run = ? ORDER BY step, split, metric"
        with _read(self.path):
            return [_metric(self.path, *row) for row in self._connection.execute(query, (run,)).fetchall()]

    def final_metrics(self) -> dict[int, list[MetricRow]]:
        """Of each run, by split and name, those of its last step alone: a long training notes thousands before."""
        with _read(self.path):
            rows = self._last or _rows(self._connection)
        return {run: [_metric(self.path, *metric) for _, *metric in metrics] for run, metrics in rows.metrics.items()}

    def image_counts(self) -> dict[int, int]:
        """Of each run, how many images it learnt from, was chosen by and judged on."""
        with _read(self.path):
            rows = self._last or _rows(self._connection)
        return {run: sum(about[_COUNTS]) for run, about in rows.about.items()}

    @contextlib.contextmanager
    def _writing(self) -> Iterator[sqlite3.Connection]:
        # IMMEDIATE: a transaction that reads first and then wants to write fails at once if another wrote in between.
        self._last = None
        with _explained(self.path):
            self._connection.execute("BEGIN IMMEDIATE")
            try:
                yield self._connection
                self._connection.execute("COMMIT")
            except BaseException:
                with contextlib.suppress(sqlite3.Error):
                    self._connection.execute("ROLLBACK")
                raise


class _Rows(NamedTuple):
    """Rows of each table by run, as SQLite gives them; `about` with the stamp last."""

    runs: dict[int, tuple[Any, ...]]
    about: dict[int, tuple[Any, ...]]
    metrics: dict[int, list[tuple[Any, ...]]]


def _rows(connection: sqlite3.Connection, experiment: str | None = None, in_full: bool = False) -> _Rows:
    """Args: experiment: runs of that one alone; in_full: every step, not only the last one of each run."""
    only, values = "", cast(tuple[str, ...], ())
    if experiment is not None:
        # The sign keeps SQLite from an index.
        only, values = " WHERE run IN (SELECT run FROM runs WHERE +experiment = ?)", (experiment,)
    last = "" if in_full else "JOIN (SELECT run, max(step) AS step FROM metrics GROUP BY run) USING (run, step)"
    runs = connection.execute(f"SELECT run, experiment, head, task, config FROM runs{only} ORDER BY run", values)  # noqa: S608 - of two constants
    result = _Rows({row[0]: row for row in runs}, {}, {})
    # No table is joined with `runs`: that may be answered from an index, which no digest covers.
    for row in connection.execute(f"SELECT * FROM about{only}", values):  # noqa: S608
        result.about[row[0]] = row
    metrics = connection.execute(
        f"SELECT run, step, split, metric, value FROM metrics {last}{only} ORDER BY run, step, split, metric",  # noqa: S608
        values,
    )
    for row in metrics:
        result.metrics.setdefault(row[0], []).append(row)
    return result


def _digests(rows: _Rows) -> dict[int, str]:
    """Of each run that has a stamp: of all its rows, and of which runs its experiment has, because one might be gone."""
    of_experiment: dict[Any, list[int]] = {}
    for run, row in rows.runs.items():
        of_experiment.setdefault(row[1], []).append(run)
    facts = (
        (run, (rows.runs[run], about, str(stamp).split(_DIGESTS)[0], rows.metrics.get(run), of_experiment[rows.runs[run][1]]))
        for run, (*about, stamp) in rows.about.items()
        if run in rows.runs
    )
    return {run: hashlib.blake2b(repr(each).encode(), digest_size=8).hexdigest() for run, each in facts}


def _run(path: Path, run: Any, experiment: Any, head: Any, task: Any, config: Any) -> Run:
    is_sound = isinstance(run, int) and 0 < run <= records.LARGEST
    for text, pattern in ((experiment, _NAME), (head, _NAME), (task, _WORD)):
        is_sound = is_sound and isinstance(text, str) and pattern.fullmatch(text) is not None
    if not is_sound or not isinstance(config, str):
        raise _damaged(path, f"a run is {ascii((run, experiment, head, task))[:120]}")
    return Run(run, experiment, head, task, dict(records.parse_record(config, f"{path}, run {run}, config", None, _AGAIN)))


def _metric(path: Path, step: Any, split: Any, metric: Any, value: Any) -> MetricRow:
    is_sound = isinstance(step, int) and isinstance(split, str) and isinstance(metric, str)
    if not is_sound or not (value is None or (isinstance(value, int | float) and math.isfinite(value))):
        raise _damaged(path, f"a number is {ascii((step, split, metric, value))[:120]}")
    return MetricRow(step, split, metric, value)


@contextlib.contextmanager
def open_database(path: Path, busy_s: float = BUSY_S, fsync: bool = True) -> Iterator[Database]:
    """The database at `path`, made if absent and brought to this version's schema, for somebody who writes.

    Args:
        busy_s: how long to wait for another process that writes.
        fsync: whether the file system can do that; where it cannot, a power cut may cost rows, which are made again.

    Raises: HeadstartError if it is no database, damaged, newer, or must not be written, or another program put something into it
        or beside it; TryLaterError if it stays locked or the disk is full.
    """
    with environment_faults(f"cannot make {path.parent}"), contextlib.suppress(FileExistsError):
        paths.make_folder(path.parent)
    _move_aside_if_shared(path)
    is_new = not paths.exists(path) and _publish_empty(path)
    _refuse_foreign_files(path)
    with _explained(path):
        connection = sqlite3.connect(path, timeout=busy_s, isolation_level=None)
    with contextlib.closing(connection):
        with _explained(path):
            _distrust(connection)
            if not fsync:  # SQLite takes a refused fsync for a broken disk
                connection.execute("PRAGMA synchronous = OFF")
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


def _names(path: Path) -> int:
    return paths.lasting_names(lambda: paths.stat(path))


def _move_aside_if_shared(path: Path) -> None:
    """SQLite changes a file in place: one that has another name, which may be anywhere, is none to write into."""
    with contextlib.suppress(FileNotFoundError):
        if paths.is_file(path) and _names(path) > 1:
            move_aside(path)


def move_aside(path: Path) -> None:
    """Puts a database, and what SQLite keeps beside it, out of the way; it is derived."""
    for name in (path.name, f"{path.name}-wal", f"{path.name}-shm"):
        with contextlib.suppress(FileNotFoundError):
            paths.rename(path.with_name(name), path.with_name(f"{name}.replaced"))


def _refuse_foreign_files(path: Path) -> None:
    """Raises: HeadstartError if SQLite would follow a link, wait for a pipe, or change or delete a file elsewhere."""
    for beside in (path, *(path.with_name(f"{path.name}-{what}") for what in ("journal", "wal", "shm"))):
        with environment_faults(f"cannot read {beside}"):
            try:
                # Only looked at: to open and close the database would let go of every lock that this process has on it.
                facts = paths.stat(beside)
                reading.require_file(facts, beside)
                if _names(beside) > 1:
                    raise reading.UnreadableError(beside, "has another name, which may be anywhere")
                if beside.name.endswith("-journal"):
                    _refuse_super_journal(beside)
            except FileNotFoundError:
                continue
            except reading.UnreadableError as error:
                raise _unusable(error) from None


def _refuse_super_journal(journal: Path) -> None:
    with reading.opened(journal) as file:
        file.seek(max(0, file.seek(0, os.SEEK_END) - len(_SUPER_JOURNAL)))
        # At its end a journal may name another file, which SQLite then deletes. None of this project's does.
        if file.read() == _SUPER_JOURNAL:
            raise HeadstartError(
                f"{journal} is of another program: it names a file to delete. Remove that and run the same command again"
            )


def _unusable(error: reading.UnreadableError) -> HeadstartError:
    return HeadstartError(f"{error.path} cannot be written (it {error.why}). Move it away and run the same command again")


def _distrust(connection: sqlite3.Connection) -> None:
    """Nothing that stands in the database may act, and no statement may go on for ever."""
    steps = 0

    def look() -> int:
        nonlocal steps
        steps += _STEPS_A_LOOK
        return steps > _MOST_STEPS

    connection.set_progress_handler(look, _STEPS_A_LOOK)
    connection.setlimit(sqlite3.SQLITE_LIMIT_ATTACHED, 0)
    connection.setlimit(sqlite3.SQLITE_LIMIT_LENGTH, _LONGEST_VALUE)
    connection.execute("PRAGMA trusted_schema = OFF")


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
    _require_schema(connection, _version(connection, path), path)
    if _version(connection, path) < len(MIGRATIONS):
        connection.execute("BEGIN IMMEDIATE")
        # Looked at again: another process may have done it while this one waited for the lock.
        for number in range(_version(connection, path), len(MIGRATIONS)):
            for statement in MIGRATIONS[number]:
                connection.execute(statement)
            connection.execute(f"PRAGMA user_version = {number + 1}")
        connection.execute("COMMIT")


def _require_schema(connection: sqlite3.Connection, version: int, path: Path) -> None:
    """Raises: HeadstartError unless the tables of that version, and nothing else, are there."""
    query = "SELECT type, name, tbl_name, sql FROM sqlite_master WHERE name NOT LIKE 'sqlite_stat%' ORDER BY type, name"
    with contextlib.closing(sqlite3.connect(":memory:", isolation_level=None)) as model:
        for statements in MIGRATIONS[:version]:
            for statement in statements:
                model.execute(statement)
        expected = model.execute(query).fetchall()
    with _read(path):
        there = connection.execute(query).fetchall()
    if there != expected:
        odd = next((row[1] for row in [*there, *expected] if (row in there) != (row in expected)), "")
        raise _damaged(path, f"its tables are not those of version {version}: {str(odd)[:60]!r}")


def _version(connection: sqlite3.Connection, path: Path) -> int:
    with _read(path):
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
def _read(path: Path) -> Iterator[None]:
    """What SQLite has no better name for is damage where nothing but reading is asked for."""
    try:
        with _explained(path):
            yield
    except (sqlite3.DatabaseError, ValueError) as error:  # ValueError: text that is no UTF-8
        raise _damaged(path, str(error)) from None


@contextlib.contextmanager
def _explained(path: Path) -> Iterator[None]:
    """Turns SQLite's errors into one line that says what to do."""
    try:
        yield
    except sqlite3.DatabaseError as error:
        raise _explanation(path, error) from error


def _damaged(path: Path, why: str) -> HeadstartError:
    return records.DamagedError(path, why, _AGAIN)


def _locked(path: Path) -> TryLaterError:
    return TryLaterError(f"{path} is locked by another process. Nothing is lost: end it, then run the same command again.")


def _explanation(path: Path, error: sqlite3.DatabaseError) -> Exception:
    reason = (str(error).splitlines() or [""])[0]
    name = getattr(error, "sqlite_errorname", "") or ""
    if name.startswith(("SQLITE_BUSY", "SQLITE_LOCKED")):
        return _locked(path)
    if name.startswith(("SQLITE_FULL", "SQLITE_IOERR")):
        return TryLaterError(
            f"{path}: {reason}. Nothing is lost: free some space or check the disk, then run the same command again."
        )
    if name.startswith(("SQLITE_READONLY", "SQLITE_CANTOPEN", "SQLITE_PERM")):
        return HeadstartError(f"{path} cannot be written ({reason}). Give this user access to it and its folder")
    if name.startswith(
        ("SQLITE_CORRUPT", "SQLITE_NOTADB", "SQLITE_INTERRUPT", "SQLITE_TOOBIG", "SQLITE_FORMAT", "SQLITE_CONSTRAINT_FOREIGN")
    ):
        return _damaged(path, reason)
    return error
