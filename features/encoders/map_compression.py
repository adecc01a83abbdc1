"""Feature maps made smaller before they are kept: fewer channels (PCA), numbers of one byte, by what lies beside the encoder.

An image's stored map depends on its own map alone, and `restored` is all that heads ever see of it, in training and afterwards.
"""

from __future__ import annotations

import hashlib
import io
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from headstart.features.arrays import DamagedArrays, unpack_npz
from headstart.pipeline.doors import reading
from headstart.pipeline.errors import HeadstartError

if TYPE_CHECKING:
    from torch import nn

PROJECTION_NAME = "encoder.maps.npz"
_MOST_BYTES = 2**28
_LARGEST = 127  # of a number in a byte
_LARGEST_HALF = 65504  # of a float16
_FLOAT = np.dtype(np.float32)
_LARGEST_SCALE = np.float32(_LARGEST_HALF / _LARGEST)
_SHA256 = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True)
class MapCompression:
    """Attributes:
    components: channels that are kept; None: all of them as they are.
    is_int8: whether a number takes one byte instead of two.
    sha256: of `encoder.maps.npz`.
    """

    components: int | None
    is_int8: bool
    sha256: str = ""

    @property
    def name(self) -> str:
        """As --compress says it."""
        return ",".join([*([f"pca:{self.components}"] if self.components else []), *(["int8"] if self.is_int8 else [])])

    def facts(self) -> dict[str, Any]:
        """What `parse_facts` reads, and what fingerprints are made of."""
        return vars(self)


def parse_compression(text: str) -> MapCompression:
    """What --compress says. Raises: HeadstartError if that is none."""
    components: int | None = None
    is_int8 = False
    for part in text.split(","):
        count = part.removeprefix("pca:")
        if part == "int8" and not is_int8:
            is_int8 = True
        elif part.startswith("pca:") and components is None and count.isdecimal() and 0 < int(count) < 2**16:
            components = int(count)
        else:
            raise HeadstartError(f"--compress {text[:60]}: write pca:N, int8 or both, such as pca:128,int8")
    return MapCompression(components, is_int8)


def parse_facts(facts: Mapping[str, Any]) -> MapCompression:
    """The MapCompression whose `facts` JSON wrote down. Raises: KeyError, TypeError or ValueError if it is none."""
    components = None if facts["components"] is None else int(facts["components"])
    is_int8, sha256 = facts["is_int8"] is True, str(facts["sha256"])
    if (components is not None and components < 1) or not (components or is_int8) or not _SHA256.fullmatch(sha256):
        raise ValueError(f"maps compressed to {components} channels, int8 {is_int8}")
    return MapCompression(components, is_int8, sha256)


@dataclass(frozen=True)
class Projection:
    """What was fitted.

    Attributes:
        mean: (c,) float32, of each channel.
        matrix: (k, c) float32, from channels less their means to what is kept; None: k = c, as they are.
        scale: (k,) float32, of the numbers in bytes; None: they are float16.
    """

    mean: NDArray[np.float32]
    matrix: NDArray[np.float32] | None
    scale: NDArray[np.float32] | None

    def encode(self) -> bytes:
        """The bytes of `encoder.maps.npz`."""
        named = {"mean": self.mean, "matrix": self.matrix, "scale": self.scale}
        buffer = io.BytesIO()
        np.savez(buffer, allow_pickle=False, **{name: one for name, one in named.items() if one is not None})
        return buffer.getvalue()

    def compressed(self, maps: NDArray[np.float16]) -> NDArray[Any]:
        """(n, k, h, w) of maps (n, c, h, w), float16 or int8: what a shard holds."""
        channels = len(self.mean) if self.matrix is None else len(self.matrix)
        kept: NDArray[Any] = np.empty((len(maps), channels, *maps.shape[2:]), "float16" if self.scale is None else "int8")
        with _one_thread():
            for place, one in enumerate(maps):
                values = one.reshape(len(one), -1).astype(np.float32) - self.mean[:, None]
                if self.matrix is not None:
                    values = self.matrix @ values
                if self.scale is None:
                    values = np.clip(values, -_LARGEST_HALF, _LARGEST_HALF)
                else:
                    values = np.clip(np.rint(values / self.scale[:, None]), -_LARGEST, _LARGEST)
                kept[place] = values.reshape(kept.shape[1:])
        return kept

    def restored(self, kept: NDArray[Any]) -> NDArray[np.float16]:
        """(n, k, h, w) as heads see it."""
        if self.scale is None:
            return kept.astype(np.float16, copy=False)
        return (kept.astype(np.float32) * self.scale[:, None, None]).astype(np.float16)


def _one_thread() -> Any:
    """So that sums are added up in the same order on every machine of that kind."""
    from threadpoolctl import threadpool_limits

    return threadpool_limits(1, user_api="blas")


def read_projection(folder: Path, compression: MapCompression, channels: int) -> Projection:
    """What lies in the encoder's folder. Args: channels: of its maps as the network makes them.

    Raises: HeadstartError if it is not what `compression` names, or not for such maps.
    """
    path = folder / PROJECTION_NAME
    repair = "Run the same enqueue again: it puts it back and keeps all features"
    try:
        data = reading.read(path, _MOST_BYTES)
        if hashlib.sha256(data).hexdigest() != compression.sha256:
            raise DamagedArrays("it was changed")
        arrays = unpack_npz(data, compression.sha256)
        shapes: dict[str, tuple[int, ...]] = {"mean": (channels,)}
        shapes |= {"matrix": (compression.components, channels)} if compression.components else {}
        shapes |= {"scale": (compression.components or channels,)} if compression.is_int8 else {}
        if {name: one.shape for name, one in arrays.items()} != shapes or {one.dtype for one in arrays.values()} != {_FLOAT}:
            raise DamagedArrays("its arrays are not those of these maps")
        if not all(np.isfinite(one).all() for one in arrays.values()):
            raise DamagedArrays("it holds NaN or infinity")
        if compression.is_int8 and not (arrays["scale"].min() > 0 and arrays["scale"].max() <= _LARGEST_SCALE):
            raise DamagedArrays("its scale makes numbers that are no float16")
    except (OSError, reading.UnreadableError, DamagedArrays) as error:
        raise HeadstartError(f"{path} cannot be read ({error}). {repair}") from None
    return Projection(arrays["mean"], arrays.get("matrix"), arrays.get("scale"))


def require_channels(compression: MapCompression, channels: int) -> None:
    """Raises: HeadstartError if it keeps more components than there are channels."""
    if compression.components is not None and compression.components > channels:
        raise HeadstartError(
            f"--compress pca:{compression.components}: the maps have {channels} channels. Give at most {channels}"
        )


@dataclass(frozen=True)
class Fitted:
    """A projection, and what it keeps of the places that it was fitted to.

    Attributes:
        kept: part of the variance of standardized channels, from 0 to 1.
        error: mean squared error that numbers in bytes add, as part of the variance that is kept; 0 for float16.
    """

    projection: Projection
    kept: float
    error: float


def fit_projection(places: NDArray[np.float32], compression: MapCompression) -> Fitted:
    """Principal components of standardized channels, and for bytes the scale at which none of these places is cut off.

    Args:
        places: (m, c), places of maps of some images.

    Standardized, because channels of different stages differ by orders of magnitude: else the loudest would be all that is kept.
    Raises: as `require_channels`; HeadstartError if there are not more places than components.
    """
    require_channels(compression, places.shape[1])
    if compression.components is not None and compression.components >= len(places):
        # Beyond what so few places span, directions are arbitrary, and a scale fitted to nothing would cut off all that comes.
        raise HeadstartError(
            f"--compress pca:{compression.components} needs more than {compression.components} places of maps to be fitted to, "
            f"and a sample of these images has {len(places)}. Give pca:{len(places) - 1} at most, or more images"
        )
    mean = places.mean(0, dtype=np.float64)
    centred = places - mean
    matrix: NDArray[np.float32] | None = None
    share = 1.0
    with _one_thread():
        if compression.components is not None:
            spread = np.sqrt(np.square(centred).mean(0))
            inverse = np.divide(1.0, spread, out=np.zeros_like(spread), where=spread > 0)  # a dead channel says nothing
            standard = centred * inverse
            variance, axes = np.linalg.eigh(standard.T @ standard / len(standard))
            order = np.argsort(variance)[::-1][: compression.components]
            axes = axes[:, order]
            axes *= np.sign(axes[np.abs(axes).argmax(0), np.arange(len(order))])  # else their signs are the library's choice
            matrix = (axes.T * inverse).astype(np.float32)
            share = float(variance[order].sum() / max(variance.sum(), 1e-12))
        values = centred if matrix is None else centred @ matrix.T.astype(np.float64)
    scale: NDArray[np.float32] | None = None
    error = 0.0
    if compression.is_int8:
        scale = np.clip(np.abs(values).max(0) / _LARGEST, 1e-12, _LARGEST_SCALE).astype(np.float32)
        error = float(np.square(values - np.rint(values / scale) * scale).sum() / max(np.square(values).sum(), 1e-12))
    return Fitted(Projection(mean.astype(np.float32), matrix, scale), share, error)


def as_module(projection: Projection) -> nn.Module:
    """`restored(compressed(maps))` but for rounding to bytes, in torch: (n, c, h, w) float32 in, (n, k, h, w) float32 out.

    A number that lies between two bytes would go to either by the last digit of the network, and no file could be compared.
    """
    import torch

    class Compressed(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.mean: torch.Tensor
            self.matrix: torch.Tensor | None
            # Buffers, which an export with weights in float16 leaves as they are.
            self.register_buffer("mean", torch.tensor(projection.mean)[None, :, None, None])
            matrix = projection.matrix
            self.register_buffer("matrix", None if matrix is None else torch.tensor(matrix)[:, :, None, None])

        def forward(self, maps: torch.Tensor) -> torch.Tensor:
            values = maps - self.mean
            return values if self.matrix is None else torch.nn.functional.conv2d(values, self.matrix)

    return Compressed()
