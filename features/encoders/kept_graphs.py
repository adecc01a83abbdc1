"""Encoders that were exported before, kept in this user's cache folder: another workspace takes one without torch and timm.

All of it is derived: whatever is wrong with it, or with the disk below it, is as if nothing were kept.
"""

import contextlib
import hashlib
import os
import platform
import sys
from collections.abc import Iterator
from dataclasses import replace
from importlib import metadata
from pathlib import Path

import headstart
from headstart.features.devices import processor_features
from headstart.features.networks.weights import file_of
from headstart.pipeline import paths
from headstart.pipeline.doors import reading
from headstart.pipeline.doors.records import encode, read_record, seal
from headstart.pipeline.errors import ExplainedError
from headstart.pipeline.files import FileSystem

from .folder import SPEC_NAME
from .onnx_encoder import GRAPH_FACTS_NAME, GRAPH_NAME, find_graph
from .precision import FLOAT32
from .remembered import facts_of_request
from .resolve import HUB, EncoderRequest
from .spec import WEIGHTS_NAME, read_encoder

KEPT_NAME = "kept.json"
MOST_BYTES = 2 * reading.GB
_FORMAT = 1
_FILES = (SPEC_NAME, WEIGHTS_NAME, GRAPH_NAME, GRAPH_FACTS_NAME)
_PIECE_BYTES = 1 << 20
_UNSYNCED = FileSystem(hard_links=False, fsync=False)  # what a power cut leaves is verified like everything else
_HUB_VARIABLES = ("HF_ENDPOINT", "HF_HOME", "HF_HUB_CACHE", "HUGGINGFACE_HUB_CACHE", "TORCH_HOME")


def cache_folder() -> Path | None:
    """Of this user on this machine: $HEADSTART_CACHE, none if that is empty, else where the system keeps such things.

    Raises: RuntimeError for a user without a home.
    """
    given = os.environ.get("HEADSTART_CACHE")
    if given is not None:
        return Path(given).absolute() if given else None
    home = Path.home()
    where = {"win32": os.environ.get("LOCALAPPDATA") or home / "AppData" / "Local", "darwin": home / "Library" / "Caches"}
    return Path(where.get(sys.platform) or os.environ.get("XDG_CACHE_HOME") or home / ".cache").absolute() / "headstart"


def kept_folder(request: EncoderRequest) -> Path | None:
    """Where the encoder that `request` means is kept, or would be; None without a cache, or where that cannot be known.

    Its name is a digest of what decides the encoder before it is tried out on images, and of what decides its graph. A file of
    weights is its bytes, wherever it lies.
    """
    try:
        cache = cache_folder()
        asked = replace(request, precision=FLOAT32, else_float32=False, compress="")
        facts = None if cache is None else facts_of_request(asked)
        if cache is None or facts is None:
            return None
        if file_of(request.weights) is not None:
            facts["request"]["weights"] = ""
        facts["versions"] |= {"headstart": headstart.__version__, "onnxruntime": metadata.version("onnxruntime")}
    except (OSError, RuntimeError, metadata.PackageNotFoundError):
        return None
    # The graph was compared with torch, and an image alone with itself among others, on one kind of processor.
    facts["processor"] = [platform.machine(), *sorted(processor_features())]
    # What the hub means by a name is settled by where it is asked: its own cache keeps what it fetched once, as this one does.
    facts["hub"] = {name: os.environ.get(name, "") for name in _HUB_VARIABLES} if request.weights == HUB else {}
    return cache / "encoders" / hashlib.sha256(encode(facts)).hexdigest()


def take_encoder(kept: Path, request: EncoderRequest, folder: Path) -> bool:
    """Whether the encoder that is kept there stands in `folder` now, as if it had just been exported for `request`.

    Args:
        folder: is made; what is in it without success is of no use.
    """
    try:
        record = read_record(kept / KEPT_NAME, _FORMAT)
        digests = record.record("files")
        paths.make_folder(folder)
        for name in _FILES:
            if _copied(kept / name, folder / name) != digests.text(name):
                return False
        spec = read_encoder(folder)
        graph = find_graph(folder, spec.fingerprint)
        if graph is None or graph.refused:
            return False
        weights = file_of(request.weights)
        if weights is not None:  # it says where they lay, perhaps with what was done to them
            source = f"{weights}{spec.weights_source.removeprefix(record.text('weights'))}"
            _UNSYNCED.replace(folder / SPEC_NAME, replace(spec, weights_source=source).to_json())
        with contextlib.suppress(OSError):
            paths.touch(kept / KEPT_NAME)  # when it was used last
    except (OSError, ExplainedError):
        return False
    return True


def keep_encoder(kept: Path, request: EncoderRequest, folder: Path) -> None:
    """Keeps the encoder in `folder` that was just made for `request`, if it has a graph, in place of what is kept there.

    Args:
        kept: `kept_folder` before it was made: nothing is kept if the weights' file is another one now.
    """
    with contextlib.suppress(OSError, ExplainedError):
        size = paths.tree_bytes(folder)
        graph = find_graph(folder, read_encoder(folder).fingerprint)
        if graph is None or graph.refused or size > MOST_BYTES or kept_folder(request) != kept:
            return
        kept.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        _make_room(kept, size)
        with contextlib.suppress(FileExistsError):
            paths.make_folder(kept)
        try:
            digests = {name: _copied(folder / name, kept / name) for name in _FILES}
            weights = file_of(request.weights)
            record = {"format": _FORMAT, "files": digests, "weights": "" if weights is None else str(weights)}
            # Last: what it names stands. Two writers at once may leave what it does not name, which is exported anew.
            _UNSYNCED.replace(kept / KEPT_NAME, seal(record))
        except (OSError, ExplainedError):
            paths.remove_tree(kept)  # a full disk is not to be filled further by halves
            raise


def _copied(source: Path, target: Path) -> str:
    """sha256 of what was copied."""
    sha256 = hashlib.sha256()

    def pieces() -> Iterator[bytes]:
        while piece := file.read(_PIECE_BYTES):
            sha256.update(piece)
            yield piece

    with reading.opened(source, reading.WEIGHTS_BYTES) as file:
        _UNSYNCED.replace_by_pieces(target, pieces())
    return sha256.hexdigest()


def _make_room(kept: Path, size: int) -> None:
    """Removes what was not used for longest, so that `size` bytes more are not too many."""
    left = MOST_BYTES - size
    for other in sorted(paths.folders(kept.parent), key=_used, reverse=True):
        if other == kept:  # is replaced
            continue
        left -= paths.tree_bytes(other)
        if left < 0:
            paths.remove_tree(other)


def _used(kept: Path) -> float:
    with contextlib.suppress(OSError):
        return paths.stat(kept / KEPT_NAME).st_mtime
    return 0.0
