"""The head that `train-head` without options chooses, against the best of scikit-learn's logistic path, over seven sets.

python -m benchmarks.chosen_heads DATA [--weights FILE] [--cache FOLDER] [--seeds 10] [--first-seed 0] [--only NAME]

DATA has `sign-digits/`, `logos/`, `cifar10.zip` and `mnist-train.zip`; digits come with scikit-learn. Features of one encoder are
extracted once a set and stay in the cache; results, too: killed anywhere, the same command goes on. Ours are judged anew where
the code of `experiments/` is another one.

Both learn from the same rows, choose on the same validation rows and are judged on the same test rows. Sets are split 70/15/15 as
`enqueue` does it, once a seed; logos with all logos of a brand in one split. CIFAR-10 has its own test split: a seed draws
a tenth of its training images to validate. A draw of it learns from 70 % and chooses on 15 % of so many training images, a class
as often as another, and is judged on all 10,000 test images. scikit-learn: standardized float32 rows in memory,
`LogisticRegression` as it comes (lbfgs, at most 100 iterations) for 12 values of C from 1e-4 to 10, of equals the smallest. Ours:
rows from the packed cache, all heads, their metrics and their intervals, as in `train-head`.

Two times are taken on each side, in seconds by the clock and of the CPU, imports and files left out. Fits: twelve logistic
regressions, of ours two more beside the best. Ours are from the cached rows on, with the statistics and axes that they need;
theirs from rows that lie standardized in memory. All: ours also trains a head, fits ridge, LDA and nearest mean, and has metrics,
intervals, comparisons and copies of all of them; theirs also reads and standardizes the rows, and has an accuracy of each fit.
Our fits, and all that we do, are to take a quarter of their fits at most.
An hour on two cores, most of it the features of CIFAR-10 and scikit-learn's fits.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import tempfile
import time
import warnings
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from headstart.experiments.config import BaselineOptions, TrainingOptions, linear_head, usual_steps
from headstart.experiments.data.statistics import gather_statistics
from headstart.experiments.evaluation.evaluate_experiment import evaluate_experiment
from headstart.experiments.evaluation.intervals import Sample
from headstart.experiments.heads.trainer import train
from headstart.experiments.linear.axes import axes_of
from headstart.experiments.linear.penalty_path import best_logistic
from headstart.experiments.runs.experiment_data import ExperimentData, data_of
from headstart.experiments.runs.head_experiment import HeadExperiment
from headstart.features.manifest.splits import assign_splits
from headstart.features.sources.digits import write_digits
from headstart.features.sources.source import Image
from headstart.features.store.cached_features import CachedFeatures, Codes
from headstart.features.store.packing import open_cache

from .photos import ROOT, headstart
from .synthetic import verdict

C_VALUES = tuple(float(c) for c in np.geomspace(1e-4, 10, 12))
Answers = dict[str, Any]


@dataclass(frozen=True)
class Set:
    """Attributes:
    source: whose features: a name in SOURCES.
    images: drawn of the source's training images, a class as often as another; 0: all of them.
    is_given: the source says what the test split is.
    """

    name: str
    source: str
    images: int = 0
    is_given: bool = False


SETS = (
    Set("sign digits", "sign-digits"),
    Set("CIFAR-10", "cifar10", is_given=True),
    Set("CIFAR-10, 1,000", "cifar10", 1000, is_given=True),
    Set("CIFAR-10, 200", "cifar10", 200, is_given=True),
    Set("MNIST, 5,000", "mnist"),
    Set("logos by brand", "logos"),
    Set("digits", "digits"),
)


def _cifar(data: Path, folder: Path) -> None:
    with zipfile.ZipFile(data / "cifar10.zip") as archive:
        archive.extractall(folder)


def _mnist(data: Path, folder: Path) -> None:
    with zipfile.ZipFile(data / "mnist-train.zip") as archive:
        names = np.array(sorted(name for name in archive.namelist() if name.endswith(".png")))
        labels = np.array([name.split("/")[1] for name in names])
        for name in names[_drawn(labels, 5000, 0)]:
            archive.extract(name, folder)


def _digits(data: Path, folder: Path) -> None:
    write_digits(folder / "train")


SOURCES: dict[str, Callable[[Path, Path], None] | None] = {  # None: a folder of that name is there already
    "sign-digits": None,
    "logos": None,
    "digits": _digits,
    "mnist": _mnist,
    "cifar10": _cifar,
}


def features_of(source: str, data: Path, weights: str, cache: Path) -> CachedFeatures:
    """From the cache, or extracted into it; goes on where it was killed."""
    workspace, images, make = cache / source, data / source, SOURCES[source]
    begun = time.perf_counter()
    if make is not None:
        images = cache / f"images of {source}"
        if not images.exists():
            with tempfile.TemporaryDirectory(dir=cache) as scratch:
                make(data, Path(scratch) / "made")
                (Path(scratch) / "made").rename(images)
    if not (workspace / "features").exists() or "all jobs are done" not in headstart("work", "-w", workspace).stderr:
        headstart("enqueue", images, "--encoder", "mobilenetv2_100", "--weights", weights, "-w", workspace)
        headstart("work", "-w", workspace)
    print(f"features of {source}: {time.perf_counter() - begun:.0f} s", flush=True)
    return open_cache(next((workspace / "features").glob("encoder_*")))


def _drawn(labels: NDArray[np.str_], count: int, seed: int) -> NDArray[np.int64]:
    """Positions of `count` of `labels`, of each class as many."""
    random, names = np.random.default_rng(seed), np.unique(labels)
    return np.sort(np.concatenate([random.permutation(np.flatnonzero(labels == name))[: count // len(names)] for name in names]))


def split_of(chosen: Set, features: CachedFeatures, seed: int) -> CachedFeatures:
    """The same rows with the splits of a seed; those that were not drawn have none."""
    labels, given, paths = features.labels, features.splits, features.paths
    names = np.full(len(features), "", "<U5")
    if chosen.is_given:
        names[given == "test"] = "test"
    others = np.flatnonzero(given != "test") if chosen.is_given else np.arange(len(features))
    if chosen.images:
        others = others[_drawn(labels[others], chosen.images, seed)]
    brands = [Path(paths[row]).stem.split("-")[0] if chosen.source == "logos" else "" for row in others]
    images = [
        Image(path=paths[row], label=str(labels[row]), split="", group=brand, size=0, mtime_ns=0)
        for row, brand in zip(others, brands, strict=True)
    ]
    if chosen.is_given and not chosen.images:
        names[others] = "train"
        names[np.random.default_rng(seed).permutation(others)[: len(others) // 10]] = "val"
    else:
        drawn = np.array(assign_splits(images, {}, seed))
        names[others] = np.where(drawn == "test", "", drawn) if chosen.is_given else drawn
    groups = np.full(len(features), "", f"<U{max(1, *map(len, brands))}")
    groups[others] = brands
    return replace(features, rows=replace(features.rows, split=_coded(names), group=_coded(groups)))


def _coded(values: NDArray[np.str_]) -> Codes:
    names, codes = np.unique(values, return_inverse=True)
    return Codes(tuple(map(str, names)), codes.astype(np.int32))


class _Spent(NamedTuple):
    """Seconds by the clock, and of the CPU."""

    wall: float
    cpu: float

    @classmethod
    def since(cls, begun: float, cpu: float) -> _Spent:
        return cls(time.perf_counter() - begun, time.process_time() - cpu)


def _fits(data: ExperimentData) -> None:
    """All that `train-head` does for its logistic path."""
    source, targets, rows = data.data.source, data.data.targets, data.data.train
    statistics = gather_statistics(source, targets, {"train": rows})["train"]
    best_logistic(source, targets, rows, statistics, data.data.val, axes=axes_of(source, rows, statistics))


def _import_everything() -> None:
    """What either side would otherwise import within the first measurement."""
    import scipy.optimize
    import scipy.sparse
    import scipy.special
    import scipy.stats  # noqa: F401
    import sklearn.linear_model
    import sklearn.metrics
    import sklearn.preprocessing  # noqa: F401
    import threadpoolctl  # noqa: F401


def ours(features: CachedFeatures) -> Answers:
    """What `train-head` without options does between reading its command and writing its files."""
    begun, cpu = time.perf_counter(), time.process_time()
    data = data_of(features, "classification", (), (), 0.0)
    experiment = HeadExperiment(
        folder=features.folder.parent.parent / "experiments" / "exp_0001_linear",
        number=1,
        name="linear",
        data=features.digest,
        counts=data.counts,
        encoder=features.folder,
        fingerprint=features.rows.fingerprint,
        task="classification",
        heads=(linear_head(),),
        options=TrainingOptions(steps=usual_steps((linear_head(),))),
        targets=(),
        auxiliary=(),
        val_part=0.0,
        rows_sha256="",
        baselines=BaselineOptions(logistic=True),
    )
    trained = train(data.data, experiment.heads, experiment.options.settled(len(data.data.train)))
    evaluation = evaluate_experiment(experiment, data, trained)
    everything = _Spent.since(begun, cpu)
    begun, cpu = time.perf_counter(), time.process_time()
    _fits(data)
    fits = _Spent.since(begun, cpu)
    judged = evaluation.metrics
    entries = {entry.get("head") or entry["baseline"]: entry for entry in (*judged["heads"], *judged["baselines"])}
    return {
        "fits": fits,
        "everything": everything,
        "chosen": judged["selected"],
        "test": entries[judged["selected"]]["test"]["accuracy"],
        "right": _packed(evaluation.scores.argmax(axis=1) == data.data.targets.codes[data.test]),
        "all": {name: [entry["val"]["accuracy"], entry["test"]["accuracy"]] for name, entry in entries.items()},
    }


def scikit_learns(data: ExperimentData) -> Answers:
    """The best of twelve fits on validation."""
    from sklearn.linear_model import LogisticRegression
    from sklearn.preprocessing import StandardScaler

    codes, source = data.data.targets.codes, data.data.source
    parts = (data.data.train, data.data.val, data.test)
    begun_all, begun_all_cpu = time.perf_counter(), time.process_time()
    train_rows, val_rows, test_rows = (source.take(part).astype(np.float32) for part in parts)
    scaler = StandardScaler().fit(train_rows.astype(np.float64))  # as float32 its variances lose digits
    train_rows, val_rows, test_rows = (scaler.transform(rows).astype(np.float32) for rows in (train_rows, val_rows, test_rows))
    fits, spent, best, right = [], [], -1.0, None
    for c in C_VALUES:
        begun, begun_cpu = time.perf_counter(), time.process_time()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # that it has not converged is how it comes
            fit = LogisticRegression(C=c).fit(train_rows, codes[data.data.train])
        spent.append(_Spent.since(begun, begun_cpu))
        val = float(fit.score(val_rows, codes[data.data.val]))
        is_right = fit.predict(test_rows) == codes[data.test]
        fits.append([c, val, float(is_right.mean())])
        if val > best:
            best, right = val, is_right
    assert right is not None
    return {
        "fits": [sum(each) for each in zip(*spent, strict=True)],
        "everything": _Spent.since(begun_all, begun_all_cpu),
        "test": float(right.mean()),
        "right": _packed(right),
        "of_each": fits,
    }


def _packed(right: NDArray[np.bool_]) -> str:
    return np.packbits(right).tobytes().hex()


def kept(path: Path, make: Callable[[], Answers]) -> Answers:
    """What is in the file, else made and put there."""
    if not path.exists():
        answers = make()
        path.parent.mkdir(parents=True, exist_ok=True)
        half = path.with_suffix(".half")
        half.write_text(json.dumps(answers))
        half.replace(path)
    found: Answers = json.loads(path.read_text())
    return found


def code_digest() -> str:
    """Of everything that decides what our heads are."""
    digest = hashlib.sha256()
    for path in [*sorted((ROOT / "experiments").rglob("*.py")), Path(__file__)]:
        digest.update(path.read_bytes())
    return digest.hexdigest()[:16]


def interval_of(differences: list[float], one: Answers, two: Answers) -> tuple[float, float]:
    """95 % interval of the mean difference: Student's over the seeds, of a single one that of paired answers."""
    from scipy.stats import t

    if len(differences) > 1:
        half = float(t.ppf(0.975, len(differences) - 1)) * float(np.std(differences, ddof=1)) / len(differences) ** 0.5
        return float(np.mean(differences)) - half, float(np.mean(differences)) + half
    bits = [np.unpackbits(np.frombuffer(bytes.fromhex(each["right"]), np.uint8)).astype(bool) for each in (one, two)]
    low, high = Sample(len(bits[0])).paired(*bits)
    assert low is not None
    assert high is not None
    return 100 * low, 100 * high


def judged(chosen: Set, features: CachedFeatures, cache: Path, code: str, seeds: range) -> Iterator[tuple[Answers, Answers]]:
    """Our answers and scikit-learn's, a pair a split. Args: code: digest of ours."""
    for seed in seeds:
        split = split_of(chosen, features, seed)
        name = f"{chosen.name} {seed}.json"
        mine = kept(cache / "ours" / code / name, lambda split=split: ours(split))

        def reference(split: CachedFeatures = split) -> Answers:
            return scikit_learns(data_of(split, "classification", (), (), 0.0))

        yield mine, kept(cache / "scikit-learn, two times" / name, reference)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("--weights", default="random:0", help="of mobilenetv2_100")
    parser.add_argument("--cache", type=Path, default=Path(tempfile.gettempdir()) / "headstart-chosen-heads")
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--first-seed", type=int, default=0, metavar="N")
    parser.add_argument("--only", action="append", metavar="NAME", help="a set, or how its name begins; repeatable")
    options = parser.parse_args()
    options.cache.mkdir(parents=True, exist_ok=True)
    wanted = [each for each in SETS if options.only is None or each.name.startswith(tuple(options.only))]
    means, worst, spent, code = [], [], np.zeros((2, 2, 2)), code_digest()
    seeds = range(options.first_seed, options.first_seed + options.seeds)
    _import_everything()
    for chosen in wanted:
        features = features_of(chosen.source, options.data, options.weights, options.cache)
        pairs = list(judged(chosen, features, options.cache, code, seeds))
        differences = [100 * (mine["test"] - theirs["test"]) for mine, theirs in pairs]
        low, high = interval_of(differences, *pairs[0])
        times = np.sum([[[side["fits"], side["everything"]] for side in pair] for pair in pairs], axis=0)
        spent += times  # by side, by what was done, by clock and CPU
        means.append(float(np.mean(differences)))
        worst.append(high)
        names = [mine["chosen"] for mine, _ in pairs]
        counts = ", ".join(f"{name} {names.count(name)}" for name in sorted(set(names), key=names.count, reverse=True))
        ours_mean, theirs_mean = (100 * float(np.mean([each[i]["test"] for each in pairs])) for i in (0, 1))
        print(f"{chosen.name:16} {len(pairs):3} splits  ours {ours_mean:6.2f}  scikit-learn {theirs_mean:6.2f}  "
              f"difference {means[-1]:+.2f} ({low:+.2f} to {high:+.2f})  [{counts}]  CPU seconds: "
              f"fits {times[0, 0, 1]:.1f} against {times[1, 0, 1]:.1f}, all {times[0, 1, 1]:.1f} against {times[1, 1, 1]:.1f}",
              flush=True)  # fmt: skip
        for name in pairs[0][0]["all"]:
            gap = np.mean([100 * (m["all"].get(name, [0, 0])[1] - t["test"]) for m, t in pairs])
            print(f"    {name} alone: {gap:+.2f}", flush=True)
    print()
    verdict("mean difference of test accuracy, points", float(np.mean(means)), -0.1)
    verdict("sets that are significantly below", sum(high < 0 for high in worst), 0, is_least=False)
    for place, unit in enumerate(("wall", "CPU")):
        part = spent[0, 0, place] / spent[1, 0, place]
        verdict(f"our fits, part of scikit-learn's twelve ({unit})", part, 0.25, is_least=False)
        part = spent[0, 1, place] / spent[1, 0, place]
        verdict(f"all that we do, part of scikit-learn's twelve ({unit})", part, 0.25, is_least=False)
    for place, unit in enumerate(("wall", "CPU")):
        print(f"all that we do, part of all that scikit-learn does ({unit}): {spent[0, 1, place] / spent[1, 1, place]:.2f}")


if __name__ == "__main__":
    main()
