"""A new encoder made ready before anything is queued: resolved, saved and exported in a temporary folder, to be copied from it.

Where torch is not loaded a child does it, whose memory ends with it, while its parent does something else.
"""

import contextlib
import functools
import math
import sys
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, TypeVar

from headstart.features.networks.embedded_encoder import EmbeddedWeights
from headstart.features.networks.weights import EMBEDDED_SOURCE
from headstart.pipeline.child import Child, ChildEnded
from headstart.pipeline.errors import HeadstartError, TryLaterError
from headstart.pipeline.files import temporary_folder
from headstart.pipeline.memory import give_freed_memory_back
from headstart.pipeline.workspace import Workspace, open_or_create_workspace, open_workspace

from .folder import SPEC_NAME
from .kept_graphs import keep_encoder, kept_folder, take_encoder
from .known_encoders import KnownEncoder, known_encoder
from .onnx_encoder import GraphFacts, find_graph
from .onnx_export import export_graph, graph_of_package
from .precision import FLOAT32
from .resolve import EncoderRequest, packaged_encoder, resolve_encoder
from .saved import read_weights, save_encoder, write_encoder
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


_Made = TypeVar("_Made")

# The encoder, and what `save_encoder` takes of it; None: it is whole in the workspace.
PreparedEncoder = tuple[EncoderSpec, EmbeddedWeights | Path | None]


class BegunEncoder:
    """An encoder that may be being made ready elsewhere meanwhile: `is_done` says whether `finish` has to wait for that."""

    def __init__(self, finish: Callable[[], PreparedEncoder], is_done: Callable[[], bool] = lambda: True) -> None:
        self._is_done = is_done
        self._finished = functools.cache(finish)

    def require_sound(self) -> None:
        """Waits for nothing. Raises: what `finished` would, if that is known already."""
        if self._is_done():
            self._finished()

    def finished(self) -> PreparedEncoder:
        """Raises: as `resolve_encoder` and `export_graph`; TryLaterError if the process that makes it is ended."""
        return self._finished()


def begin_encoder(workspace: Workspace, request: EncoderRequest, held: contextlib.ExitStack, with_graph: bool) -> BegunEncoder:
    """Begins to make the encoder ready that `request` means; all of it is done at once if that is quick, or torch is loaded.

    Args:
        held: what is made is there until it is closed, which also ends the child.
        with_graph: exports it, too, which another precision than float32, or compressed maps, always need.

    Raises: as `BegunEncoder.finished`, of what is done at once.
    """
    packaged = packaged_encoder(request)
    place = held.enter_context(temporary_folder("encoder"))
    if packaged is not None:
        return BegunEncoder(*_in_thread(held, lambda: _packaged_there(packaged, place / "packaged")))
    known = known_encoder(request)
    if known is None:
        return _begun_export(workspace, request, place, held, with_graph)
    spec = known.spec
    is_written, is_done = _in_thread(held, functools.partial(_written, [known], place / "known"))
    del known  # it holds all weights

    def finish() -> PreparedEncoder:
        if is_written():
            return spec, place / "known"
        return _begun_export(workspace, request, place, held, with_graph).finished()

    return BegunEncoder(finish, is_done)


def _in_thread(held: contextlib.ExitStack, make: Callable[[], _Made]) -> tuple[Callable[[], _Made], Callable[[], bool]]:
    """What waits for it, and what says whether that would be at once: nearly all is done outside of Python."""
    made = held.enter_context(ThreadPoolExecutor(1)).submit(make)
    return made.result, made.done


def _written(known: list[KnownEncoder], folder: Path) -> bool:
    """Args: known: one, which is taken from there, so that its weights are gone at the end."""
    is_written = known.pop().write(folder)
    give_freed_memory_back()  # a million images may be about to need it
    return is_written


def _packaged_there(packaged: tuple[EncoderSpec, EmbeddedWeights], folder: Path) -> PreparedEncoder:
    spec, weights = packaged
    graph = graph_of_package(spec)
    if graph is None:
        return packaged
    write_encoder(folder, spec, weights.stored(), *graph)
    return spec, folder


def _begun_export(
    workspace: Workspace, request: EncoderRequest, place: Path, held: contextlib.ExitStack, with_graph: bool
) -> BegunEncoder:
    kept = kept_folder(request)
    if kept is not None and take_encoder(kept, request, place / "kept"):
        taken = read_encoder(place / "kept"), place / "kept"
        return BegunEncoder(lambda: taken)
    asked = Preparation(request, workspace.root, place, with_graph or _is_tried_out(request))

    def made(folder: Path, is_whole: bool) -> PreparedEncoder:
        if is_whole:
            return read_encoder(folder), None
        if kept is not None:
            keep_encoder(kept, request, folder)
        return read_encoder(folder), folder

    if _has_torch():
        ready = made(*prepare(asked))
        return BegunEncoder(lambda: ready)
    child = held.enter_context(_begun_child(asked.to_json()))

    def finish() -> PreparedEncoder:
        answer = _answer_of(child)
        child.close()  # its memory is free before anything else is made
        return made(Path(answer["folder"]), answer["is_whole"])

    return BegunEncoder(finish, child.has_answered)


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
        with _begun_child({"export": str(folder)}) as child:
            _answer_of(child)
        facts = find_graph(folder, spec.fingerprint)
    return facts or export_graph(folder)


def _has_torch() -> bool:
    # Then its memory is taken already, and a child would spend seconds on loading it again.
    return "torch" in sys.modules


def _begun_child(asked: Mapping[str, Any]) -> Child:
    child = Child("headstart.features.encoders.prepare_child")
    child.send(asked)
    return child


def _answer_of(child: Child) -> dict[str, Any]:
    try:
        # No limit: weights may have to be fetched, and the largest networks take minutes.
        answer, _ = child.answer(math.inf, None, lambda: None)
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
