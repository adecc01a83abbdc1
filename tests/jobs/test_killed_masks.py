"""Maps, a head on them and a stitched mask after kills: the bytes of what nobody killed."""

import json
import os
import subprocess
import sys

from tests.support import ROOT

STAGES = ["extraction", "training", "stitching"]  # patches are extracted by what extracts images; the benchmark kills both


def test_extraction_training_and_stitching_end_in_the_same_bytes_after_kills(tmp_path):
    command = [sys.executable, "-m", "tests.jobs.killed_masks", str(tmp_path), "3", *STAGES]
    environment = {**os.environ, "OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=900, check=False)
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout)
    assert list(report) == STAGES
    for stage in report.values():
        assert (stage["deaths"], stage["differing"]) == (3, [])
        assert stage["files"] > 0
