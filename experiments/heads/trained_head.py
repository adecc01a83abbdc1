"""Trained heads: standardization folded in, saved as tensors only, read back without torch where that suffices.

A file of `torch.save` is a zip of raw tensors and a pickle that says how to put them together. The pickle is read as text here
and never run: importing torch alone takes longer than a prediction.
"""

from __future__ import annotations

import hashlib
import io
import itertools
import json
import math
import pickletools
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from headstart.experiments.config import HeadConfig, as_facts, head_config
from headstart.experiments.data.feature_source import FeatureSource, as_float32, by_blocks
from headstart.experiments.data.sigmoid import sigmoid
from headstart.experiments.data.targets import Units
from headstart.features.arrays import DamagedArrays, stored_members, unpacked_size
from headstart.pipeline.doors import reading, records
from headstart.pipeline.errors import ExplainedError, HeadstartError
from headstart.pipeline.files import environment_faults

if TYPE_CHECKING:
    import torch

FORMAT = 2  # with units of numbers; a head without them is written as before there were any
_WITHOUT_UNITS = 1
_BN_EPS = 1e-5


@dataclass(frozen=True)
class TrainedHead:
    """A head that takes raw features.

    Attributes:
        config: as it was trained.
        task, names: classification or regression; classes or targets, k of them.
        layers: weight (out, in) and bias (out,) of each, float32, standardization and the rest folded in.
        fitted: of a head that no gradient trained: its `method` (ridge, lda, ...) and what was chosen for it; else None.
        auxiliary, outputs: units of the auxiliary columns and of predicted numbers; None: as in the table.
    """

    config: HeadConfig
    task: str
    names: tuple[str, ...]
    layers: tuple[tuple[NDArray[np.float32], NDArray[np.float32]], ...]
    fitted: Mapping[str, Any] | None = None
    auxiliary: Units | None = None
    outputs: Units | None = None

    @property
    def inputs(self) -> int:
        """Numbers in a row that it takes: features, then auxiliary columns."""
        return int(self.layers[0][0].shape[1])

    def scores(
        self, source: FeatureSource, positions: NDArray[np.int64], auxiliary: NDArray[np.float32] | None = None
    ) -> NDArray[np.float32]:
        """Logits, or predicted numbers, (len(positions), k)."""

        def scores(block: NDArray[np.int64], half: NDArray[np.float16]) -> NDArray[np.float32]:
            rows = as_float32(half)
            return self.apply(rows if auxiliary is None else np.concatenate([rows, auxiliary[block]], axis=1))

        return by_blocks(source, positions, len(self.names), scores)

    def apply(self, rows: NDArray[np.float32]) -> NDArray[np.float32]:
        """Logits, or predicted numbers, (b, k) of rows (b, d)."""
        import torch

        with torch.no_grad():
            outputs: NDArray[np.float32] = self.module()(torch.from_numpy(np.ascontiguousarray(rows))).numpy()
        is_bounded = self.task == "regression" and self.config.output_for(self.task) == "sigmoid"
        return np.asarray(sigmoid(outputs), np.float32) if is_bounded else outputs

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

        has_units = self.auxiliary is not None or self.outputs is not None
        facts: dict[str, Any] = {
            "format": FORMAT if has_units else _WITHOUT_UNITS,
            "config": as_facts(self.config),
            "task": self.task,
            "names": self.names,
        }
        facts |= {name: units.as_json() for name in ("auxiliary", "outputs") if (units := getattr(self, name)) is not None}
        if self.fitted is not None:
            facts["fitted"] = dict(self.fitted)
        content: dict[str, Any] = {"facts": json.dumps(facts)}
        for number, (weight, bias) in enumerate(self.layers):
            # Copied: what is laid out in another order, as a fitted head may be, could only be read with torch.
            content[f"{number}.weight"], content[f"{number}.bias"] = (
                torch.tensor(np.ascontiguousarray(weight)),
                torch.tensor(bias),
            )
        buffer = io.BytesIO()
        torch.save(content, buffer)
        return buffer.getvalue()

    def for_the_table(self) -> TrainedHead:
        """The same head with its units in the weights: what it takes and says is as in the table.

        Raises: HeadstartError if float32 cannot hold that.
        """
        layers = [(weight.astype(np.float64), bias.astype(np.float64)) for weight, bias in self.layers]
        if self.auxiliary is not None:
            if not self.auxiliary.fits_float32:
                raise HeadstartError(
                    f"an auxiliary column lies about {np.abs(self.auxiliary.mean).max():g} with a spread of "
                    f"{self.auxiliary.scale.min():g}, which float32 cannot hold. Subtract an offset in the table, and train again"
                )
            weight, bias = layers[0]
            weight, count = weight.copy(), len(self.auxiliary.mean)
            weight[:, -count:] /= self.auxiliary.scale
            layers[0] = (weight, bias - weight[:, -count:] @ self.auxiliary.mean)
        outputs = self.outputs
        if outputs is not None and outputs.fits_float32:
            weight, bias = layers[-1]
            layers[-1] = (weight * outputs.scale[:, None], bias * outputs.scale + outputs.mean)
            outputs = None
        return replace(
            self,
            layers=tuple((weight.astype(np.float32), bias.astype(np.float32)) for weight, bias in layers),
            auxiliary=None,
            outputs=outputs,
        )

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
            data = reading.read(path, reading.HEAD_BYTES)
        content = _content(data)
        facts = records.parse_record(content["facts"], path, FORMAT, "Train it again: headstart train-head")
        count = sum(key.endswith(".weight") for key in content)
        layers = tuple((np.asarray(content[f"{i}.weight"]), np.asarray(content[f"{i}.bias"])) for i in range(count))
        units = (Units.from_json(facts.get(name)) for name in ("auxiliary", "outputs"))
        return TrainedHead(
            head_config(facts["config"]), facts["task"], tuple(facts["names"]), layers, facts.get("fitted"), *units
        )
    except FileNotFoundError:
        raise HeadstartError(f"{path} does not exist. The same headstart train-head command makes it again") from None
    except ExplainedError:
        raise
    except Exception as error:  # torch.load raises whatever the damage leads it to
        reason = str(error).splitlines()[0][:120] if str(error) else type(error).__name__
        raise HeadstartError(f"{path} is no head, or damaged ({reason}). Train it again: headstart train-head") from None


def _content(data: bytes) -> dict[str, Any]:
    if unpacked_size(data) > len(data):
        raise DamagedArrays("it is compressed, which torch never does")
    try:
        return read_content(data)
    except UnknownLayout:
        import torch

        content: dict[str, Any] = torch.load(io.BytesIO(data), weights_only=True)
        size = sum(value.numel() * value.element_size() for value in content.values() if isinstance(value, torch.Tensor))
        if size > len(data):  # a view may say that one number stands a million times
            raise DamagedArrays(f"it holds {len(data):,} bytes and unpacks to {size:,}") from None
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
        statistics = running[number]
        if norm and statistics is not None:
            factor = norm[0] / np.sqrt(statistics[1] + _BN_EPS)
            weight, bias = weight * factor[:, None], (bias - statistics[0]) * factor + norm[1]
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


_HARMLESS = {"torch._utils _rebuild_tensor_v2", "torch FloatStorage", "collections OrderedDict"}
_TENSOR = re.compile(r"\d+\.(weight|bias)")


class UnknownLayout(Exception):
    """The file may be sound, but only torch can tell."""


def read_content(data: bytes) -> dict[str, Any]:
    """What `TrainedHead.encode` put into a file: 'facts', a text, and float32 arrays by name.

    Raises: UnknownLayout if torch wrote it in another way; DamagedArrays if the bytes are no such file or damaged.
    """
    members = stored_members(data)
    root = next(iter(members), "").partition("/")[0]
    try:
        if bytes(members[f"{root}/byteorder"]) != b"little":
            raise UnknownLayout("other byte order")
        texts, shapes = _read_pickle(bytes(members[f"{root}/data.pkl"]))
        names = [text for text in texts if _TENSOR.fullmatch(text)]
        if len(names) != len(shapes) or "facts" not in texts[:-1]:
            raise UnknownLayout("other content")
        content: dict[str, Any] = {"facts": texts[texts.index("facts") + 1]}
        for number, (name, shape) in enumerate(zip(names, shapes, strict=True)):
            content[name] = _array(members[f"{root}/data/{number}"], shape)
    except KeyError as error:  # no such member
        raise UnknownLayout(str(error)) from None
    return content


def _read_pickle(data: bytes) -> tuple[list[str], list[tuple[int, ...]]]:
    """All texts, and the shape of each tensor in the order of their storages."""
    texts: list[str] = []
    shapes: list[tuple[int, ...]] = []
    numbers: list[int] | None = None
    try:
        for opcode, argument, _ in pickletools.genops(data):
            if opcode.name == "BINPERSID":  # a storage; then follow offset, shape and strides of the tensor in it
                numbers = []
            elif numbers is not None and opcode.name.startswith("BININT"):
                assert isinstance(argument, int)
                numbers.append(argument)
            elif numbers is not None and opcode.name == "NEWFALSE":
                shapes.append(_shape(numbers))
                numbers = None
            elif opcode.name == "BINUNICODE":
                assert isinstance(argument, str)
                texts.append(argument)
            elif opcode.name in ("GLOBAL", "STACK_GLOBAL") and argument not in _HARMLESS:
                raise UnknownLayout(f"holds {argument}")
    except ValueError as error:  # what pickletools raises for what is no pickle
        raise UnknownLayout(str(error)) from None
    return texts, shapes


def _shape(numbers: list[int]) -> tuple[int, ...]:
    offset, *rest = numbers or [-1]
    shape, strides = tuple(rest[: len(rest) // 2]), rest[len(rest) // 2 :]
    if offset != 0 or strides != [math.prod(shape[axis + 1 :]) for axis in range(len(shape))]:
        raise UnknownLayout("a tensor is not contiguous")
    return shape


def _array(data: memoryview, shape: tuple[int, ...]) -> NDArray[np.float32]:
    if len(data) != 4 * math.prod(shape):
        raise UnknownLayout(f"{len(data)} bytes for a tensor of shape {shape}")
    return np.frombuffer(data, "<f4").reshape(shape).astype(np.float32)  # a copy: torch complains of memory it must not write
