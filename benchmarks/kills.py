"""Kills workers at random moments of a real extraction, then races four, and compares every byte with an uninterrupted run.

    python benchmarks/kills.py DATA --kills 20 [--encoder mobilenetv2_100 --weights FILE] [--precision int8]

Prints JSON; exits with 1 if a byte differs, a file is left over or an image is missing.
"""

import argparse
import hashlib
import json
import os
import random
import re
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent


def cli(*arguments: object, check: bool = True) -> subprocess.CompletedProcess:
    command = [sys.executable, str(ROOT / "cli.py"), *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=check)


def start_worker(root: Path) -> subprocess.Popen:
    command = [sys.executable, str(ROOT / "cli.py"), "work", "-w", str(root)]
    return subprocess.Popen(command, stderr=subprocess.PIPE, text=True)


def digests(root: Path) -> dict[str, str]:
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in root.glob("features/encoder_*/shards/*/*")}


def leftovers(root: Path) -> list[str]:
    found = [*root.rglob(".tmp-*"), *root.glob("features/encoder_*/claims/*/*"), *root.glob("workers/*")]
    return [str(path.relative_to(root)) for path in found]


def committed(root: Path) -> int:
    return len(list(root.glob("features/encoder_*/done/*/*.done")))


def kill_storm(root: Path, kills: int, seed: int, longest_s: float) -> tuple[int, list[int]]:
    """Kills that hit a living worker, and how many jobs were done at each."""
    moments = random.Random(seed)
    done = []
    while len(done) < kills and committed(root) < len(root.joinpath("features/jobs_queue.csv").read_text().splitlines()) - 1:
        worker = start_worker(root)
        time.sleep(moments.uniform(0.0, longest_s))
        if worker.poll() is None:
            worker.send_signal(signal.SIGKILL)
            done.append(committed(root))
        worker.communicate()
    return len(done), done


def race(root: Path, workers: int) -> tuple[float, int, int]:
    """Seconds, jobs committed and jobs computed in vain by `workers` at once."""
    begun = time.monotonic()
    texts = [worker.communicate()[1] for worker in [start_worker(root) for _ in range(workers)]]
    jobs = sum(int(match[1]) for text in texts for match in re.finditer(r"^(\d+) jobs? done", text, re.MULTILINE))
    vain = sum(text.count("another worker was faster") for text in texts)
    return time.monotonic() - begun, jobs, vain


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--workers", type=int, default=4)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--encoder", default=None)
    parser.add_argument("--weights", default="embedded")
    parser.add_argument("--precision", default="float32")
    arguments = parser.parse_args()
    encoder = ["--precision", arguments.precision, "--weights", arguments.weights] + (
        ["--encoder", arguments.encoder] if arguments.encoder else []
    )
    with tempfile.TemporaryDirectory() as folder:
        roots = [Path(folder) / name for name in ("uninterrupted", "killed", "raced")]
        for root in roots:
            cli("enqueue", arguments.data, *encoder, "-w", root)
        begun = time.monotonic()
        cli("work", "-w", roots[0])
        alone_s = time.monotonic() - begun
        kills, done_at = kill_storm(roots[1], arguments.kills, arguments.seed, alone_s / 9)
        cli("work", "-w", roots[1])
        left_before = leftovers(roots[1])
        verified = cli("verify", "--deep", "--repair", "-w", roots[1], check=False)
        race_s, jobs, vain = race(roots[2], arguments.workers)
        reference = digests(roots[0])
        report = {
            "jobs": len(reference),
            "uninterrupted_s": round(alone_s, 1),
            "kills": kills,
            "jobs_done_at_each_kill": done_at,
            "killed_run_is_byte_identical": digests(roots[1]) == reference,
            "leftovers_before_repair": len(left_before),
            "leftovers_after_repair": leftovers(roots[1]),
            "verify": verified.stdout.strip().splitlines(),
            "workers": arguments.workers,
            "raced_s": round(race_s, 1),
            "raced_jobs_committed": jobs,
            "raced_jobs_computed_in_vain": vain,
            "raced_run_is_byte_identical": digests(roots[2]) == reference,
        }
    print(json.dumps(report, indent=1))
    is_good = report["killed_run_is_byte_identical"] and report["raced_run_is_byte_identical"]
    return 0 if is_good and not report["leftovers_after_repair"] and verified.returncode == 0 and os.name != "nt" else 1


if __name__ == "__main__":
    sys.exit(main())
