"""How much disk the features of an encoder take, and whether there is room for them."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import TYPE_CHECKING

from headstart.pipeline import paths
from headstart.pipeline.errors import HeadstartError
from headstart.pipeline.text import size_words

if TYPE_CHECKING:
    from headstart.features.encoders.spec import EncoderSpec

_BLOCK = 4096
_NPZ_BYTES = 2048  # headers of four arrays and the zip's directory
_INDEX_BYTES = 8 + 1  # a row's `index` and `status`


def shard_bytes(spec: EncoderSpec, images: int) -> int:
    """Of one job's payload, at most."""
    return _NPZ_BYTES + images * (spec.row_bytes + _INDEX_BYTES)


def predict_disk(spec: EncoderSpec, images: int, job_size: int) -> int:
    """Bytes that shards and markers of so many images take, in whole blocks; never less than they will."""
    jobs, rest = divmod(images, job_size)
    last = _blocks(shard_bytes(spec, rest)) + _BLOCK if rest else 0
    return jobs * (_blocks(shard_bytes(spec, job_size)) + _BLOCK) + last


def disk_words(spec: EncoderSpec, its_bytes: int) -> str:
    """For people."""
    kept_map = f", map {' x '.join(map(str, spec.kept_map[1]))}" if spec.kept_map else ""
    return f"disk about {size_words(its_bytes)} for features{kept_map}"


def require_room(folder: Path, spec: EncoderSpec, images: int, job_size: int, what: str = "images") -> int:
    """What `predict_disk` says. `folder` is the encoder's; it need not be there yet, nor the workspace.

    Raises: HeadstartError if the disk has less room than the features that are not there yet will take.
    """
    fault = lack_of_room(folder, spec, images, job_size, what)
    if fault:
        raise HeadstartError(fault)
    return predict_disk(spec, images, job_size)


def lack_of_room(folder: Path, spec: EncoderSpec, images: int, job_size: int, what: str = "images") -> str:
    """Why the disk cannot hold the features that are not in the encoder's `folder` yet, and what to do; '' if it can.

    Args: what: that is counted, images or patches.
    """
    predicted = predict_disk(spec, images, job_size)
    free = free_bytes(folder)
    if predicted <= free:
        return ""
    present = sum(paths.stat(path).st_size for path in paths.matching(folder, "shards/*/*"))
    if predicted - present <= free:
        return ""
    return (
        f"features of {images:,} {what} will take {size_words(predicted - present)} on disk, {folder.parent} has "
        f"{size_words(free)} free. Free some, choose another --workspace, or pass {_less(spec)}"
    )


def free_bytes(folder: Path) -> int:
    """On the disk where `folder` is, or will be made."""
    return shutil.disk_usage(next(parent for parent in folder.absolute().parents if paths.exists(parent))).free


def _less(spec: EncoderSpec) -> str:
    if spec.spatial is None:
        return "fewer images, or a smaller --encoder"
    if spec.spatial.strides:
        coarser = spec.spatial.strides[1:]
        return f"--maps {','.join(map(str, coarser))}" if coarser else "a smaller --image-size"
    return f"--spatial {max(1, min(spec.spatial.shape[1:]) // 2)}"


def _blocks(size: int) -> int:
    return -(-size // _BLOCK) * _BLOCK
