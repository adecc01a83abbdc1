"""Trained heads: standardization folded in, saved as tensors only, and as the torch modules that others expect."""

from __future__ import annotations

import hashlib
import io
import itertools
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from headstart.pipeline.errors import HeadstartError
from headstart.pipeline.files import environment_faults

from .configurations import HeadConfig, as_facts, head_config
from .half import as_float32
from .head_file import UnknownLayout, read_content
from .source import FeatureSource, by_blocks

if TYPE_CHECKING:
    import torch

FORMAT = 1
_BN_EPS = 1e-5


@dataclass(frozen=True)
class TrainedHead:
    """A head that takes raw features.

    Attributes:
        config: as it was trained.
        task, names: classification or regression; classes or targets, k of them.
        layers: weight (out, in) and bias (out,) of each, float32, standardization and the rest folded in.
    """

    config: HeadConfig
    task: str
    names: tuple[str, ...]
    layers: tuple[tuple[NDArray[np.float32], NDArray[np.float32]], ...]

    @property
    def inputs(self) -> int:
        """Numbers in a row that it takes: features, then auxiliary columns."""
        return int(self.layers[0][0].shape[1])

    def scores(
        self, source: FeatureSource, positions: NDArray[np.int64], auxiliary: NDArray[np.float32] | None = None
    ) -> NDArray[np.float32]:
        """Logits, or predicted numbers, (len(positions), k)."""

        def scores(found: NDArray[np.int64], half: NDArray[np.float16]) -> NDArray[np.float32]:
            rows = as_float32(half)
            return self.apply(rows if auxiliary is None else np.concatenate([rows, auxiliary[found]], axis=1))

        return by_blocks(source, positions, len(self.names), scores)

    def apply(self, rows: NDArray[np.float32]) -> NDArray[np.float32]:
        """Logits, or predicted numbers, (b, k) of rows (b, d)."""
        import torch

        with torch.no_grad():
            outputs: NDArray[np.float32] = self.module()(torch.from_numpy(np.ascontiguousarray(rows))).numpy()
        is_bounded = self.task == "regression" and self.config.output_for(self.task) == "sigmoid"
        return np.asarray(1 / (1 + np.exp(-outputs)), np.float32) if is_bounded else outputs

    def module(self) -> torch.nn.Module:
        """Linear, activation, Linear, ...: raw features (b, d) to logits or numbers (b, k), in evaluation mode."""
        import torch

        modules: list[torch.nn.Module] = []
        for weight, bias in self.layers:
            linear = torch.nn.Linear(weight.shape[1], weight.shape[0])
            linear.weight.data, linear.bias.data = torch.from_numpy(weight.copy()), torch.from_numpy(bias.copy())
            modules += [linear, torch.nn.ReLU() if self.config.activation == "relu" else torch.nn.GELU()]
        return torch.nn.Sequential(*modules[:-1]).eval()

    def encode(self) -> bytes:
        """File content that `torch.load(weights_only=True)` reads: tensors, and one string of JSON."""
        import torch

        facts = {"format": FORMAT, "config": as_facts(self.config), "task": self.task, "names": self.names}
        content: dict[str, Any] = {"facts": json.dumps(facts)}
        for number, (weight, bias) in enumerate(self.layers):
            content[f"{number}.weight"], content[f"{number}.bias"] = torch.from_numpy(weight), torch.from_numpy(bias)
        buffer = io.BytesIO()
        torch.save(content, buffer)
        return buffer.getvalue()

    @property
    def digest(self) -> str:
        """sha256 (hex) of all weights."""
        digest = hashlib.sha256()
        for pair in self.layers:
            for array in pair:
                digest.update(np.ascontiguousarray(array).tobytes())
        return digest.hexdigest()


def read_head(path: Path) -> TrainedHead:
    """The head at `path`. Raises: HeadstartError if it is missing, damaged, or newer."""
    try:
        with environment_faults(f"cannot read {path}"):
            data = path.read_bytes()
        content = _content(data)
        facts = json.loads(content["facts"])
        if facts["format"] > FORMAT:
            raise HeadstartError(
                f"{path} has format {facts['format']}, this version reads up to {FORMAT}: pip install -U headstart"
            )
        count = sum(key.endswith(".weight") for key in content)
        layers = tuple((np.asarray(content[f"{i}.weight"]), np.asarray(content[f"{i}.bias"])) for i in range(count))
        return TrainedHead(head_config(facts["config"]), facts["task"], tuple(facts["names"]), layers)
    except FileNotFoundError:
        raise HeadstartError(f"{path} does not exist. The same headstart train-head command makes it again") from None
    except HeadstartError:
        raise
    except Exception as error:  # torch.load raises whatever the damage leads it to
        reason = str(error).splitlines()[0][:120] if str(error) else type(error).__name__
        raise HeadstartError(f"{path} is no head, or damaged ({reason}). Train it again: headstart train-head") from None


def _content(data: bytes) -> dict[str, Any]:
    try:
        return read_content(data)
    except UnknownLayout:
        import torch

        content: dict[str, Any] = torch.load(io.BytesIO(data), weights_only=True)
        return content


def folded(
    layers: Sequence[Sequence[NDArray[np.float64]]],
    running: Sequence[tuple[NDArray[np.float64], NDArray[np.float64]] | None],
    inputs: tuple[NDArray[np.float32], NDArray[np.float32]],
    targets: tuple[NDArray[np.float32], NDArray[np.float32]],
) -> tuple[tuple[NDArray[np.float32], NDArray[np.float32]], ...]:
    """Layers that take raw features.

    Args:
        layers: weight (out, in), bias (out,) and with BatchNorm gamma, beta (out,) of each.
        running: BatchNorm's mean and variance of each layer, None without.
        inputs: mean and inverse scale of the features (d,).
        targets: mean and scale that outputs are counted in (k,).
    """
    result = []
    for number, blocks in enumerate(layers):
        weight, bias, *norm = blocks
        found = running[number]
        if norm and found is not None:
            factor = norm[0] / np.sqrt(found[1] + _BN_EPS)
            weight, bias = weight * factor[:, None], (bias - found[0]) * factor + norm[1]
        if number == 0:
            weight = weight * inputs[1].astype(np.float64)
            bias = bias - weight @ inputs[0].astype(np.float64)
        if number == len(layers) - 1:
            weight, bias = weight * targets[1][:, None].astype(np.float64), bias * targets[1] + targets[0]
        result.append((weight.astype(np.float32), bias.astype(np.float32)))
    return tuple(result)


def create_classifier_head(
    in_features: int, num_classes: int, hidden: Sequence[int] = (), dropout: float = 0.0, batch_norm: bool = False
) -> torch.nn.Sequential:
    """An untrained head as a torch module: Linear [, BatchNorm1d], ReLU, Dropout for each hidden layer, then Linear.

    Args:
        hidden: widths; () gives one linear layer.

    Returns: a module from (b, in_features) to logits (b, num_classes), in training mode.
    """
    import torch

    modules: list[torch.nn.Module] = []
    widths = [in_features, *hidden]
    for before, after in itertools.pairwise(widths):
        modules.append(torch.nn.Linear(before, after))
        modules += [torch.nn.BatchNorm1d(after)] if batch_norm else []
        modules += [torch.nn.ReLU(), torch.nn.Dropout(dropout)]
    return torch.nn.Sequential(*modules, torch.nn.Linear(widths[-1], num_classes))
