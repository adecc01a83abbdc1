"""What durability costs: the same extraction with and without fsync, in turn.

    python benchmarks/durability.py DATA [--rounds 3] [--encoder mobilenetv2_100 --weights FILE] [--job-size 64]

Prints JSON. Seconds are those of the whole command, from process start. The file system is that of the temporary folder (TMPDIR).
"""

import argparse
import hashlib
import json
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent


def cli(*arguments: object) -> None:
    subprocess.run([sys.executable, str(ROOT / "cli.py"), *map(str, arguments)], capture_output=True, text=True, check=True)


def set_fsync(root: Path, is_on: bool) -> None:
    path = root / "workspace.json"
    facts = json.loads(path.read_text())
    facts["file_system"]["fsync"] = is_on
    path.write_text(json.dumps(facts))


def digests(root: Path) -> dict[str, str]:
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in root.glob("features/encoder_*/shards/*/*")}


def seconds_of(data: Path, root: Path, fsync: bool, options: list[str]) -> float:
    cli("enqueue", data, *options, "-w", root)
    set_fsync(root, fsync)
    begun = time.monotonic()
    cli("work", "--device", "cpu", "-w", root)
    return time.monotonic() - begun


def file_system(folder: str) -> str:
    return subprocess.run(["stat", "-f", "-c", "%T", folder], capture_output=True, text=True, check=False).stdout.strip()


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--job-size", type=int, default=64)
    parser.add_argument("--encoder", default=None)
    parser.add_argument("--weights", default="embedded")
    arguments = parser.parse_args()
    options = ["--weights", arguments.weights, "--job-size", str(arguments.job_size)]
    options += ["--encoder", arguments.encoder] if arguments.encoder else []
    seconds: dict[bool, list[float]] = {True: [], False: []}
    with tempfile.TemporaryDirectory() as folder:
        kind, found = file_system(folder), []
        for number in range(arguments.rounds):
            for fsync in (True, False) if number % 2 else (False, True):
                root = Path(folder) / f"{number}-{fsync}"
                seconds[fsync].append(seconds_of(arguments.data, root, fsync, options))
                found.append(digests(root))
    jobs, images = len(found[0]), sum(1 for path in arguments.data.rglob("*") if path.is_file())
    on, off = (statistics.median(seconds[fsync]) for fsync in (True, False))
    report = {
        "file_system": kind,
        "files": images,
        "jobs": jobs,
        "seconds_with_fsync": [round(each, 2) for each in seconds[True]],
        "seconds_without": [round(each, 2) for each in seconds[False]],
        "files_per_second": {"with": round(images / on, 1), "without": round(images / off, 1)},
        "price": f"{on / off - 1:+.1%}",
        "all_bytes_equal": all(each == found[0] for each in found),
    }
    print(json.dumps(report, indent=1))
    return 0 if report["all_bytes_equal"] else 1


if __name__ == "__main__":
    sys.exit(main())
