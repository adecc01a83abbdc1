"""An encoder's folder: its description and weights, written once, and its network, read back and verified."""

import contextlib
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from headstart.features.networks.architectures import build, load
from headstart.features.networks.embedded_encoder import EmbeddedWeights
from headstart.features.networks.weights import Weights, digest
from headstart.features.networks.weights_file import read_tensors
from headstart.pipeline import paths
from headstart.pipeline.doors import reading
from headstart.pipeline.errors import HeadstartError
from headstart.pipeline.files import UNSYNCED
from headstart.pipeline.markers import digest_of
from headstart.pipeline.text import reason_of
from headstart.pipeline.workspace import Workspace

from .folder import SPEC_NAME
from .onnx_encoder import GRAPH_FACTS_NAME, GRAPH_NAME, GraphFacts
from .spec import WEIGHTS_NAME, DamagedEncoderError, EncoderSpec, read_encoder

if TYPE_CHECKING:
    import torch

_PIECE_BYTES = 1 << 20


def save_encoder(workspace: Workspace, spec: EncoderSpec, weights: Weights | EmbeddedWeights | Path) -> Path:
    """The encoder's folder in the workspace, complete when this returns.

    What is there and sound is kept, what is damaged is replaced.

    Args:
        weights: or the folder of the same encoder in another workspace.

    Raises: HeadstartError if a newer version made the folder; TryLaterError if the disk is full.
    """
    folder = workspace.features / spec.folder_name
    workspace.make_folder(folder)
    if isinstance(weights, EmbeddedWeights):
        if not _says(folder / WEIGHTS_NAME, data := weights.stored()):
            _put(workspace, folder / WEIGHTS_NAME, data)
    elif isinstance(weights, Path):
        _copy(workspace, weights / WEIGHTS_NAME, folder / WEIGHTS_NAME)
    else:
        try:
            read_weights(folder, spec)
        except DamagedEncoderError:
            _put(workspace, folder / WEIGHTS_NAME, _stored(weights.tensors))
    # The description is published last: where it stands, the weights stand too.
    try:
        existing = read_encoder(folder)
    except DamagedEncoderError:
        _put(workspace, folder / SPEC_NAME, spec.to_json())
        return folder
    workspace.files.sync_folder(folder)  # whoever made it may have been killed before it did so
    if existing.fingerprint != spec.fingerprint:  # one chance in four billion, or a folder that somebody renamed
        raise HeadstartError(
            f"{folder} holds another encoder ({existing.fingerprint[:16]}, expected {spec.fingerprint[:16]}). "
            "Give that folder its old name back, then run the same enqueue again"
        )
    return folder


def write_encoder(folder: Path, spec: EncoderSpec, weights: bytes, graph: bytes, facts: GraphFacts) -> None:
    """Makes `folder`, which is temporary, one that `save_encoder` and `export_graph` take an encoder from."""
    paths.make_folder(folder)
    for name, data in (
        (WEIGHTS_NAME, weights),
        (GRAPH_NAME, graph),
        (GRAPH_FACTS_NAME, facts.to_json()),
        (SPEC_NAME, spec.to_json()),
    ):
        UNSYNCED.replace(folder / name, data)


def _stored(tensors: "Mapping[str, torch.Tensor]") -> bytes:
    """The bytes of the weights' file. Tensors that a network ties together, as coat_* does, are in it once.

    The others' names stand in its metadata, as safetensors' own save_model puts them there.
    """
    import safetensors.torch

    kept: dict[tuple[object, ...], str] = {}
    tied: dict[str, str] = {}
    places: set[int] = set()
    stored = {}
    for name, tensor in tensors.items():
        first = kept.setdefault((tensor.data_ptr(), tensor.dtype, tensor.shape, tensor.stride()), name)
        if first != name and tensor.numel():
            tied[name] = first
            continue
        place = tensor.untyped_storage().data_ptr()
        stored[name] = tensor.clone() if place in places else tensor  # two views of one memory, which safetensors refuses
        places.add(place)
    return bytes(safetensors.torch.save(stored, tied or None))


def _says(path: Path, data: bytes) -> bool:
    try:
        return reading.read(path, len(data)) == data
    except (OSError, reading.UnreadableError):
        return False


def _copy(workspace: Workspace, given: Path, path: Path) -> None:
    with contextlib.suppress(OSError, reading.UnreadableError):
        if digest_of(path) == digest_of(given):
            return
    with reading.opened(given) as file:
        workspace.files.replace_by_pieces(path, iter(lambda: file.read(_PIECE_BYTES), b""))


def _put(workspace: Workspace, path: Path, data: bytes) -> None:
    if not workspace.files.publish(path, data):
        workspace.files.replace(path, data)


def read_weights(folder: Path, spec: EncoderSpec) -> "dict[str, torch.Tensor]":
    """The tensors in `folder`. Raises: DamagedEncoderError if they are not those that `spec` names."""
    path = folder / WEIGHTS_NAME
    repair = "Run the same enqueue again: it puts them back and keeps all features"
    if not paths.is_file(path):
        raise DamagedEncoderError(f"{path} is missing. {repair}")
    try:
        tensors = read_tensors(path).tensors
    except HeadstartError as error:
        raise DamagedEncoderError(f"{error}. {repair}") from None
    sha256 = digest(tensors)
    if sha256 != spec.weights_sha256:
        raise DamagedEncoderError(f"{path} has digest {sha256[:16]}, expected {spec.weights_sha256[:16]}. {repair}")
    return tensors


def read_network(folder: Path, spec: EncoderSpec) -> "torch.nn.Module":
    """The network with its weights, on the CPU. Raises: HeadstartError if they are damaged or timm builds it differently."""
    tensors = read_weights(folder, spec)
    try:
        network = build(spec.model, spec.model_args)
        load(network, tensors)
    except Exception as error:
        raise HeadstartError(
            f"{folder}: the installed timm cannot build {spec.model} as it was ({reason_of(error)}). "
            "Install the timm that enqueued it"
        ) from error
    return network
