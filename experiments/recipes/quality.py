"""How well an image will come out of an optimizer or vectorizer, from its features and the parameters, without running it.

headstart ingest results/ --images logos/ --out results.csv
headstart enqueue logos/ --encoder mobilenetv2_100 --stages --image-stats
headstart work
headstart train quality --results results.csv --features early --image-stats

The classic head (inputs -> 1024 -> 512 -> 256 -> 1) and boosted trees, each fitted once a fold of the images and judged on those
that it has not seen, so that no image is on both sides. Beside it stands what a split of rows says that lets the same images into
both: it is named `leaking`, and too good. What is exported is fitted on all images but those of the test split.
"""

from __future__ import annotations

import hashlib
import itertools
import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from headstart.experiments.data.group_folds import group_folds
from headstart.experiments.data.named_features import find_features
from headstart.experiments.data.results_table import Results, places_among, read_results
from headstart.experiments.evaluation.intervals import Sample
from headstart.experiments.linear.boosted_trees import MAX_DEPTH, Forest, TreeOptions, fit_trees, said_beside, screened
from headstart.experiments.training.data.batch import Batch, Facts, Step
from headstart.experiments.training.data.keys import Key
from headstart.experiments.training.data.sets import Rows, Splits, Subset
from headstart.experiments.training.judging.by_image import number_metrics, pearson_metric
from headstart.experiments.training.judging.evaluation import Batches
from headstart.experiments.training.judging.metrics import Metric, Table, gather
from headstart.experiments.training.judging.plots import bars_plot, curve_plot, points_plot
from headstart.experiments.training.options import RecipeOptions, option
from headstart.features.encoders.spec import read_encoder
from headstart.features.sources.results.optimizer_results import PARAMETERS
from headstart.pipeline.errors import HeadstartError
from headstart.pipeline.text import plural, printable
from headstart.pipeline.workspace import Workspace

_KINDS = ("logo_type", "method")
HEADS = ("classic", "trees")
_MOST_KINDS = 12  # of a column that numbers are said for apart
_TREES_AT_ONCE = 2048
_CURVE_PARTS = (1 / 8, 1 / 4, 1 / 2, 1)  # of the images of the other folds
_FEWEST_IMAGES = 3
_FARTHEST = 5.0  # standard deviations
# What the columns of a part of the inputs count for together. Would each column count alike, thousands of features would drown
# eight parameters and sixteen statistics, and a head would learn a few hundred images by heart instead of how they differ.
_COUNTS_FOR = {"pooled": 1.2, "stages": 1.6, "image_stats": 6.0, "auxiliary": 6.0}


@dataclass(frozen=True)
class Options(RecipeOptions):
    results: Path | None = option(None, "the table of results, as headstart ingest writes it")
    data: str | None = option(None, "an encoder's folder with features of the images; none: the only one")
    target: str = option("ssim", "column to predict")
    aux: tuple[str, ...] = option(tuple(PARAMETERS), "columns of what was done")
    features: str = option("pooled", "early: with the encoder's stages", choices=("pooled", "early", "none"))
    image_stats: bool = option(False, "sixteen statistics of the image, too")
    head: str = option("auto", "which one answers; auto: the better one on the validation images", choices=("auto", *HEADS))
    folds: int = option(5, "of the images, whose heads judge what they have not seen", at_least=2, at_most=20)
    hidden: tuple[int, ...] = option((1024, 512, 256), "widths of the classic head", at_least=1)
    dropout: tuple[float, ...] = option((0.2, 0.1, 0.0), "parts of these that are dropped", at_least=0, below=1)
    trees: int = option(400, "boosted trees", at_least=1, at_most=2000)
    screened: int = option(160, "features that trees look at, those most correlated with the target", at_least=1)
    epochs: int = 8
    batch_size: int = 128
    learning_rate: float = 1e-3
    weight_decay: float = 0.05


@dataclass(frozen=True)
class ResultTable:
    """Rows of results beside the features of their images.

    Attributes:
        features: (images, d) float32.
        results: n of them, of these images.
        fold: (n,) of its image; leak: (n,) likewise of the row alone.
        split: (n,) of its image.
    """

    features: NDArray[np.float32]
    results: Results
    fold: NDArray[np.int64]
    leak: NDArray[np.int64]
    split: NDArray[np.str_]


class ResultRows:
    """A row a result; the features of its image are looked up, not repeated."""

    is_ready = True

    def __init__(self, table: ResultTable) -> None:
        self.table = table

    def __len__(self) -> int:
        return len(self.table.results)

    @property
    def digest(self) -> str:
        table, results = self.table, self.table.results
        sha256 = hashlib.sha256(json.dumps([list(results.images), {k: v.tolist() for k, v in results.kinds.items()}]).encode())
        for array in (table.features, results.image, results.values, results.target, table.fold, table.leak):
            sha256.update(np.ascontiguousarray(array).data)
        sha256.update(json.dumps(table.split.tolist()).encode())
        return sha256.hexdigest()

    def batch(self, rows: Rows, key: Key | None) -> Batch:
        table, results = self.table, self.table.results
        arrays: dict[str, NDArray[Any]] = {
            "features": table.features[results.image[rows]],
            "values": results.values[rows],
            "target": results.target[rows],
            "fold": table.fold[rows],
            "leak": table.leak[rows],
            "is_test": table.split[rows] == "test",
            "image": results.image[rows],
        }
        return Batch({name: torch.from_numpy(np.ascontiguousarray(array)) for name, array in arrays.items()})

    def column(self, name: str) -> Any:
        return self.table.results.kinds[name]


def data(options: Options, workspace: Workspace) -> Splits:
    table, about, notes, name = _table(options, workspace)
    rows = ResultRows(table)
    val = Subset(rows, np.flatnonzero(table.split == "val"))
    if not len(val):
        raise HeadstartError("no image with results is in the split 'val', and epochs are chosen by it. Enqueue more images")
    return Splits(rows, val, rows, about, notes, settled={"data": name})


def _table(options: Options, workspace: Workspace) -> tuple[ResultTable, dict[str, Any], tuple[str, ...], str]:
    if options.results is None:
        raise HeadstartError("--results is missing: the table that headstart ingest writes")
    if not options.aux:
        raise HeadstartError("--aux names no column, so all results of an image would look alike. Name those of what was done")
    if len(options.dropout) not in (1, len(options.hidden)):
        raise HeadstartError(
            f"--dropout has {len(options.dropout)} numbers for {len(options.hidden)} layers. Give one, or one each"
        )
    cached, name = find_features(workspace, options.data)
    spec = read_encoder(cached.folder)
    places, names_of_parts = _places(
        options, spec.parts.places() if spec.parts else {"pooled": slice(0, spec.embed_dim)}, cached.folder.name
    )
    results = read_results(options.results, options.target, options.aux, _KINDS)
    position = places_among(results.images, cached.paths)
    is_there = position >= 0
    if not is_there.any():
        raise HeadstartError(
            f"none of the {len(results.images):,} images of the table has features; the first is {printable(results.images[0])}, "
            f"and an enqueued one is {printable(cached.paths[0])}. Enqueue the table itself, or the folder of its images"
        )
    notes = _notes(results, is_there)
    used = is_there[results.image]
    kept, image = np.unique(results.image[used], return_inverse=True)
    results = Results(
        tuple(results.images[number] for number in kept),
        image,
        results.values[used],
        results.target[used],
        {column: values[used] for column, values in results.kinds.items()},
    )
    _require_different(results, options)
    vectors = cached.take(position[kept]).astype(np.float32)
    features = np.concatenate([vectors[:, place] for place in places], 1) if places else vectors[:, :0]
    names = np.array(results.images)
    fold = group_folds(names, options.folds, options.seed)[image]
    leak = np.random.default_rng(options.seed).permutation(len(results)) % options.folds
    table = ResultTable(features, results, fold, leak, np.asarray(cached.splits)[position[kept]][image])
    lowest, highest = results.values.min(0), results.values.max(0)
    is_whole = (results.values == np.round(results.values)).all(0)
    about = {
        "target": options.target,
        "auxiliary": list(options.aux),
        "places": [[place.start, place.stop] for place in places],
        "parts": names_of_parts,
        "inputs": int(spec.embed_dim),
        "lowest": lowest.tolist(),
        "highest": highest.tolist(),
        "middle": np.median(results.values, 0).tolist(),
        "is_whole": is_whole.tolist(),
        "encoder": cached.folder.name,
        "images": len(kept),
    }
    return table, about, tuple(notes), name


def _places(options: Options, there: Mapping[str, slice], encoder: str) -> tuple[list[slice], list[str]]:
    wanted = {"pooled": ["pooled"], "early": ["pooled", "stages"], "none": []}[options.features]
    wanted += ["image_stats"] if options.image_stats else []
    flags = {"stages": "--stages", "image_stats": "--image-stats"}
    for name in wanted:
        if name not in there:
            raise HeadstartError(
                f"{encoder} keeps no such features. Enqueue the images again with {flags[name]}, then headstart work"
            )
    return [there[name] for name in wanted], wanted


def _notes(results: Results, is_there: NDArray[np.bool_]) -> list[str]:
    many = plural(len(results), "result")
    notes = [
        f"{many} of {plural(len(results.images), 'image')}: all results of an image are on one side of every split, but for the "
        "figures named leaking"
    ]
    if not is_there.all():
        first = results.images[int(np.flatnonzero(~is_there)[0])]
        notes.append(f"{plural(int((~is_there).sum()), 'image')} without features left out, such as {printable(first)}")
    return notes


def _require_different(results: Results, options: Options) -> None:
    if len(results.images) < max(options.folds, 4):
        raise HeadstartError(
            f"{plural(len(results.images), 'image')} cannot make {options.folds} folds. Take more images, or fewer --folds"
        )
    if float(results.target.std()) == 0:
        raise HeadstartError(f"all {len(results):,} results have the same {printable(options.target)}: there is nothing to learn")


class Bank(nn.Module):
    """C heads of one shape that share no weight, as products of three-dimensional arrays."""

    def __init__(self, copies: int, widths: Sequence[int], dropout: Sequence[float]) -> None:
        super().__init__()
        pairs = list(itertools.pairwise(widths))
        self.dropout = [*dropout] * (len(pairs) - 1) if len(dropout) == 1 else [*dropout]
        self.weights = nn.ParameterList(
            nn.Parameter(torch.empty(copies, before, after).uniform_(-1, 1) / math.sqrt(before)) for before, after in pairs
        )
        self.biases = nn.ParameterList(nn.Parameter(torch.zeros(copies, 1, after)) for _, after in pairs)

    def forward(self, rows: Tensor) -> Tensor:
        """(C, b) of rows (C, b, d)."""
        values = rows
        for number, (weight, bias) in enumerate(zip(self.weights, self.biases, strict=True)):
            values = torch.baddbmm(bias, values, weight)
            if number < len(self.weights) - 1:
                values = F.dropout(values.relu(), self.dropout[number], self.training)
        return values[..., 0]


def _weights(about: Facts) -> list[float]:
    """What each input is multiplied with once it is standardized."""
    lengths = [*(stop - start for start, stop in about.places), len(about.auxiliary)]
    weights: list[float] = []
    for name, length in zip([*about.parts, "auxiliary"], lengths, strict=True):
        weights += [_COUNTS_FOR[name] / math.sqrt(length)] * length
    return weights


def _standardized(rows: Tensor, mean: Tensor, scale: Tensor, weight: Tensor) -> Tensor:
    """In units of the training rows, cut where none of them was: one number of an image unlike all others must not decide."""
    return ((rows - mean) / scale).clamp(-_FARTHEST, _FARTHEST) * weight


class QualityHeads(nn.Module):
    """The classic head and boosted trees: for each fold of the images one that has not seen it, one for the leaking split, and
    last the one that answers. Called with vectors (b or 1, d) and parameters (b, p) it gives (b,)."""

    def __init__(self, options: Options, about: Facts) -> None:
        super().__init__()
        chosen = [place for start, stop in about.places for place in range(start, stop)]
        inputs, copies = len(chosen) + len(about.auxiliary), options.folds + 2
        self.copies, self.folds = copies, options.folds
        self.tree_options = TreeOptions(max_iter=options.trees)
        self.chosen: Tensor
        self.mean: Tensor
        self.scale: Tensor
        self.target_mean: Tensor
        self.target_scale: Tensor
        self.answers: Tensor
        self.weight: Tensor
        self.register_buffer("chosen", torch.tensor(chosen, dtype=torch.int64), persistent=False)
        self.register_buffer("weight", torch.tensor(_weights(about)), persistent=False)
        self.register_buffer("mean", torch.zeros(copies, 1, inputs))
        self.register_buffer("scale", torch.ones(copies, 1, inputs))
        self.register_buffer("target_mean", torch.zeros(copies, 1))
        self.register_buffer("target_scale", torch.ones(copies, 1))
        self.register_buffer("answers", torch.tensor(HEADS.index(options.head) if options.head in HEADS else 0))
        self.bank = Bank(copies, (inputs, *options.hidden, 1), options.dropout)
        shape = copies + options.folds, options.trees, self.tree_options.nodes
        self.feature: Tensor
        self.threshold: Tensor
        self.left: Tensor
        self.right: Tensor
        self.value: Tensor
        self.start: Tensor
        for name in ("feature", "left", "right"):
            self.register_buffer(name, torch.zeros(shape, dtype=torch.int32))
        for name in ("threshold", "value"):
            self.register_buffer(name, torch.zeros(shape))
        self.register_buffer("start", torch.zeros(shape[0]))

    def forward(self, features: Tensor, values: Tensor) -> Tensor:
        seen = features[:, self.chosen].float()
        if not int(self.answers):
            return self._classic(seen, values)
        if len(seen) == 1:
            said = said_beside(self.kept(self.copies - 1), seen[0].cpu().numpy(), values.float().cpu().numpy())
            return torch.from_numpy(said).to(values.device)
        return self._forest(torch.cat([seen, values], 1), self.copies - 1)

    def _classic(self, seen: Tensor, values: Tensor) -> Tensor:
        """The last copy of the bank. One image with many parameters costs its features one product, not one a row."""
        count = values.shape[1]
        mean, scale, weight = self.mean[-1], self.scale[-1], self.bank.weights[0][-1]
        image, beside = slice(None, -count), slice(-count, None)
        own = _standardized(seen, mean[:, image], scale[:, image], self.weight[image])
        hidden = (
            own @ weight[:-count]
            + _standardized(values, mean[:, beside], scale[:, beside], self.weight[beside]) @ weight[-count:]
        )
        hidden = hidden + self.bank.biases[0][-1]
        for number in range(1, len(self.bank.weights)):
            hidden = hidden.relu() @ self.bank.weights[number][-1] + self.bank.biases[number][-1]
        said: Tensor = hidden[:, 0] * self.target_scale[-1] + self.target_mean[-1]
        return said

    def scores(self, rows: Tensor) -> Tensor:
        """(C, b) of every copy of the bank, in units of the targets that it was fitted on, of rows (b, d + p)."""
        said: Tensor = self.bank(_standardized(rows, self.mean, self.scale, self.weight))
        return said

    def predicted(self, rows: Tensor) -> Tensor:
        """(C, b) as `scores`, but as in the table."""
        return self.scores(rows) * self.target_scale + self.target_mean

    def _forest(self, rows: Tensor, number: int) -> Tensor:
        """(b,) of the forest of that number."""
        trees, nodes = self.threshold.shape[1:]
        base = torch.arange(trees, device=rows.device) * nodes
        feature, left, right = (one[number].flatten().long() for one in (self.feature, self.left, self.right))
        threshold, value = self.threshold[number].flatten(), self.value[number].flatten()
        place = base.expand(len(rows), trees)
        for _ in range(MAX_DEPTH):
            goes_left = rows.gather(1, feature[place]) <= threshold[place]
            place = torch.where(goes_left, left[place], right[place]) + base
        return value[place].sum(1) + self.start[number]

    def forest(self, rows: Tensor, number: int) -> Tensor:
        """`_forest`, some rows at a time."""
        return torch.cat([self._forest(part, number) for part in torch.split(rows, _TREES_AT_ONCE)])

    def keep(self, number: int, forest: Forest) -> None:
        for name in ("feature", "threshold", "left", "right", "value"):
            getattr(self, name)[number].copy_(torch.from_numpy(getattr(forest, name)))
        self.start[number] = forest.start

    def kept(self, number: int) -> Forest:
        """What `keep` was given under that number."""
        arrays = (one[number].cpu().numpy() for one in (self.feature, self.threshold, self.left, self.right, self.value))
        feature, threshold, left, right, value = arrays
        return Forest(feature, threshold, left, right, value, float(self.start[number]))


def model(options: Options, about: Facts) -> QualityHeads:
    return QualityHeads(options, about)


def _fitted_on(table: ResultTable, folds: int) -> list[NDArray[np.bool_]]:
    """Of each copy the rows (n,) that it learns from: all but a fold of images, all but a fold of rows, all but test images."""
    return [*(table.fold != number for number in range(folds)), table.leak != 0, table.split != "test"]


def start(model: QualityHeads, options: Options, about: Facts, workspace: Workspace) -> None:
    """Units of every copy, and all trees."""
    table, *_ = _table(options, workspace)
    results = table.results
    count, inputs = len(about.auxiliary), table.features.shape[1]
    rows = np.concatenate([table.features[results.image], results.values], 1)
    fitted = _fitted_on(table, options.folds)
    for number, mask in enumerate(fitted):
        own = rows[mask].astype(np.float64)
        spread = own.std(0)
        model.mean[number, 0] = torch.from_numpy(own.mean(0))
        # What hardly varies on these images may be anything on others: it must not be blown up.
        model.scale[number, 0] = torch.from_numpy(np.maximum(spread, 1e-3 * np.abs(own).max(0)) + (spread == 0))
        wanted = results.target[mask].astype(np.float64)
        model.target_mean[number], model.target_scale[number] = wanted.mean(), wanted.std() or 1.0
    beside = np.arange(inputs, inputs + count)
    for number, mask in enumerate(fitted):
        columns = np.concatenate([_screened(table, mask, options.screened), beside])
        model.keep(number, fit_trees(rows[mask], results.target[mask], model.tree_options, options.seed, columns))
    for number, mask in enumerate(fitted[: options.folds]):
        model.keep(model.copies + number, fit_trees(rows[mask], results.target[mask], model.tree_options, options.seed, beside))


def _screened(table: ResultTable, mask: NDArray[np.bool_], count: int) -> NDArray[np.int64]:
    """Columns of the features, by their correlation with the mean of each image over these rows."""
    image, target = table.results.image[mask], table.results.target[mask]
    seen, unit = np.unique(image, return_inverse=True)
    means = np.bincount(unit, target) / np.bincount(unit)
    return screened(table.features[seen], means, count)


def loss(model: QualityHeads, batch: Batch, step: Step) -> tuple[Tensor, Mapping[str, Any]]:
    rows = torch.cat([batch.features, batch.values], 1)
    wanted = (batch.target - model.target_mean) / model.target_scale
    learns = torch.stack([*(batch.fold != number for number in range(model.folds)), batch.leak != 0, ~batch.is_test.bool()])
    squared = (model.scores(rows) - wanted) ** 2 * learns
    # A sum over the copies: they share no weight, so each is stepped as if it were alone.
    return squared.sum() / len(batch), {"mse_of_a_copy": squared.detach().sum() / learns.sum().clamp(min=1)}


def evaluate(model: QualityHeads, batches: Batches) -> Iterator[Metric | Table]:
    said = _answers(model, batches)
    wanted, images = said["target"], said["image"]
    if batches.split == "val" and batches.options.head == "auto":
        errors = [float(((said[name] - wanted) ** 2).mean()) for name in HEADS]
        model.answers.fill_(int(np.argmin(errors)))
    answering = HEADS[int(model.answers)]
    for metric in number_metrics(said[answering], wanted, images):
        yield replace(metric, is_headline=metric.name == "pearson")
    heads = []
    rows_of_leak = said["leak"] == 0
    mine = slice(None) if rows_of_leak.all() else rows_of_leak
    yield pearson_metric("pearson_leaking", said[f"{answering}_leaking"][mine], wanted[mine], images[mine])
    for name in (*HEADS, "parameters_alone"):
        # The classic head chooses the epoch, whoever answers: trees are as they were fitted at the start.
        judged = [pearson_metric(f"pearson_{name}", said[name], wanted, images, is_judge=name == HEADS[0])]
        if name in HEADS:
            leaking = pearson_metric(f"pearson_{name}_leaking", said[f"{name}_leaking"][mine], wanted[mine], images[mine])
            judged.append(leaking)
        leaks = judged[1].value if len(judged) > 1 else None
        heads.append({"head": name, "grouped": judged[0].value, "leaking": leaks, "answers": name == answering})
        yield from judged
    is_test = said["is_test"].astype(bool)
    if is_test.any() and not is_test.all():
        yield pearson_metric("pearson_of_the_exported", said[f"{answering}_last"][is_test], wanted[is_test], images[is_test])
    yield Table("heads", heads)
    yield from _by_kind(batches, said[answering], wanted, images)


def _answers(model: QualityHeads, batches: Batches) -> dict[str, NDArray[Any]]:
    """Columns by name: what each head says of each row that it has not seen, and what is true."""
    alone = model.copies

    def said(batch: Batch) -> tuple[Tensor, ...]:
        rows = torch.cat([batch.features, batch.values], 1)
        classic = model.predicted(rows)
        fold = batch.fold.long()
        trees, only = rows.new_zeros(len(rows)), rows.new_zeros(len(rows))
        for number in range(model.folds):
            mine = fold == number
            if bool(mine.any()):
                trees[mine] = model.forest(rows[mine], number)
                only[mine] = model.forest(rows[mine], alone + number)
        leaking, last = model.folds, model.copies - 1
        return (
            classic[fold, torch.arange(len(rows), device=fold.device)],
            trees,
            only,
            classic[leaking],
            model.forest(rows, leaking),
            classic[last],
            model.forest(rows, last),
            batch.target,
            batch.image,
            batch.leak,
            batch.is_test,
        )

    names = ("classic", "trees", "parameters_alone", "classic_leaking", "trees_leaking", "classic_last", "trees_last")
    return dict(zip((*names, "target", "image", "leak", "is_test"), gather(batches, said), strict=True))


def _by_kind(batches: Batches, said: NDArray[Any], wanted: NDArray[Any], images: NDArray[Any]) -> Iterator[Metric]:
    rows: Any = batches.rows
    for column in _KINDS:
        try:
            values = np.asarray(rows.column(column))
        except KeyError:
            continue
        kinds = sorted(set(values.tolist()))
        for kind in kinds[:_MOST_KINDS] if len(kinds) > 1 else []:
            mine = values == kind
            yield from number_metrics(said[mine], wanted[mine], images[mine], f" of {column} {printable(kind)}")


def show(model: QualityHeads, batches: Batches) -> Iterator[tuple[str, Any]]:
    """Pictures: how the target is distributed, in all and by kind; predicted against true; what is left, by parameter; and
    whether more images would help."""
    said = _answers(model, batches)
    wanted, predicted = said["target"], said[HEADS[int(model.answers)]]
    about, rows = batches.about, batches.rows
    assert isinstance(rows, ResultRows)
    yield "distribution", bars_plot({"": wanted}, about.target)
    for column, kinds in rows.table.results.kinds.items():
        names = sorted(set(kinds.tolist()))[:_MOST_KINDS]
        yield f"by_{column}", bars_plot({name: wanted[kinds == name] for name in names}, about.target)
    yield "predicted", points_plot(wanted, predicted, f"true {about.target}", "predicted, of images not seen", diagonal=True)
    values = rows.table.results.values
    for number, name in enumerate(about.auxiliary):
        yield f"residual_{name}", points_plot(values[:, number], predicted - wanted, name, f"predicted less true {about.target}")
    curve = list(_learning_curve(model, batches, rows.table))
    if curve:
        yield "learning_curve", curve_plot(curve, "images that boosted trees learn from", "Pearson on images not seen")
        lines = [f"{images:.0f},{value:.4f},{low:.4f},{high:.4f}\n" for images, value, low, high in curve]
        yield "learning_curve.csv", "".join(["images,pearson,low,high\n", *lines]).encode()


def _learning_curve(model: QualityHeads, batches: Batches, table: ResultTable) -> Iterator[tuple[float, float, float, float]]:
    """Images that each fold's trees learn from, what they then say of the images of that fold, and its 95 % interval: of an
    eighth, a quarter, half and all of the images of the other folds."""
    options, results = batches.options, table.results
    rows = np.concatenate([table.features[results.image], results.values], 1)
    beside = np.arange(table.features.shape[1], rows.shape[1])
    turn = np.random.default_rng(options.seed).permutation(len(results.images))
    inside = [table.fold == number for number in range(options.folds)]
    others = [np.unique(results.image[~mine]) for mine in inside]
    for part in _CURVE_PARTS:
        learnt = [images[np.argsort(turn[images])][: round(len(images) * part)] for images in others]
        if min(map(len, learnt)) < _FEWEST_IMAGES:
            continue
        said = np.empty(len(results), np.float32)
        for number, (mine, images) in enumerate(zip(inside, learnt, strict=True)):
            batches.check()
            forest = model.kept(number)
            if part < 1:
                mask = np.isin(results.image, images)
                columns = np.concatenate([_screened(table, mask, options.screened), beside])
                forest = fit_trees(rows[mask], results.target[mask], model.tree_options, options.seed, columns)
            said[mine] = said_beside(forest, rows[0, :0], rows[mine])
        metric = pearson_metric("pearson", said, results.target, results.image)
        if metric.rows is not None and math.isfinite(metric.value):
            low, high = Sample(len(metric.rows)).bca(metric.rows, metric.of)
            if low is not None and high is not None:
                yield float(np.mean([len(images) for images in learnt])), metric.value, low, high


def predict(model: QualityHeads, files: Sequence[Path], options: Options, about: Facts) -> Iterator[Mapping[str, Any]]:
    """Of each image, what is to be expected at the middle of the parameters that it learnt from."""
    from headstart.features.encoders.runtime import open_encoder
    from headstart.features.extraction.memory_budget import plan_batching
    from headstart.features.extraction.new_images import encode_new_images, find_new_images
    from headstart.features.images.watch import picture_seconds

    encoder = Path(about.workspace) / "features" / about.encoder
    middle = torch.tensor([about.middle])

    def open_batching() -> Any:
        return plan_batching(open_encoder(encoder, "cpu", picture_seconds()), None, None, None, 0)[0]

    for encoded in encode_new_images(find_new_images(files), read_encoder(encoder), open_batching):
        if encoded.features is None:
            yield {"error": str(encoded.error)}
            continue
        said = float(model(torch.from_numpy(encoded.features)[None], middle)[0])
        yield {about.target: round(said, 6), "at": dict(zip(about.auxiliary, about.middle, strict=True))}


def example(options: Options, about: Facts) -> tuple[Tensor, Tensor]:
    return torch.zeros(2, about.inputs), torch.tensor([about.lowest, about.highest])


class ClassicAnswer(nn.Module):
    """The last copy of the classic head alone; the unit of what it predicts is in its weights."""

    def __init__(self, heads: QualityHeads) -> None:
        super().__init__()
        self.chosen: Tensor
        self.register_buffer("chosen", heads.chosen.clone(), persistent=False)
        weights = [weight[-1].detach().double() for weight in heads.bank.weights]
        biases = [bias[-1, 0].detach().double() for bias in heads.bank.biases]
        self.mean: Tensor
        self.scale: Tensor
        self.weight: Tensor
        for name in ("mean", "scale"):
            self.register_buffer(name, getattr(heads, name)[-1].clone(), persistent=False)
        self.register_buffer("weight", heads.weight.clone(), persistent=False)
        unit, middle = heads.target_scale[-1].double(), heads.target_mean[-1].double()
        weights[-1], biases[-1] = weights[-1] * unit, biases[-1] * unit + middle
        layers = []
        for weight, bias in zip(weights, biases, strict=True):
            linear = nn.Linear(len(weight), weight.shape[1])
            linear.weight.data, linear.bias.data = weight.T.float().contiguous(), bias.float()
            layers += [linear, nn.ReLU()]
        self.layers = nn.Sequential(*layers[:-1])

    def forward(self, features: Tensor, values: Tensor) -> Tensor:
        rows = torch.cat([features[:, self.chosen], values], 1)
        said: Tensor = self.layers(_standardized(rows, self.mean, self.scale, self.weight))
        return said[:, 0]


class TreesAnswer(nn.Module):
    """The last forest alone."""

    has_thresholds = True  # see `serving.whole`

    def __init__(self, heads: QualityHeads) -> None:
        super().__init__()
        last, nodes = heads.copies - 1, heads.threshold.shape[2]
        base = torch.arange(heads.threshold.shape[1])[:, None] * nodes
        numbers = {
            "chosen": heads.chosen.clone(),
            "base": base[:, 0].clone(),
            "feature": heads.feature[last].long().flatten(),
            "left": (heads.left[last].long() + base).flatten(),
            "right": (heads.right[last].long() + base).flatten(),
            "threshold": heads.threshold[last].flatten().clone(),
            "value": heads.value[last].flatten().clone(),
        }
        self.chosen: Tensor
        self.base: Tensor
        self.feature: Tensor
        self.left: Tensor
        self.right: Tensor
        self.threshold: Tensor
        self.value: Tensor
        for name, one in numbers.items():
            self.register_buffer(name, one, persistent=False)
        self.start = float(heads.start[last])

    def forward(self, features: Tensor, values: Tensor) -> Tensor:
        rows = torch.cat([features[:, self.chosen], values], 1)
        place = self.base + torch.zeros_like(rows[:, :1], dtype=torch.int64)
        for _ in range(MAX_DEPTH):
            goes_left = rows.gather(1, self.feature[place]) <= self.threshold[place]
            place = torch.where(goes_left, self.left[place], self.right[place])
        said: Tensor = self.value[place].sum(1) + self.start
        return said


def exported(model: QualityHeads, options: Options) -> nn.Module:
    """The head that answers, without those of the folds."""
    return TreesAnswer(model) if int(model.answers) else ClassicAnswer(model)
