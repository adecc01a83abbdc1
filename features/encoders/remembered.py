"""What a request came to before, kept beside the encoder: the same request again needs neither torch nor timm.

`encoder.request.json` is derived: where it is absent, damaged, or anything that it was made of changed, it is resolved anew.
"""

import hashlib
from dataclasses import asdict
from importlib import metadata
from typing import Any

from headstart.features.networks.weights import embedded_card, file_of
from headstart.pipeline.doors import reading
from headstart.pipeline.doors.records import DamagedError, read_record, seal
from headstart.pipeline.errors import HeadstartError
from headstart.pipeline.files import environment_faults
from headstart.pipeline.markers import digest_of
from headstart.pipeline.workspace import Workspace

from .folder import encoder_folders
from .openvino_encoder import calibrated_graph
from .resolve import EncoderRequest
from .spec import WEIGHTS_NAME, EncoderSpec, projection_of, read_encoder

REQUEST_NAME = "encoder.request.json"
_FORMAT = 1


def remembered_encoder(workspace: Workspace, request: EncoderRequest) -> EncoderSpec | None:
    """The encoder in the workspace that `request` was resolved to, its weights whole; None if it has to be resolved.

    A file of weights is known by its bytes, everything else by the request and the versions of torch and timm.
    Raises: TryLaterError if the disk fails.
    """
    wanted: dict[str, Any] | None = None
    for folder in encoder_folders(workspace):
        path = folder / REQUEST_NAME
        try:
            with environment_faults(f"cannot read {path}"):
                facts = read_record(path, _FORMAT)
        except (FileNotFoundError, DamagedError, HeadstartError):
            continue
        if wanted is None:
            wanted = facts_of_request(request)
        if wanted is None or {name: facts.get(name) for name in wanted} != wanted:
            continue
        try:
            spec = read_encoder(folder)
            if spec.fingerprint == facts.get("fingerprint") and digest_of(folder / WEIGHTS_NAME) == facts.get("weights_file"):
                if spec.calibrated_sha256:
                    calibrated_graph(folder, spec)
                projection_of(folder, spec)
                return spec
        except (HeadstartError, OSError, reading.UnreadableError):
            continue  # damaged: resolving it anew repairs it
    return None


def remember_request(workspace: Workspace, request: EncoderRequest, spec: EncoderSpec) -> None:
    """Keeps that `request` came to `spec`, whose folder is complete; not where it fell back on another precision."""
    facts = facts_of_request(request) if request.precision == spec.precision else None
    if facts is None:
        return
    folder = workspace.features / spec.folder_name
    record = {"format": _FORMAT, **facts, "fingerprint": spec.fingerprint, "weights_file": digest_of(folder / WEIGHTS_NAME)}
    workspace.files.replace(folder / REQUEST_NAME, seal(record))


def facts_of_request(request: EncoderRequest) -> dict[str, Any] | None:
    """What decides what the request comes to; None where a file that it names cannot be read.

    Raises: HeadstartError if it means the encoder inside the package and that is damaged.
    """
    given = str(embedded_card()["sha256"]) if request.weights == "embedded" else ""
    weights = file_of(request.weights)
    if weights is not None:
        try:
            with reading.opened_given(weights, reading.WEIGHTS_BYTES) as file:
                given = hashlib.file_digest(file, "sha256").hexdigest()
        except (OSError, reading.UnreadableError):
            return None
    asked = {name: list(value) if isinstance(value, tuple) else value for name, value in asdict(request).items()}
    if not request.compress:  # it came later: what was remembered without it is still known
        del asked["compress"]
    try:
        versions = {name: metadata.version(name) for name in ("torch", "timm")}
    except metadata.PackageNotFoundError:
        return None
    return {"request": asked, "given_weights": given, "versions": versions}
