"""`enqueue` of a million files from process start, its peak memory, and the same again on unchanged data.

python -m benchmarks.many_files [--count 1000000] [--encoder mobilenetv2_100] [--weights FILE|random:0] [--json FILE]

Files are as small as JPEGs come, all different, a thousand a folder, and dated a day before: no date is too young to be trusted.
"""

import argparse
import io
import json
import os
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

import psutil
from PIL import Image

from .photos import HERE
from .synthetic import verdict

A_FOLDER = 1000
EVERY_S = 0.05


def write_files(folder, count):
    """`count` images of one grey, told apart by a comment behind their end."""
    saved = io.BytesIO()
    Image.new("RGB", (8, 8), (120, 120, 120)).save(saved, "JPEG")
    day_before = time.time() - 86_400
    for number in range(count):
        path = folder / f"class_{number // A_FOLDER:05d}" / f"{number:07d}.jpg"
        if number % A_FOLDER == 0:
            path.parent.mkdir(parents=True)
        path.write_bytes(saved.getvalue() + number.to_bytes(8, "little"))
        os.utime(path, (day_before, day_before))


def measured(*words):
    """(seconds, peak memory in MB of the process and of its children together)."""
    begun = time.perf_counter()
    process = subprocess.Popen([sys.executable, "-m", "headstart.cli", *map(str, words)], env=HERE, stdout=subprocess.DEVNULL)
    peak, ended = [0], threading.Event()

    def watch():
        watched = psutil.Process(process.pid)
        while not ended.wait(EVERY_S):
            total = 0
            for each in (watched, *children_of(watched)):
                try:
                    total += each.memory_info().rss
                except psutil.Error:
                    continue
            peak[0] = max(peak[0], total)

    watching = threading.Thread(target=watch)
    watching.start()
    status = process.wait()
    seconds = time.perf_counter() - begun
    ended.set()
    watching.join()
    if status:
        raise SystemExit(f"{words[0]} ended with {status}")
    return seconds, peak[0] / 1e6


def children_of(process):
    try:
        return process.children(recursive=True)
    except psutil.Error:
        return []


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=1_000_000)
    parser.add_argument("--encoder", default="mobilenetv2_100")
    parser.add_argument("--weights", default="random:0")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    found = {"count": options.count, "encoder": options.encoder}
    with tempfile.TemporaryDirectory() as place:
        begun = time.perf_counter()
        write_files(Path(place) / "data", options.count)
        print(f"{options.count:,} files written in {time.perf_counter() - begun:.0f} s", flush=True)
        words = (
            "enqueue",
            Path(place) / "data",
            "--encoder",
            options.encoder,
            "--weights",
            options.weights,
            "-w",
            Path(place) / "w",
        )
        for name in ("first", "again"):
            found[name] = dict(zip(("seconds", "peak_mb"), measured(*words), strict=True))
            print(f"enqueue {name}: {found[name]['seconds']:.1f} s, {found[name]['peak_mb']:.0f} MB at most", flush=True)
    found["load"] = os.getloadavg()[0]
    verdict("enqueue of all files: seconds", found["first"]["seconds"], 120, is_least=False)
    verdict("enqueue of all files: MB at most", found["first"]["peak_mb"], 500, is_least=False)
    if options.json:
        options.json.write_text(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    main()
