"""float32, bfloat16 and int8 of one encoder: images a second, cosine, and what logistic regression reaches on their features.

python -m benchmarks.precisions PHOTOS SIGNS CIFAR10.zip FOLDER [--encoder mobilenetv2_100] [--weights FILE|random:0]
    [--train 50000] [--test 10000] [--fold-seeds 10] [--count 1024] [--repeats 5] [--workers 2]

Speed is that of crops of PHOTOS, end to end from process start and of the encoder alone, in turn beside the plain loop. SIGNS, a
folder of class folders, is judged by five folds, drawn anew by each seed: one draw moves a difference by up to half a point.
CIFAR-10 (train/<class>/, test/<class>/) has a split; --train and --test take that many images, as many of each class. Features
are those that `work` commits, each column standardized by the rows that are learnt from, the penalty the same for all precisions.
FOLDER keeps the workspaces and gets precisions.json: killed, the same command goes on where extraction was.
"""

import json
import os
import shutil
import statistics
import zipfile
from pathlib import Path

import numpy as np

from headstart.features.encoders.precision import BFLOAT16, FLOAT32, INT8, PRECISIONS
from headstart.features.encoders.similarity import cosines
from headstart.features.store.load import load_features

from .extract import limits, plain
from .photos import arguments, crops, enqueue, forget, headstart
from .synthetic import seconds_of, verdict

FOLDS = 5
PENALTY = 50.0  # C of LogisticRegression times the rows; CIFAR-10's best of cifar.PENALTIES
LEAST_RATIO = {BFLOAT16: 7.5, INT8: 9.0}  # to the plain loop
MOST_LOST = {"signs": 0.5, "cifar": 0.2}  # points


def measured_speed(options):
    """By precision and of the plain loop: images/s of each round."""
    photos = options.folder / f"photos-{options.count}"
    if not photos.exists():
        beside = photos.with_name(f"{photos.name}.new")
        shutil.rmtree(beside, ignore_errors=True)
        crops(options.photos, beside, options.count).rename(photos)
    encoder = options.encoder, options.weights
    folders = {p: enqueue(photos, options.folder / f"{photos.name}-{p}", *encoder, "--precision", p) for p in PRECISIONS}
    rounds = {name: [] for name in ("plain", *PRECISIONS, *(f"{p} alone" for p in PRECISIONS), "load")}
    for _ in range(options.repeats):
        seconds = seconds_of(lambda: plain(photos, *encoder, options.workers, options.folder / "plain.npy"))
        rounds["plain"].append(options.count / seconds)
        for precision, folder in folders.items():
            forget(folder)
            work = ("work", "--device", "cpu", "-w", folder.parent.parent)
            rounds[precision].append(options.count / seconds_of(lambda words=work: headstart(*words)))
            rounds[f"{precision} alone"].append(limits(folder, photos)[0])
        rounds["load"].append(os.getloadavg()[0])
    return rounds


def unpacked(archive, folder, counts):
    """Puts `counts[split]` images of each split into `folder`, the first ones of each class, unless they are there."""
    if folder.exists():
        return
    beside = folder.with_name(f"{folder.name}.new")
    with zipfile.ZipFile(archive) as opened:
        classes = {}
        for name in sorted(opened.namelist()):
            if name.endswith(".jpg"):
                classes.setdefault(tuple(name.split("/")[-3:-1]), []).append(name)
        for (split, _), names in classes.items():
            each = counts[split] // sum(other == split for other, _ in classes)
            opened.extractall(beside, names[:each])
    beside.rename(folder)


def extracted(images, name, options):
    """Features by precision, in the order of their paths, which are the same."""
    made = {}
    for precision in PRECISIONS:
        workspace = options.folder / f"{name}-{precision}"
        folder = enqueue(images, workspace, options.encoder, options.weights, "--precision", precision)
        headstart("work", "--device", "cpu", "-w", workspace)
        made[precision] = load_features(folder)
    orders = {precision: np.argsort(data.paths) for precision, data in made.items()}
    paths = {precision: [made[precision].paths[i] for i in order] for precision, order in orders.items()}
    if any(paths[precision] != paths[FLOAT32] for precision in PRECISIONS):
        raise SystemExit(f"the precisions have features of other images of {images}")
    first, order = made[FLOAT32], orders[FLOAT32]
    return {p: made[p].features[orders[p]].astype(np.float32) for p in PRECISIONS}, first.labels[order], first.splits[order]


def answered_rightly(rows, labels, train, test):
    """(len(test),) whether logistic regression that learnt from the rows `train` is right."""
    from sklearn.linear_model import LogisticRegression

    mean, scale = rows[train].mean(0), rows[train].std(0)
    scale[scale == 0] = 1
    fit = LogisticRegression(C=PENALTY / len(train), max_iter=500).fit((rows[train] - mean) / scale, labels[train])
    return fit.predict((rows[test] - mean) / scale) == labels[test]


def by_folds(rows, labels, seeds):
    """(seeds, n) whether each image is classified rightly by what was fitted to the other folds."""
    from sklearn.model_selection import StratifiedKFold

    right = np.zeros((seeds, len(labels)), bool)
    for seed in range(seeds):
        for train, test in StratifiedKFold(FOLDS, shuffle=True, random_state=seed).split(rows, labels):
            right[seed, test] = answered_rightly(rows, labels, train, test)
    return right


def judged(name, features, right):
    """Cosine and accuracy of each precision, and its difference to float32 in points with how far it may be off by chance.

    Args:
        right: by precision, (draws, n) answers; the same image of the same draw stands at the same place.
    """
    found = {}
    for precision, rows in features.items():
        alike = cosines(features[FLOAT32], rows)
        differences = 100 * (right[precision].astype(int) - right[FLOAT32])
        of_draws, of_images = differences.mean(1), differences.mean(0)
        found[precision] = {
            "accuracy": 100 * float(right[precision].mean()),
            "difference": float(differences.mean()),
            "standard_error": float(of_images.std(ddof=1) / len(of_images) ** 0.5),
            "least": float(of_draws.min()),
            "most": float(of_draws.max()),
            "median_cosine": float(np.median(alike)),
            "worst_cosine": float(alike.min()),
        }
        facts = found[precision]
        print(
            f"{name:6} {precision:9} {facts['accuracy']:.2f} %, {facts['difference']:+.2f} points (standard error "
            f"{facts['standard_error']:.2f}; {facts['least']:+.2f} to {facts['most']:+.2f} by draw), cosine "
            f"{facts['median_cosine']:.4f}, worst {facts['worst_cosine']:.4f}",
            flush=True,
        )
    return found


def main():
    parser = arguments(__doc__)
    parser.add_argument("signs", type=Path)
    parser.add_argument("archive", type=Path)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--train", type=int, default=50_000)
    parser.add_argument("--test", type=int, default=10_000)
    parser.add_argument("--fold-seeds", type=int, default=10)
    parser.add_argument("--count", type=int, default=1024)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--workers", type=int, default=2, help="of the plain loop")
    options = parser.parse_args()
    options.folder.mkdir(parents=True, exist_ok=True)
    found = {"encoder": options.encoder, "train": options.train, "test": options.test, "speed": measured_speed(options)}
    middle = {name: statistics.median(values) for name, values in found["speed"].items()}
    for name, value in middle.items():
        print(f"{name:20} {value:9.1f}", flush=True)
    features, labels, _ = extracted(options.signs, "signs", options)
    found["signs"] = judged("signs", features, {p: by_folds(rows, labels, options.fold_seeds) for p, rows in features.items()})
    images = options.folder / f"cifar-{options.train}-{options.test}"
    unpacked(options.archive, images, {"train": options.train, "test": options.test})
    features, labels, splits = extracted(images, images.name, options)
    train, test = np.flatnonzero(splits != "test"), np.flatnonzero(splits == "test")
    right = {p: answered_rightly(rows, labels, train, test)[None] for p, rows in features.items()}
    found["cifar"] = judged("cifar", {p: rows[test] for p, rows in features.items()}, right)
    (options.folder / "precisions.json").write_text(json.dumps(found, indent=1) + "\n")
    for precision, least in LEAST_RATIO.items():
        verdict(f"{precision} end to end, times the plain loop", middle[precision] / middle["plain"], least)
    for name, most in MOST_LOST.items():
        verdict(f"int8 loses on {name}, points", -found[name][INT8]["difference"], most, is_least=False)


if __name__ == "__main__":
    main()
