"""A new encoder made ready before anything is queued: resolved, saved and exported in a temporary folder, to be copied from it.

Where torch is not loaded a child does it, so that its memory ends before many images are looked at.
"""

import contextlib
import math
import sys
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from headstart.features.networks.embedded_encoder import EmbeddedWeights
from headstart.features.networks.weights import EMBEDDED_SOURCE
from headstart.pipeline.child import Child, ChildEnded
from headstart.pipeline.errors import HeadstartError, TryLaterError
from headstart.pipeline.files import temporary_folder
from headstart.pipeline.workspace import Workspace, open_or_create_workspace, open_workspace

from .folder import SPEC_NAME
from .kept_graphs import keep_encoder, kept_folder, take_encoder
from .onnx_encoder import GraphFacts, find_graph
from .onnx_export import export_graph
from .precision import FLOAT32
from .resolve import EncoderRequest, packaged_encoder, resolve_encoder
from .saved import read_weights, save_encoder
from .spec import EncoderSpec, read_encoder


@dataclass(frozen=True)
class Preparation:
    """What is asked of `prepare`.

    Attributes:
        request: of the user.
        workspace: its root; what is whole there already is not made again.
        place: an empty folder.
        with_graph: exports the encoder, too.
    """

    request: EncoderRequest
    workspace: Path
    place: Path
    with_graph: bool

    def to_json(self) -> dict[str, Any]:
        return {**asdict(self), "workspace": str(self.workspace), "place": str(self.place)}


def parse_preparation(asked: Mapping[str, Any]) -> Preparation:
    """The one that `to_json` made this of."""
    request: dict[str, Any] = {
        name: tuple(value) if isinstance(value, list) else value for name, value in asked["request"].items()
    }
    return Preparation(EncoderRequest(**request), Path(asked["workspace"]), Path(asked["place"]), asked["with_graph"])


def prepared_encoder(
    workspace: Workspace, request: EncoderRequest, held: contextlib.ExitStack, with_graph: bool
) -> tuple[EncoderSpec, EmbeddedWeights | Path | None]:
    """The encoder that `request` means, and what `save_encoder` takes of it; None: it is whole in the workspace.

    Args:
        held: what is made is there until it is closed.
        with_graph: exports it, too, which another precision than float32, or compressed maps, always need.

    Raises: as `resolve_encoder` and `export_graph`; TryLaterError if the process that does it is ended.
    """
    packaged = packaged_encoder(request)
    if packaged is not None:
        return packaged
    place = held.enter_context(temporary_folder("encoder"))
    kept = kept_folder(request)
    if kept is not None and take_encoder(kept, request, place / "kept"):
        return read_encoder(place / "kept"), place / "kept"
    asked = Preparation(request, workspace.root, place, with_graph or _is_tried_out(request))
    if _has_torch():
        folder, is_whole = prepare(asked)
    else:
        answer = _answer_of_child(asked.to_json())
        folder, is_whole = Path(answer["folder"]), answer["is_whole"]
    if is_whole:
        return read_encoder(folder), None
    if kept is not None:
        keep_encoder(kept, request, folder)
    return read_encoder(folder), folder


def prepare(asked: Preparation) -> tuple[Path, bool]:
    """A folder below the place with the encoder's description, and whether all else of it is whole in the workspace.

    If it is not, its weights stand there, too, and its graph if that is wanted.
    """
    spec, weights = resolve_encoder(asked.request)
    own = open_or_create_workspace(asked.place / "workspace")
    folder = own.features / spec.folder_name
    if not _is_tried_out(asked.request) and _is_whole(open_workspace(asked.workspace), spec, asked.with_graph):
        own.make_folder(folder)
        own.files.publish(folder / SPEC_NAME, spec.to_json())
        return folder, True
    save_encoder(own, spec, weights)
    if asked.with_graph:
        export_graph(folder)
    return folder, False


def _is_tried_out(request: EncoderRequest) -> bool:
    """Whether the encoder becomes another one on images of the user: all of it is wanted then."""
    return request.precision != FLOAT32 or bool(request.compress)


def _is_whole(workspace: Workspace, spec: EncoderSpec, with_graph: bool) -> bool:
    folder = workspace.features / spec.folder_name
    try:
        if read_encoder(folder).fingerprint != spec.fingerprint:
            return False
        read_weights(folder, spec)
    except HeadstartError:
        return False
    graph = find_graph(folder, spec.fingerprint) if with_graph else None
    return not with_graph or (graph is not None and not graph.refused)


def ready_graph(folder: Path, made: Path | None) -> GraphFacts:
    """As `export_graph`, which is done elsewhere, too, where torch is not loaded."""
    spec = read_encoder(folder)
    if _has_torch() or made is not None or spec.weights_source == EMBEDDED_SOURCE:
        return export_graph(folder, made)
    facts = find_graph(folder, spec.fingerprint)
    if facts is None or facts.refused:
        _answer_of_child({"export": str(folder)})
        facts = find_graph(folder, spec.fingerprint)
    return facts or export_graph(folder)


def _has_torch() -> bool:
    # Then its memory is taken already, and a child would spend seconds on loading it again.
    return "torch" in sys.modules


def _answer_of_child(asked: Mapping[str, Any]) -> dict[str, Any]:
    with Child("headstart.features.encoders.prepare_child") as child:
        try:
            # No limit: weights may have to be fetched, and the largest networks take minutes.
            answer, _ = child.ask(asked, math.inf, None, lambda: None)
        except ChildEnded as end:
            raise TryLaterError(
                f"cannot make the encoder ready: the process that does it {end}, which may be for want of memory. "
                "Nothing is lost: free some, then run the same command again."
            ) from None
    if "bug" in answer:
        failure = RuntimeError(answer["bug"])
        failure.add_note(answer["traceback"])
        raise failure
    if "error" in answer:
        raise (TryLaterError if answer["exit_code"] == TryLaterError.exit_code else HeadstartError)(answer["error"])
    return answer
