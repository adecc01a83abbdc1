"""What heads lose, and gain in time, by hidden layers that multiply in bfloat16: on the same rows, in turn with float32.

python -m benchmarks.short_products WORKSPACE... [--rows 0] [--seeds 3] [--json FILE]

Rows are drawn as `benchmarks.patience` draws them; the heads are those of `train-head --ablation`, for as long as it trains them.
"""

import argparse
import json
import statistics
import time
from pathlib import Path

from headstart.experiments.config import TrainingOptions, default_ablation, usual_steps
from headstart.experiments.heads.trainer import train

from .patience import accuracies, drawn, features_of


def trained(data, seed, rows, amp):
    """Accuracy in percent by head, and seconds."""
    heads = default_ablation()
    training, tested, labels = drawn(data, seed, rows)
    begun = time.perf_counter()
    options = TrainingOptions(steps=usual_steps(heads), seed=seed, amp=amp, float32=not amp)
    done = train(training, heads, options.settled(len(training.train)))
    took = time.perf_counter() - begun
    return accuracies(done, data, training, tested, labels), took


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("workspaces", type=Path, nargs="+")
    parser.add_argument("--rows", type=int, default=0)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    found = {}
    for workspace in options.workspaces:
        data = features_of(workspace)
        pairs = [[trained(data, seed, options.rows, amp) for amp in (False, True)] for seed in range(options.seeds)]
        found[workspace.name] = pairs
        for place, name in enumerate(("float32", "bfloat16")):
            heads = [pair[place][0] for pair in pairs]
            words = [f"{head} {statistics.mean(each[head] for each in heads):.2f} %" for head in heads[0]]
            print(
                f"{workspace.name}, {name}: {', '.join(words)}; {statistics.median(p[place][1] for p in pairs):.1f} s", flush=True
            )
    if options.json:
        options.json.write_text(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    main()
