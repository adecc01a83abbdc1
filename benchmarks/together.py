"""Two workers on everything at once, and a training in calls of so many seconds: is each done once, in the bits of one go?

python -m benchmarks.together [LIMIT] [EPOCHS]     30s and 8 unless said otherwise: about 90 s of training on two cores
"""

import hashlib
import json
import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from benchmarks.recipe_kills import photos

ROOT = Path(__file__).resolve().parent.parent
CLASSIFY = ("--encoder", "resnet10t", "--image-size", 64, "--batch-size", 32, "--threads", 1)
COMPARED = ("checkpoints/final.safetensors", "metrics.json", "training_history.json", "test_results.json", "figures/curves.png")


def begin(*words: object) -> subprocess.Popen[str]:
    command = [sys.executable, str(ROOT / "cli.py"), *map(str, words)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def ended(process: subprocess.Popen[str], expected: tuple[int, ...] = (0,)) -> tuple[int, str, str]:
    output, errors = process.communicate()
    if process.returncode not in expected:
        raise SystemExit(f"{process.args} ended with {process.returncode}:\n{errors}")
    return process.returncode, output, errors


def many_calls(data: Path, folder: Path, limit: str, epochs: int) -> str:
    """The same training in one go and in calls of `limit`."""
    words = ("train", "classify", data, *CLASSIFY, "--epochs", epochs)
    begun = time.monotonic()
    ended(begin(*words, "-w", folder / "whole"))
    whole, calls = time.monotonic() - begun, 1
    while ended(begin(*words, "--time-limit", limit, "-w", folder / "calls"), (0, 10))[0] == 10:
        calls += 1
    same = all(_digest(folder / "whole", name) == _digest(folder / "calls", name) for name in COMPARED)
    said = "the same bits" if same else "OTHER BITS"
    return f"{calls} calls of {limit} against one go of {whole:.0f} s: {said} in {len(COMPARED)} files"


def _digest(workspace: Path, name: str) -> str:
    return hashlib.sha256((workspace / "experiments" / "exp_0001_classify" / name).read_bytes()).hexdigest()


def two_workers(data: Path, more: Path, folder: Path, epochs: int) -> str:
    """Extraction, an ablation of heads and two trainings, begun and left, then all brought to their end by two workers."""
    place = ("-w", folder / "together")
    encoder = ("--encoder", "test_resnet", "--weights", "random:0", "--image-size", 32)
    for words in (("enqueue", data, *encoder), ("work",), ("enqueue", more, *encoder)):
        ended(begin(*words, *place))
    for words in (("train-head", "--ablation"), ("train", "tiny"), ("train", "classify", data, *CLASSIFY, "--epochs", epochs)):
        ended(begin(*words, "--time-limit", "0s", *place), (10,))
    waiting = json.loads(ended(begin("status", "--json", *place))[1])["remaining_jobs"]
    begun = time.monotonic()
    said = [ended(worker)[2] for worker in [begin("work", *place) for _ in range(2)]]
    seconds = time.monotonic() - begun
    did = [sum(int(count) for count in re.findall(r"(\d+) jobs? done", text)) for text in said]
    left = json.loads(ended(begin("status", "--json", *place))[1])["remaining_jobs"]
    verdict = "each once" if sum(did) == waiting and not left else "WRONG"
    return f"two workers did {did[0]} + {did[1]} of {waiting} jobs in {seconds:.0f} s, {left} left: {verdict}"


def main() -> None:
    limit, epochs = (*sys.argv[1:], *("30s", "8")[len(sys.argv) - 1 :])
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        data, more = photos(folder / "photos", 400), photos(folder / "more", 200)
        print(two_workers(data, more, folder, int(epochs)), flush=True)
        print(many_calls(data, folder, limit, int(epochs)), flush=True)


if __name__ == "__main__":
    main()
