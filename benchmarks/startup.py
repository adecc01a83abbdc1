"""Seconds from process start to the first encoded image, and what five cold jobs cost beside a long run.

python -m benchmarks.startup PHOTOS [--encoder mobilenetv2_100] [--weights FILE|random:0] [--repeats 3]
    [--precision float32|bfloat16|int8]
"""

import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from .photos import HERE, arguments, enqueue, forget, headstart, repeat

# Runs the command as it is; only the first `encode` is watched from outside.
WATCHED = """
import builtins, importlib.abc, json, os, sys, time
begun = float(os.environ["HEADSTART_BEGUN"])
class Watch(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path, target=None):
        if name == "headstart.features.extraction.batching":
            sys.meta_path.remove(self)
            if os.environ["HEADSTART_PRECISION"] == "float32":
                from headstart.features.encoders.onnx_encoder import OnnxEncoder as Encoder
            else:
                from headstart.features.encoders.openvino_encoder import OpenvinoEncoder as Encoder
            encode = Encoder.encode
            def watched(self, images):
                features = encode(self, images)
                Encoder.encode = encode
                found = {"seconds": time.time() - begun, "heavy": sorted({"torch", "timm"} & set(sys.modules))}
                os.write(1, f"{json.dumps(found)}\\n".encode())  # at once: another thread may be the second to encode
                return features
            Encoder.encode = watched
sys.meta_path.insert(0, Watch())
from headstart.cli import main
main()
"""


def first_image(workspace, precision):
    command = [sys.executable, "-c", WATCHED, "work", "--device", "cpu", "--max-jobs", "1", "-w", str(workspace)]
    environment = {**HERE, "HEADSTART_BEGUN": str(time.time()), "HEADSTART_PRECISION": precision}
    done = subprocess.run(command, env=environment, check=True, capture_output=True, text=True)
    return json.loads(done.stdout.splitlines()[0])


def seconds_of_jobs(workspace, *limits):
    begun = time.perf_counter()
    headstart("work", "--device", "cpu", *limits, "-w", workspace)
    return time.perf_counter() - begun


def main():
    parser = arguments(__doc__)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--precision", default="float32", choices=("float32", "bfloat16", "int8"))
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        workspace = Path(scratch) / "workspace"
        photos = repeat(options.photos, Path(scratch) / "photos", 40 * 64)
        folder = enqueue(photos, workspace, options.encoder, options.weights, "--precision", options.precision)
        firsts, five, forty = [], [], []
        for _ in range(options.repeats):
            for action, results in (
                (lambda: first_image(workspace, options.precision), firsts),
                (lambda: seconds_of_jobs(workspace, "--max-jobs", 5), five),
                (lambda: seconds_of_jobs(workspace), forty),
            ):
                forget(folder)
                results.append(action())
    share = statistics.median(forty) * 5 / 40
    print(f"first image encoded after  {statistics.median(first['seconds'] for first in firsts):.2f} s")
    print(f"torch or timm imported     {firsts[0]['heavy'] or 'neither'}")
    print(f"5 jobs of 64, cold         {statistics.median(five):.2f} s; their share of 40 jobs is {share:.2f} s")
    print(f"ratio                      {statistics.median(five) / share:.2f}")
    print(f"load                       {os.getloadavg()[0]:.1f}; rounds {firsts} {five} {forty}")


if __name__ == "__main__":
    main()
