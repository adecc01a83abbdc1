"""What comes after training, on photos in class folders: accuracy and baselines, predictions that agree, exports and their speed.

python -m benchmarks.serve PHOTOS [--encoder mobilenetv2_100] [--weights FILE|random:0] [--images 50] [-w WORKSPACE]
"""

import argparse
import contextlib
import csv
import io
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from .photos import HERE

HELD_OUT = 10


def headstart(*arguments, cwd=None):
    """What the command prints, and its seconds from process start."""
    command = [sys.executable, "-m", "headstart.cli", *map(str, arguments)]
    begun = time.perf_counter()
    done = subprocess.run(command, env=HERE, cwd=cwd, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"{' '.join(command)} exited with {done.returncode}: {done.stderr}")
    return done.stdout, time.perf_counter() - begun


def rows_of(text):
    return list(csv.DictReader(io.StringIO(text)))


def agreement(workspace, photos):
    """Held-out files through `evaluate` and `predict`: equal labels, and the largest difference of probabilities."""
    judged = rows_of(headstart("evaluate", "best", "--csv", "-w", workspace)[0])[:HELD_OUT]
    files = [row["path"] for row in judged]
    text, seconds = headstart("predict", "--device", "cpu", "--csv", "-w", workspace.absolute(), *files, cwd=photos)
    predicted = rows_of(text)
    same = sum(one["label"] == two["label"] for one, two in zip(judged, predicted, strict=True))
    worst = max(abs(float(one["probability"]) - float(two["probability"])) for one, two in zip(judged, predicted, strict=True))
    return same, worst, seconds, files


def one_at_a_time(graph, photos, files):
    """Milliseconds of each image, decoded and answered alone: file to probabilities."""
    import onnxruntime

    from headstart.features.images.decode import decode
    from headstart.features.images.transform import parse_transform

    session = onnxruntime.InferenceSession(graph, providers=["CPUExecutionProvider"])
    transform = parse_transform(json.loads(session.get_modelmeta().custom_metadata_map["headstart"])["encoder"]["transform"])
    found = []
    for file in [*files[:5], *files]:
        begun = time.perf_counter()
        session.run(None, {"images": decode((photos / file).read_bytes(), transform)[None]})
        found.append((time.perf_counter() - begun) * 1000)
    return np.percentile(found[5:], [50, 95])


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("photos", type=Path)
    parser.add_argument("--encoder", default="mobilenetv2_100")
    parser.add_argument("--weights", default="random:0")
    parser.add_argument("--images", type=int, default=50)
    parser.add_argument("-w", "--workspace", type=Path, help="with trained heads; made anew if not given")
    options = parser.parse_args()
    with contextlib.ExitStack() as stack:
        home = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        workspace = options.workspace or home / "workspace"
        if options.workspace is None:
            encoder = ["--encoder", options.encoder, "--weights", options.weights]
            for words in (["enqueue", options.photos, *encoder], ["work", "--device", "cpu"], ["train-head", "--ablation"]):
                _, seconds = headstart(*words, "-w", workspace)
                print(f"{words[0]}: {seconds:.1f} s", flush=True)
        print(headstart("runs", "-w", workspace)[0])
        print(headstart("evaluate", "best", "-w", workspace)[0])
        same, worst, seconds, files = agreement(workspace, options.photos)
        print(
            f"predict on {len(files)} held-out files: {same} labels as in evaluate, probabilities differ by {worst:.1e} at most"
        )
        print(f"predict, process start to exit, {len(files)} files: {seconds:.2f} s")
        print(f"runs, process start to exit: {headstart('runs', '-w', workspace)[1]:.2f} s")
        for form in ("onnx", "torchscript", "pt2"):
            twice = [headstart("export", "--format", form, "-o", home / f"{n}.{form}", "-w", workspace)[0] for n in (1, 2)]
            is_same = (home / f"1.{form}").read_bytes() == (home / f"2.{form}").read_bytes()
            print(twice[0], end="")
            print(f"  twice    {'the same bytes' if is_same else 'OTHER BYTES'}")
        print(headstart("export", "--with-encoder", "-o", home / "whole.onnx", "-w", workspace)[0], end="")
        held_out = [row["path"] for row in rows_of(headstart("evaluate", "best", "--csv", "-w", workspace)[0])]
        median, p95 = one_at_a_time(home / "whole.onnx", options.photos, held_out[: options.images])
        print(f"file to probabilities, one image at a time: {median:.1f} ms median, {p95:.1f} ms p95")


if __name__ == "__main__":
    main()
