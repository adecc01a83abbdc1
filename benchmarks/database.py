"""Eight processes note 1,000 metric rows each in one database, ten at a time: python -m benchmarks.database"""

import subprocess
import sys
import tempfile
import time
from pathlib import Path

from headstart.experiments.runs.database.database import MetricRow, open_database

from .synthetic import verdict

WRITERS, ROWS, BATCH = 8, 1000, 10


def write(path: Path, writer: str) -> None:
    """To a run that all share, and every tenth batch twice, as a run that was killed does."""
    with open_database(path) as found:
        run = found.begin_run("exp_0001_shared", "linear", "classification", {})
        for start in range(0, ROWS, BATCH):
            rows = [MetricRow(row, "val", f"writer {writer}", float(row)) for row in range(start, start + BATCH)]
            for _ in range(2 if start % 100 == 0 else 1):
                found.record(run, rows)


def main() -> None:
    if sys.argv[1:2] == ["child"]:
        return write(Path(sys.argv[2]), sys.argv[3])
    with tempfile.TemporaryDirectory() as name:
        path = Path(name) / "experiments.db"
        begun = time.perf_counter()
        command = [sys.executable, "-m", "benchmarks.database", "child", str(path)]
        writers = [subprocess.Popen([*command, str(number)]) for number in range(WRITERS)]
        failed = sum(writer.wait() != 0 for writer in writers)
        seconds = time.perf_counter() - begun
        with open_database(path) as found:
            rows = [(row.metric, row.step) for row in found.metrics(found.runs()[0].run)]
    wanted = {(f"writer {writer}", step) for writer in range(WRITERS) for step in range(ROWS)}
    print(f"{WRITERS} processes, {len(rows)} rows, {seconds:.2f} s from process start, {failed} processes failed\n")
    verdict("rows lost", len(wanted - set(rows)), 0, is_least=False)
    verdict("rows twice or never written", len(rows) - len(wanted & set(rows)), 0, is_least=False)


if __name__ == "__main__":
    main()
