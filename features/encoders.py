"""Encoders in a workspace: which one the user means, the folder that holds it, and opening it."""

from pathlib import Path

from headstart.pipeline.errors import HeadstartError
from headstart.pipeline.workspace import Workspace

from .encoder_choice import DEFAULT_MODEL, resolve_encoder
from .encoder_spec import WEIGHTS_NAME, DamagedEncoderError, EncoderSpec, read_encoder
from .fingerprint import SPEC_NAME
from .opening import Encoder, open_encoder
from .weights import Weights

__all__ = ["DEFAULT_MODEL", "Encoder", "EncoderSpec", "open_encoder", "read_encoder", "resolve_encoder", "save_encoder"]


def save_encoder(workspace: Workspace, spec: EncoderSpec, weights: Weights) -> Path:
    """The encoder's folder in the workspace, complete when this returns.

    What is there and sound is kept, what is damaged is replaced.
    Raises: HeadstartError if a newer version made the folder; TryLaterError if the disk is full.
    """
    import safetensors.torch

    from .torch_encoder import read_weights

    folder = workspace.features / spec.folder_name
    workspace.make_folder(folder)
    try:
        read_weights(folder, spec)
    except DamagedEncoderError:
        _put(workspace, folder / WEIGHTS_NAME, safetensors.torch.save(dict(weights.tensors)))
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


def _put(workspace: Workspace, path: Path, data: bytes) -> None:
    if not workspace.files.publish(path, data):
        workspace.files.replace(path, data)
