"""How long heads of a small set should be given to get better: accuracy on test images, epochs and time by patience.

python -m benchmarks.patience WORKSPACE... [--rows 0] [--patience 41,20,14,10,7] [--seeds 3] [--json FILE]

A workspace has the features of one encoder. Its rows are drawn anew by each seed: 70 % to learn from, 15 % to validate, the rest,
at most 5,000, to test. --rows 1000 draws so many, of all, and tests on others. The heads are those of `train-head --ablation`.
"""

import argparse
import json
import statistics
import time
from pathlib import Path

import numpy as np

from headstart.experiments.config import TrainingOptions, default_ablation, usual_steps
from headstart.experiments.data.feature_source import as_source
from headstart.experiments.data.targets import class_targets
from headstart.experiments.data.training_data import TrainingData
from headstart.experiments.heads.trainer import train
from headstart.features.store.load import load_features

MOST_TESTED = 5000


def drawn(data, seed, rows):
    """Training data of a seed, and the rows that test it."""
    order = np.random.default_rng(seed).permutation(len(data.features))
    count = rows or len(order)
    learnt, judged, rest = np.split(order, [int(0.7 * count), int(0.85 * count)])
    labels = np.asarray(data.labels).astype(np.str_)
    targets = class_targets(labels, np.sort(learnt), [np.sort(judged)])
    source = as_source(data.features.astype(np.float32))
    return TrainingData(source, targets, np.sort(learnt), np.sort(judged)), rest[-MOST_TESTED:], labels


def outcomes_of(data, seed, rows, patience):
    """By head: accuracy in percent, epochs; and seconds of the processor that all took."""
    heads = default_ablation()
    training, tested, labels = drawn(data, seed, rows)
    begun = time.process_time()
    options = TrainingOptions(steps=usual_steps(heads), patience=patience, float32=True)
    done = train(training, heads, options.settled(len(training.train)))
    took = time.process_time() - begun
    accuracy = accuracies(done, data, training, tested, labels)
    return {each.head.config.name: (accuracy[each.head.config.name], len(each.history)) for each in done}, took


def accuracies(outcomes, data, training, tested, labels):
    """In percent, of the rows that test, by head."""
    rows, names = data.features[tested].astype(np.float32), np.array(training.targets.names)
    found = {each.head.config.name: names[each.head.apply(rows).argmax(1)] == labels[tested] for each in outcomes}
    return {name: 100 * float(is_right.mean()) for name, is_right in found.items()}


def features_of(workspace):
    [folder] = (path.parent for path in workspace.glob("features/encoder_*/encoder.json"))
    return load_features(folder)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("workspaces", type=Path, nargs="+")
    parser.add_argument("--rows", type=int, default=0)
    parser.add_argument("--patience", type=lambda text: [int(word) for word in text.split(",")], default=[41, 20, 14, 10, 7])
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    found = {}
    for workspace in options.workspaces:
        data = features_of(workspace)
        for patience in options.patience:
            rounds = [outcomes_of(data, seed, options.rows, patience) for seed in range(options.seeds)]
            found[f"{workspace.name} {patience}"] = rounds
            words = [
                f"{name} {statistics.mean(heads[name][0] for heads, _ in rounds):.2f} % after "
                f"{statistics.mean(heads[name][1] for heads, _ in rounds):.0f} epochs"
                for name in rounds[0][0]
            ]
            seconds = statistics.mean(took for _, took in rounds)
            print(f"{workspace.name}, patience {patience:2}: {', '.join(words)}; {seconds:.1f} s of the processor", flush=True)
    if options.json:
        options.json.write_text(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    main()
