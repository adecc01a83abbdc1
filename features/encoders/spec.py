"""What an encoder is, on disk and in a name: everything that decides its features, and a fingerprint of it. No torch here."""

import hashlib
import json
import math
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from headstart.features.images.transform import Transform, parse_transform
from headstart.features.networks.feature_map import FeatureMap, parse_map
from headstart.features.networks.vector_parts import VectorParts, parse_parts
from headstart.pipeline.doors.records import DamagedError, encode, read_record, taken_apart
from headstart.pipeline.errors import HeadstartError, TryLaterError

from .folder import REPAIR, SPEC_NAME
from .map_compression import MapCompression, Projection, parse_facts, read_projection
from .precision import FLOAT32, parse_precision

FORMAT = 2
WEIGHTS_NAME = "weights.safetensors"


class DamagedEncoderError(HeadstartError):
    """What describes an encoder, or its weights, is not what was written. Saving the encoder again repairs it."""


@dataclass(frozen=True)
class EncoderSpec:
    """One encoder: an architecture, weights, and what an image goes through before.

    Attributes:
        model, model_args: what timm builds.
        weights_source: where the weights came from; for people, and no part of the fingerprint.
        weights_sha256: digest of the tensors that features depend on, see networks.weights.digest.
        transform: from an RGB image to the network's input.
        pooling: how the network makes one vector of an image, as timm calls it.
        dtype: of the features on disk.
        embed_dim: length d of a feature vector.
        spatial: the map that is kept besides it, if one is.
        parts: what the vector is made of, if it is more than what the network pools.
        precision: that the network computes in, see `precision`.
        calibrated_sha256: of the graph whose scales were calibrated on images of the user; '' if its precision needs none.
        compression: of the map, before it is kept; None: it is kept as the network makes it.
    """

    model: str
    model_args: Mapping[str, Any]
    weights_source: str
    weights_sha256: str
    transform: Transform
    pooling: str
    embed_dim: int
    dtype: str = "float16"
    spatial: FeatureMap | None = None
    parts: VectorParts | None = None
    precision: str = FLOAT32
    calibrated_sha256: str = ""
    compression: MapCompression | None = None

    @cached_property
    def fingerprint(self) -> str:
        """sha256 (hex) of what decides the features; equal for the same weights from another place."""
        facts = self._facts()
        del facts["weights_source"]
        return hashlib.sha256(json.dumps(facts, sort_keys=True, separators=(",", ":")).encode()).hexdigest()

    @property
    def row_length(self) -> int:
        """Values that the network makes of an image: its vector, then its map, flattened."""
        return self.embed_dim + (self.spatial.values if self.spatial else 0)

    @property
    def kept_map(self) -> tuple[np.dtype[Any], tuple[int, int, int]] | None:
        """Type and (channels, height, width) of the map that is kept of each image; None if none is."""
        if self.spatial is None:
            return None
        channels, height, width = self.spatial.shape
        if self.compression is None:
            return np.dtype(np.float16), (channels, height, width)
        kind: np.dtype[Any] = np.dtype("int8" if self.compression.is_int8 else "float16")
        return kind, (self.compression.components or channels, height, width)

    @property
    def row_bytes(self) -> int:
        """That an image takes in a shard: its vector and its map."""
        kept = self.kept_map
        return 2 * self.embed_dim + (0 if kept is None else kept[0].itemsize * math.prod(kept[1]))

    @property
    def folder_name(self) -> str:
        precision = "" if self.precision == FLOAT32 else f"_{self.precision}"
        return f"encoder_{re.sub(r'[^A-Za-z0-9]+', '_', self.model)}{precision}-{self.fingerprint[:8]}"

    @property
    def in_float32(self) -> "EncoderSpec":
        """The same encoder as it is without --precision."""
        return replace(self, precision=FLOAT32, calibrated_sha256="")

    def to_json(self) -> bytes:
        """What stands in encoder.json."""
        return encode({**self._facts(), "fingerprint": self.fingerprint})

    def _facts(self) -> dict[str, Any]:
        facts = {"format": 1, **asdict(self), "transform": self.transform.facts()}
        # These came later: what was fingerprinted without them keeps its fingerprint.
        later: dict[str, FeatureMap | VectorParts | MapCompression | None] = {
            "spatial": self.spatial,
            "parts": self.parts,
            "compression": self.compression,
        }
        for name, one in later.items():
            if one is None:
                del facts[name]
            else:
                facts[name] = one.facts()
        if self.precision == FLOAT32:
            del facts["precision"]
        if not self.calibrated_sha256:
            del facts["calibrated_sha256"]
        # Versions that know no strides would take the maps for one map, so they must refuse them; parts and precisions, too.
        if self.parts or self.compression or self.precision != FLOAT32 or (self.spatial and self.spatial.strides):
            facts["format"] = FORMAT
        return facts


def projection_of(folder: Path, spec: EncoderSpec) -> Projection | None:
    """What makes the maps of the encoder in `folder` smaller; None if nothing does. Raises: HeadstartError if it is damaged."""
    if spec.compression is None or spec.spatial is None:
        return None
    return read_projection(folder, spec.compression, spec.spatial.shape[0])


def require_squares(spec: EncoderSpec, size: int, what: str) -> None:
    """Raises: HeadstartError unless the encoder sees squares of `size` pixels. Args: what: that is said to be of that size."""
    if spec.transform.image_size != (size, size):
        height, width = spec.transform.image_size
        raise HeadstartError(f"{what} are of {size} x {size} pixels, their encoder sees {width} x {height}. {REPAIR}")


def require_pixels(images: NDArray[np.uint8], spec: EncoderSpec) -> None:
    """Raises: ValueError unless `images` are uint8 (n, h, w, 3) of the size that `spec` is for."""
    if images.dtype != np.uint8 or images.shape[1:] != (*spec.transform.image_size, 3):
        raise ValueError(f"got {images.dtype} {images.shape}, expected uint8 (n, {spec.transform.image_size}, 3)")


def read_encoder(folder: Path) -> EncoderSpec:
    """The encoder whose features `folder` holds.

    Raises: HeadstartError if there is none, its description is damaged, or a newer version wrote it.
    """
    path = folder / SPEC_NAME
    try:
        facts = read_record(path, None, REPAIR)
        # A key that is unknown is part of the fingerprint, so it cannot be passed over.
        if facts.integer("format") > FORMAT or set(facts) - {*EncoderSpec.__dataclass_fields__, "format", "fingerprint"}:
            raise HeadstartError(f"{path} was written by a newer version. Upgrade: pip install -U headstart")
        return _parse(path, facts)
    except FileNotFoundError:
        raise DamagedEncoderError(
            f"{folder} holds no encoder: {SPEC_NAME} is missing. headstart status lists the folders that hold one; "
            "if it was deleted, run the same enqueue again"
        ) from None
    except OSError as error:
        raise TryLaterError(f"{path} cannot be read: {error.strerror}. Check the disk or mount.") from error
    except DamagedError as error:
        raise DamagedEncoderError(str(error)) from None


def _parse(path: Path, facts: Mapping[str, Any]) -> EncoderSpec:
    with taken_apart(path, REPAIR):
        spec = EncoderSpec(
            model=_plain_name(facts["model"]),
            model_args=_plain_arguments(facts["model_args"]),
            weights_source=str(facts["weights_source"]),
            weights_sha256=str(facts["weights_sha256"]),
            transform=parse_transform(facts["transform"]),
            pooling=str(facts["pooling"]),
            embed_dim=int(facts["embed_dim"]),
            dtype=str(facts["dtype"]),
            spatial=parse_map(facts["spatial"]) if "spatial" in facts else None,
            parts=parse_parts(facts["parts"]) if "parts" in facts else None,
            precision=parse_precision(facts.get("precision", FLOAT32)),
            calibrated_sha256=str(facts.get("calibrated_sha256", "")),
            compression=parse_facts(facts["compression"]) if "compression" in facts else None,
        )
        if spec.parts is not None and spec.parts.length != spec.embed_dim:
            raise ValueError(f"its vectors have {spec.embed_dim} numbers, their parts {spec.parts.length}")
        kept = spec.compression
        if kept is not None and (spec.spatial is None or (kept.components or 1) > spec.spatial.shape[0]):
            raise ValueError(f"it compresses maps by {kept.name}, which it has not")
        if spec.fingerprint != facts["fingerprint"]:
            raise ValueError("its fingerprint is not that of what it says")
    return spec


# timm takes more than names for a model: folders, files and hosts. And arguments that name what it then reads.
_MODEL = re.compile(r"[A-Za-z0-9_]{1,100}(\.[A-Za-z0-9_.-]{1,100})?")
_ARGUMENT = re.compile(r"[a-z][a-z0-9_]{0,60}")
_WORD = re.compile(r"[A-Za-z0-9_-]{1,60}")
_LARGEST_ARGUMENT = 2**16  # wider and deeper is nothing that timm has, and building it could take all memory
_READS_FILES = ("pretrained", "checkpoint", "cache", "file", "path", "url", "hub", "cfg")


def _plain_name(model: Any) -> str:
    if not isinstance(model, str) or not _MODEL.fullmatch(model):
        raise ValueError(f"model {str(model)[:80]!r} is no architecture's name")
    return model


def _plain_arguments(given: Any) -> dict[str, Any]:
    arguments = dict(given)
    for name, value in arguments.items():
        if not _ARGUMENT.fullmatch(name) or any(word in name for word in _READS_FILES) or not _is_plain(value):
            raise ValueError(f"model_args {name[:60]!r} is no argument of an architecture")
    return arguments


def _is_plain(value: Any) -> bool:
    if isinstance(value, list):
        return len(value) <= 100 and all(_is_plain(each) for each in value)
    if isinstance(value, int | float):
        return abs(value) <= _LARGEST_ARGUMENT
    return value is None or (isinstance(value, str) and bool(_WORD.fullmatch(value)))
