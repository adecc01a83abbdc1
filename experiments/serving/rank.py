"""Which parameters an image comes out best with: one pass of the encoder, then thousands of rows of a trained head."""

from __future__ import annotations

import itertools
import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from headstart.experiments.heads.trained_head import read_head
from headstart.experiments.runs.catalog import BEST, choose_run, recipe_of_run
from headstart.experiments.training.options import read_config
from headstart.experiments.training.recipe import asking
from headstart.features.encoders.spec import EncoderSpec, read_encoder
from headstart.features.extraction.new_images import encode_new_images, find_new_images
from headstart.pipeline.errors import HeadstartError
from headstart.pipeline.text import printable
from headstart.pipeline.workspace import Workspace, as_workspace

from .predict import _open_batching, answering
from .recipe_run import open_trained

MOST_SETS = 1_000_000


@dataclass(frozen=True)
class Ranking:
    """Attributes:
    target: what is predicted; names: of the parameters.
    sets: (n, p), best first; predicted: (n,) of each.
    encoder_s, head_s: seconds that the image and the sets took; the second without loading anything.
    said_by: the run, for people.
    """

    target: str
    names: tuple[str, ...]
    sets: NDArray[np.float64]
    predicted: NDArray[np.float64]
    encoder_s: float
    head_s: float
    said_by: str


@dataclass(frozen=True)
class _Judge:
    """A head whose input is an image's features and parameters: what it says of features (d,) and sets (n, p), and of what."""

    target: str
    names: tuple[str, ...]
    encoder: Path
    said_by: str
    says: Callable[[NDArray[np.float16], NDArray[np.float64]], NDArray[np.float64]]
    bounds: tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.bool_]] | None


def rank_parameters(
    image: Path,
    workspace: Workspace | Path | str | None = None,
    *,
    run: str | int = BEST,
    grid: Path | None = None,
    count: int = 10_000,
    seed: int = 0,
    lowest_first: bool = False,
) -> Ranking:
    """Sets of parameters for one image, sorted by what the head of `run` predicts of them.

    Args:
        run: of the recipe quality, or of train-head with --aux and one number as target.
        grid: a YAML file with a list of values for each parameter, all of whose combinations are tried; None: `count` sets drawn
            evenly from the ranges that the recipe learnt from.

    Raises: HeadstartError if the image cannot be read, the run takes no parameters, or the grid is no such file or too large.
    """
    opened = as_workspace(workspace)
    judge = _judge(opened, str(run))
    sets = _drawn(judge, count, seed) if grid is None else read_parameter_grid(grid, judge.names)
    spec, begun = read_encoder(judge.encoder), time.perf_counter()
    features = _features(image, judge.encoder, spec)
    encoded = time.perf_counter()
    judge.says(features, sets[:2])  # what is made at the first call is no part of the head's time
    asked = time.perf_counter()
    predicted = judge.says(features, sets)
    order = np.argsort(predicted if lowest_first else -predicted, kind="stable")
    head_s = time.perf_counter() - asked
    return Ranking(judge.target, judge.names, sets[order], predicted[order], encoded - begun, head_s, judge.said_by)


def _features(image: Path, encoder: Path, spec: EncoderSpec) -> NDArray[np.float16]:
    if image.is_dir():
        raise HeadstartError(f"{image} is a folder; parameters are ranked for one image. Name a file in it")
    [encoded] = encode_new_images(find_new_images([image]), spec, partial(_open_batching, encoder, "cpu"))
    if encoded.features is None:
        raise HeadstartError(f"{printable(str(image))}: {encoded.error}")
    return encoded.features


def _judge(workspace: Workspace, run: str) -> _Judge:
    experiment = recipe_of_run(workspace, run)
    if experiment is None:
        return _head_judge(workspace, run)
    trained = open_trained(experiment)
    about = trained.about
    if "auxiliary" not in about or "target" not in about:
        raise HeadstartError(
            f"{experiment.folder.name} takes no parameters beside an image. Name a run of the recipe quality: --run N"
        )

    def says(features: NDArray[np.float16], sets: NDArray[np.float64]) -> NDArray[np.float64]:
        import torch

        with torch.inference_mode(), asking("forward"):
            answer = trained.model(torch.from_numpy(features.astype(np.float32))[None], torch.from_numpy(sets.astype(np.float32)))
        return np.asarray(answer.double().numpy())

    bounds = (np.array(about.lowest), np.array(about.highest), np.array(about.is_whole))
    encoder = workspace.features / about.encoder
    return _Judge(about.target, tuple(about.auxiliary), encoder, experiment.folder.name, says, bounds)


def _head_judge(workspace: Workspace, run: str) -> _Judge:
    chosen = choose_run(workspace, run)
    names, head = tuple(chosen.experiment.auxiliary), read_head(chosen.head_path)
    if not names or head.task != "regression" or len(head.names) != 1:
        raise HeadstartError(
            f"{chosen.words} says no one number of an image and parameters. Train one: train-head --target COLUMN --aux COLUMN"
        )
    answer = answering(head)

    def says(features: NDArray[np.float16], sets: NDArray[np.float64]) -> NDArray[np.float64]:
        parts = np.array_split(sets, max(1, len(sets) // 4096))
        rows = (np.concatenate([np.tile(features.astype(np.float64), (len(part), 1)), part], 1) for part in parts)
        return np.concatenate([answer(part)[:, 0] for part in rows])

    return _Judge(head.names[0], names, chosen.experiment.encoder, chosen.words, says, None)


def _drawn(judge: _Judge, count: int, seed: int) -> NDArray[np.float64]:
    if judge.bounds is None:
        raise HeadstartError(
            "this run does not know what its parameters may be. Say it: --grid FILE.yaml, a list of values for each"
        )
    if not 1 <= count <= MOST_SETS:
        raise HeadstartError(f"--sets is {count:,}, expected 1 to {MOST_SETS:,}")
    low, high, is_whole = judge.bounds
    draws = np.random.default_rng(seed).random((count, len(low)))
    whole = np.floor(low + draws * (high - low + 1))
    return np.asarray(np.where(is_whole, np.minimum(whole, high), low + draws * (high - low)))


def read_parameter_grid(path: Path, names: Sequence[str]) -> NDArray[np.float64]:
    """(n, p): all combinations of what a YAML file lists for each of `names`. Raises: HeadstartError if it is no such file."""
    said = read_config(path)
    unknown = [name for name in said if name not in names]
    missing = [name for name in names if name not in said]
    if unknown or missing:
        problem = f"'{printable(str(unknown[0]))}' is no parameter" if unknown else f"'{printable(missing[0])}' is missing"
        raise HeadstartError(f"{path}: {problem}; the head takes {', '.join(map(printable, names))}")
    lists = [_values(path, name, said[name]) for name in names]
    count = math.prod(map(len, lists))
    if count > MOST_SETS:
        raise HeadstartError(f"{path} has {count:,} combinations, at most {MOST_SETS:,} are ranked. Leave some values out")
    return np.array(list(itertools.product(*lists)), np.float64)


def _values(path: Path, name: str, value: Any) -> list[float]:
    values = value if isinstance(value, list) else [value]
    numbers = [one for one in values if isinstance(one, int | float) and not isinstance(one, bool) and math.isfinite(one)]
    if not values or len(numbers) != len(values):
        raise HeadstartError(f"{path}: {printable(name)} is {value!r}, expected a number or a list of numbers, such as [1, 4, 8]")
    return [float(one) for one in numbers]


def as_mapping(ranking: Ranking, place: int) -> Mapping[str, float]:
    """Parameters of the set at `place` by name."""
    return dict(zip(ranking.names, ranking.sets[place].tolist(), strict=True))
