"""Extraction end to end, from process start, beside a plain loop and beside the encoder alone, in turn on the same photos.

python -m benchmarks.extract PHOTOS [--encoder mobilenetv2_100] [--weights FILE|random:0] [--count 1024] [--repeats 3]
    [--workers 0,1,2] [--precision float32|bfloat16|int8] [--fast-decode] [--json FILE]

The limit is what the encoder alone gives, fed from memory by the same threads; what the processors could give at best is less,
because they decode too: 1 / (1 / limit + decoding per image / cores).
"""

import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import timm

from headstart.features.devices import cores
from headstart.features.encoders.runtime import open_encoder
from headstart.features.extraction.batching import Batching
from headstart.features.extraction.memory_budget import CPU_BATCH
from headstart.features.images.decode import decode

from .photos import HERE, arguments, crops, enqueue, forget, headstart
from .synthetic import seconds_of


def plain(photos, encoder, weights, workers, output):
    file = "" if weights.startswith("random") else weights
    command = [sys.executable, "-m", "benchmarks.plain_loop", photos, encoder, file, str(workers), output]
    subprocess.run(command, check=True, env=HERE, capture_output=True)


def limits(folder, photos, seconds=4.0):
    """Images/s of the encoder alone, and core-seconds that decoding one image takes."""
    encoder = open_encoder(folder, "cpu")
    files = [path.read_bytes() for path in sorted(photos.iterdir())[:128]]
    decode(files[0], encoder.spec.transform)
    begun = time.process_time()
    images = np.stack([decode(data, encoder.spec.transform) for data in files])
    decoding = (time.process_time() - begun) / len(files)
    batching, done = Batching(encoder, CPU_BATCH), 0
    batching.encode(images, iter(range(16)), lambda: None)
    begun = time.perf_counter()
    while time.perf_counter() - begun < seconds:
        batching.encode(images, iter(range(len(images))), lambda: None)
        done += len(images)
    rate = done / (time.perf_counter() - begun)
    batching.close()
    return rate, decoding


def measure(options, scratch):
    more = ["--precision", options.precision, *(["--fast-decode"] if options.fast_decode else [])]
    photos = crops(options.photos, scratch / "photos", options.count)
    folder = enqueue(photos, scratch / "workspace", options.encoder, options.weights, *more)
    count = options.count
    plains = {workers: [] for workers in map(int, options.workers.split(","))}
    rounds = {"ours": [], "alone": [], "decoding_ms": [], "load": []}
    for repetition in range(options.repeats):
        best = max(plains, key=lambda workers: max(plains[workers], default=0))
        for workers in plains if repetition == 0 else [best]:
            took = seconds_of(lambda w=workers: plain(photos, options.encoder, options.weights, w, scratch / "plain.npy"))
            plains[workers].append(count / took)
        forget(folder)
        rounds["ours"].append(count / seconds_of(lambda: headstart("work", "--device", "cpu", "-w", scratch / "workspace")))
        alone, decoding = limits(folder, photos)
        rounds["alone"].append(alone)
        rounds["decoding_ms"].append(1000 * decoding)
        rounds["load"].append(os.getloadavg()[0])
    middle = {name: statistics.median(values) for name, values in rounds.items()}
    plain_best = max(statistics.median(values) for values in plains.values())
    attainable = 1 / (1 / middle["alone"] + middle["decoding_ms"] / 1000 / cores())
    return {
        "encoder": options.encoder,
        "precision": options.precision,
        "fast_decode": options.fast_decode,
        "photos": count,
        "plain_images_per_s": plain_best,
        "ours_images_per_s": middle["ours"],
        "ratio": middle["ours"] / plain_best,
        "encoder_alone_images_per_s": middle["alone"],
        "efficiency": middle["ours"] / middle["alone"],
        "decoding_core_ms": middle["decoding_ms"],
        "attainable_images_per_s": attainable,
        "of_attainable": middle["ours"] / attainable,
        "rounds": {**rounds, "plain_by_workers": plains},
        "machine": {"processor": platform.processor() or platform.machine(), "cores": cores(), "timm": timm.__version__},
    }


def main():
    parser = arguments(__doc__)
    parser.add_argument("--count", type=int, default=1024)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--workers", default="0,1,2", help="of the plain loop; its best counts")
    parser.add_argument("--precision", default="float32", choices=("float32", "bfloat16", "int8"))
    parser.add_argument("--fast-decode", action="store_true")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        found = measure(options, Path(scratch))
    for name, value in found.items():
        if isinstance(value, float):
            print(f"{name:28} {value:9.2f}")
    print(f"{'rounds':28} {json.dumps(found['rounds'], default=float)}")
    if options.json:
        options.json.write_text(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    main()
