"""From 60,000 files to heads, step by step, beside scikit-learn's LogisticRegression on the same features.

python -m benchmarks.cifar CIFAR10.zip [--encoder mobilenetv2_100] [--weights FILE|random:0] [--repeats 3]

The zip has train/<class>/*.jpg and test/<class>/*.jpg. A tenth of the training part validates; scikit-learn learns from the same
rows as the heads, standardized, and is shown at each of three penalties, around the one that does best on mobilenetv2_100. Test
rows are what accuracies are of. The first `train-head` also packs the cache. About 9 minutes on two quiet cores.
"""

import argparse
import json
import statistics
import tempfile
import zipfile
from pathlib import Path

import numpy as np

from headstart.experiments.runs.experiment_data import experiment_data
from headstart.experiments.runs.head_experiment import list_head_experiments
from headstart.pipeline.workspace import open_workspace

from .photos import headstart
from .synthetic import seconds_of, verdict

PENALTIES = (1e-4, 1e-3, 1e-2)


def with_scikit_learn(workspace):
    """Accuracy on test of the best of PENALTIES, on the rows of the first experiment."""
    from sklearn.linear_model import LogisticRegression

    opened = open_workspace(workspace)
    found = experiment_data(opened, list_head_experiments(opened)[0])
    codes, train, test = found.data.targets.codes, found.data.train, found.test
    rows, unseen = (found.data.source.take(part).astype(np.float32) for part in (train, test))
    mean, scale = rows.mean(0), rows.std(0)
    scale[scale == 0] = 1
    rows, unseen, best = (rows - mean) / scale, (unseen - mean) / scale, 0.0
    for penalty in PENALTIES:
        fit = LogisticRegression(C=penalty)
        seconds = seconds_of(lambda model=fit: model.fit(rows, codes[train]))
        accuracy = 100 * fit.score(unseen, codes[test])
        print(f"LogisticRegression(C={penalty:g}) on {len(train):,} rows {seconds:24.1f} s   {accuracy:.2f} %", flush=True)
        best = max(best, accuracy)
    return best


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("archive", type=Path)
    parser.add_argument("--encoder", default="mobilenetv2_100")
    parser.add_argument("--weights", default="random:0")
    parser.add_argument("--repeats", type=int, default=3)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        images, place = Path(scratch) / "images", Path(scratch) / "workspace"
        with zipfile.ZipFile(options.archive) as archive:
            archive.extractall(images)
        chosen = ["--encoder", options.encoder, "--weights", options.weights]
        steps = {"enqueue": ["enqueue", images, *chosen], "work": ["work"]}
        steps |= {f"train-head --ablation, {n}": ["train-head", "--ablation", "--name", f"n{n}"] for n in range(options.repeats)}
        took = {}
        for name, words in steps.items():
            took[name] = seconds_of(lambda w=words: headstart(*w, "-w", place))
            print(f"{name:58} {took[name]:9.1f} s", flush=True)
        accuracies = {}
        for run in json.loads(headstart("runs", "--json", "-w", place).stdout)["runs"]:
            low, high = (100 * end for end in run["interval"])
            accuracies.setdefault(run["head"], 100 * run["test"])
            print(f"{run['experiment']:16} {run['head']:20} {100 * run['test']:.2f} % ({low:.2f} to {high:.2f})", flush=True)
        reference = with_scikit_learn(place)
    verdict("linear head below scikit-learn's best, in points", reference - accuracies["linear"], 0.3, is_least=False)
    verdict("best of the ablation, %", max(accuracies.values()), 79.0)
    middle = statistics.median(seconds for name, seconds in took.items() if name.startswith("train"))
    verdict("train-head --ablation from process start, s", middle, 45, is_least=False)


if __name__ == "__main__":
    main()
