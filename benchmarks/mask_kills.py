"""Kills extraction of maps (of patches, of images), a training on them and stitching at random moments; compares every byte.

python -m benchmarks.mask_kills [KILLS] [STAGE...]      KILLS of each stage, 30 if nothing is said
"""

import json
import os
import subprocess
import sys
import tempfile
import time

from .photos import ROOT


def main() -> int:
    kills, stages = (sys.argv[1] if len(sys.argv) > 1 else "30"), sys.argv[2:]
    environment = {**os.environ, "OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"}
    begun = time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "tests.jobs.killed_masks", folder, kills, *stages]
        done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(done.stderr)
    report = json.loads(done.stdout)
    for name, one in report.items():
        same = "identical bytes" if not one["differing"] else f"DIFFERS: {', '.join(one['differing'])}"
        print(
            f"{name}: {one['deaths']} deaths at random moments of {one['events']} events, in {one['copies']} runs of "
            f"{one['files']} files: {same}"
        )
    print(f"{time.monotonic() - begun:.0f} s")
    return int(any(one["differing"] for one in report.values()))


if __name__ == "__main__":
    sys.exit(main())
