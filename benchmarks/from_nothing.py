"""The first features of a thousand photos: `enqueue` and `work` in an empty workspace beside a plain loop, from process start.

python -m benchmarks.from_nothing PHOTOS [--encoder mobilenetv2_100] [--weights FILE|random:0] [--count 1000] [--repeats 5]
    [--workers 2] [--fast] [--json FILE]

Photos are different crops. Timed besides are a second `enqueue` of unchanged data, one into another workspace, and one with the
embedded encoder. --fast: int8, too, where calibration, which a workspace has once, is told apart. All take turns.
"""

import json
import os
import statistics
import tempfile
from pathlib import Path

from .extract import plain
from .photos import arguments, crops, headstart
from .synthetic import seconds_of, verdict


def measured_round(options, photos, scratch):
    """Seconds of each command, in workspaces of this round."""
    encoder = ("--encoder", options.encoder, "--weights", options.weights)
    took, root = {}, scratch / "float32"

    def timed(name, *words):
        took[name] = seconds_of(lambda: headstart(*words, cache=scratch / "cache"))

    took["plain"] = seconds_of(lambda: plain(photos, options.encoder, options.weights, options.workers, scratch / "plain.npy"))
    timed("enqueue", "enqueue", photos, *encoder, "-w", root)
    timed("work", "work", "--device", "cpu", "-w", root)
    timed("enqueue again", "enqueue", photos, *encoder, "-w", root)
    timed("enqueue elsewhere", "enqueue", photos, *encoder, "-w", scratch / "elsewhere")
    timed("enqueue embedded", "enqueue", photos, "--weights", "embedded", "-w", scratch / "embedded")
    timed("enqueue embedded again", "enqueue", photos, "--weights", "embedded", "-w", scratch / "embedded")
    if options.fast:
        timed("enqueue int8", "enqueue", photos, *encoder, "--precision", "int8", "-w", scratch / "int8")
        timed("work int8", "work", "--device", "cpu", "-w", scratch / "int8")
    took["load"] = os.getloadavg()[0]
    return took


def main():
    parser = arguments(__doc__)
    parser.add_argument("--count", type=int, default=1000)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--workers", type=int, default=2, help="of the plain loop")
    parser.add_argument("--fast", action="store_true")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    rounds = []
    with tempfile.TemporaryDirectory() as folder:
        photos = crops(options.photos, Path(folder) / "photos", options.count)
        for number in range(options.repeats):
            scratch = Path(folder) / f"round-{number}"
            scratch.mkdir()
            rounds.append(measured_round(options, photos, scratch))
            print(" ".join(f"{name} {value:.2f}" for name, value in rounds[-1].items()), flush=True)
    middle = {name: statistics.median(one[name] for one in rounds) for name in rounds[0]}
    first = [one["plain"] / (one["enqueue"] + one["work"]) for one in rounds]
    verdict("enqueue and work from nothing, times a plain loop", statistics.median(first), 5)
    if options.fast:
        # Of int8 all but calibration: the encoder is resolved and exported as for float32.
        first = [one["plain"] / (one["enqueue"] + one["work int8"]) for one in rounds]
        verdict("the same in int8, without calibration", statistics.median(first), 6)
    for name in ("enqueue again", "enqueue embedded again", "enqueue embedded"):
        verdict(f"{name}: seconds", middle[name], 0.5, is_least=False)
    print(f"enqueue into another workspace: {middle['enqueue elsewhere']:.2f} s, the first {middle['enqueue']:.2f} s")
    if options.json:
        options.json.write_text(json.dumps({"medians": middle, "rounds": rounds}, indent=1) + "\n")


if __name__ == "__main__":
    main()
