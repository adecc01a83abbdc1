"""Three images that end every process that decodes them (a segfault, a hang, 10 GB): does the queue drain unattended?

    python benchmarks/killers.py [--images 640] [--job-timeout 10s] [--ram-budget 1GB]

One `headstart work` with the killers, one without, in fresh workspaces; prints JSON, exits with 1 if anything is not as promised.
"""

import argparse
import contextlib
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from PIL import Image

ROOT = Path(__file__).resolve().parent.parent
WORDS = {"segfault": b"SEGFAULT", "hang": b"HANG", "memory": b"EAT10GB"}


def draw(folder: Path, count: int) -> list[Path]:
    paths = [folder / "abc"[i % 3] / f"{i:05d}.png" for i in range(count)]
    for i, path in enumerate(paths):
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.random.default_rng(i).integers(0, 256, (160, 160, 3), dtype=np.uint8)).save(path)
    return paths


def cli(*arguments: object, **environment: str) -> subprocess.CompletedProcess:
    command = [sys.executable, str(ROOT / "cli.py"), *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=False, env={**os.environ, **environment})


def work(root: Path, *options: str) -> tuple[float, subprocess.CompletedProcess]:
    begun = time.monotonic()
    done = cli("work", "-w", root, *options, PYTHONPATH=str(ROOT / "tests" / "killers"))
    return time.monotonic() - begun, done


def features(root: Path) -> dict[str, bytes]:
    sys.path.insert(0, str(ROOT))
    from headstart import load_features

    [folder] = root.glob("features/encoder_*")
    found = load_features(folder)
    return {path: row.tobytes() for path, row in zip(found.paths, found.features, strict=True)}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=640)
    parser.add_argument("--job-timeout", default="10s")
    parser.add_argument("--ram-budget", default="1GB")
    arguments = parser.parse_args()
    options = ["--device", "cpu", "--ram-budget", arguments.ram_budget, "--job-timeout", arguments.job_timeout]
    seconds: dict[str, float] = {}
    with tempfile.TemporaryDirectory() as folder:
        data = Path(folder) / "photos"
        paths = draw(data, arguments.images)
        roots = {name: Path(folder) / name for name in ("none", *WORDS, "all")}
        report = {}
        for name, root in roots.items():
            words = WORDS if name == "all" else {name: WORDS[name]} if name in WORDS else {}
            killers = {}
            for (word, tail), path in zip(words.items(), paths[7 :: len(paths) // 4], strict=False):
                with path.open("ab") as file:
                    file.write(tail)
                killers[path.relative_to(data).as_posix()] = word
            assert cli("enqueue", data, "--weights", "embedded", "-w", root).returncode == 0
            seconds[name], done = work(root, *options)
            failed = json.loads(cli("status", "--failed", "--json", "-w", root).stdout)
            report[name] = {
                "seconds": round(seconds[name], 1),
                "exit": done.returncode,
                "restarts": done.stderr.count("the worker ended its process"),
                "failed": {item["name"]: f"{item['code']}: {item['reason']}" for item in failed["failed_items"]},
                "remaining_jobs": failed["remaining_jobs"],
                "quarantined_jobs": len(failed["quarantined_jobs"]),
                "others_identical": {path: row for path, row in features(roots["none"]).items() if path not in killers}
                == features(root),
            }
            for path in paths:  # for the next round
                for tail in WORDS.values():
                    data_of = path.read_bytes()
                    if data_of.endswith(tail):
                        path.write_bytes(data_of.removesuffix(tail))
            is_good = set(report[name]["failed"]) == set(killers) and report[name]["others_identical"] and not done.returncode
            report[name]["is_good"] = is_good and not report[name]["remaining_jobs"] and not report[name]["quarantined_jobs"]
    for name in WORDS:
        report[name]["time_lost_s"] = round(seconds[name] - seconds["none"], 1)
    print(json.dumps(report, indent=1))
    return 0 if all(round_["is_good"] for round_ in report.values()) else 1


if __name__ == "__main__":
    with contextlib.suppress(KeyboardInterrupt):
        sys.exit(main())
