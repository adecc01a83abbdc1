"""Exports an encoder's network to ONNX: uint8 images in, float32 vectors (and maps) out, the normalization part of the graph.

`python -m headstart.features.encoders.onnx_export FOLDER` does it in a process of its own, so that a worker never imports torch.
"""

import contextlib
import hashlib
import logging
import sys
import warnings
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from headstart.features.images.transform import parse_transform
from headstart.features.networks.embedded_encoder import embedded_graph
from headstart.features.networks.feature_map import outputs
from headstart.features.networks.onnx_bytes import onnx_bytes
from headstart.features.networks.quiet import quiet_logger, silent_output
from headstart.features.networks.weights import EMBEDDED_SOURCE, embedded_card
from headstart.pipeline.doors import reading
from headstart.pipeline.doors.locks import held_or_later
from headstart.pipeline.errors import ExplainedError
from headstart.pipeline.text import reason_of
from headstart.pipeline.versions import versions_of
from headstart.pipeline.workspace import open_workspace

from .onnx_encoder import GRAPH_FACTS_NAME, GRAPH_NAME, GraphFacts, OnnxEncoder, find_graph
from .precision import LARGEST_GRAPH
from .saved import read_network
from .similarity import cosines
from .spec import EncoderSpec, read_encoder
from .torch_encoder import TorchEncoder

if TYPE_CHECKING:
    import torch

_CHECKED = 5
_WORST_COSINE = 0.9999
_LOCK_TIMEOUT_S = 600.0  # an export takes seconds, of the largest networks minutes


class _Refused(Exception):
    """The graph exists, but does not say what torch says."""


def export_graph(folder: Path, made: Path | None = None) -> GraphFacts:
    """The graph in `folder`, exported unless a sound one is there; `refused` says why where the encoder cannot have one.

    Processes that ask at the same time wait for the first.

    Args:
        made: a folder of the same encoder; a graph that was exported there is copied.

    Raises: HeadstartError if the encoder itself is damaged; TryLaterError
    if another process has been exporting it for ten minutes.
    """
    spec = read_encoder(folder)
    with held_or_later(folder / f"{GRAPH_NAME}.lock", _LOCK_TIMEOUT_S, "another process exports this encoder"):
        facts = find_graph(folder, spec.fingerprint)
        if facts is not None and not facts.refused:
            return facts
        return _export(folder, spec, made)


def _export(folder: Path, spec: EncoderSpec, made: Path | None) -> GraphFacts:
    files = open_workspace(folder.parent.parent).files
    graph, facts = _exported_there(made, spec) or graph_of_package(spec) or _exported(folder, spec)
    if graph:
        files.replace(folder / GRAPH_NAME, graph)
    # Last: what it names stands. Between the two, or after two writers, the digests differ and it is exported anew.
    files.replace(folder / GRAPH_FACTS_NAME, facts.to_json())
    return facts


def graph_of_package(spec: EncoderSpec) -> tuple[bytes, GraphFacts] | None:
    """The graph of the embedded encoder, which was exported and checked when it was made; None of any other."""
    card = embedded_card() if spec.weights_source == EMBEDDED_SOURCE else {}
    if "graph" not in card:
        return None
    # What the graph does not see may differ: how an image is decoded, turned and scaled.
    plain = parse_transform(card["transform"])
    plain = replace(plain, image_size=spec.transform.image_size, mean=spec.transform.mean, std=spec.transform.std)
    given = embedded_graph(replace(spec, transform=plain).fingerprint)
    if given is None:
        return None
    encoder = OnnxEncoder(spec, given.data, {}, keeps_memory=False)
    is_batch_invariant = same_alone(encoder, images := trial_images(spec), encoder.encode(images))
    sha256 = hashlib.sha256(given.data).hexdigest()
    return given.data, GraphFacts(spec.fingerprint, sha256, "", is_batch_invariant, given.check, given.versions)


def _exported_there(made: Path | None, spec: EncoderSpec) -> tuple[bytes, GraphFacts] | None:
    facts = find_graph(made, spec.fingerprint) if made is not None else None
    if made is None or facts is None:
        return None
    return (b"" if facts.refused else reading.read(made / GRAPH_NAME, LARGEST_GRAPH)), facts


def _exported(folder: Path, spec: EncoderSpec) -> tuple[bytes, GraphFacts]:
    import torch

    network = read_network(folder, spec)
    versions = versions_of("torch", "timm", "onnxruntime")
    try:
        with _silence():
            graph = _trace(network, spec)
            check, is_batch_invariant = _checked(graph, TorchEncoder(spec, network, "cpu"))
    except (MemoryError, torch.OutOfMemoryError):
        raise  # says nothing about the encoder
    except Exception as error:  # the exporter raises anything, and a network may do anything
        return b"", GraphFacts(spec.fingerprint, "", reason_of(error), False, {}, versions)
    sha256 = hashlib.sha256(graph).hexdigest()
    return graph, GraphFacts(spec.fingerprint, sha256, "", is_batch_invariant, check, versions)


def _trace(network: "torch.nn.Module", spec: EncoderSpec) -> bytes:
    import torch

    class Whole(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.network = network
            # (x / 255 - mean) / std in one multiplication and one addition.
            mean, std = (torch.tensor(values).view(1, 3, 1, 1) for values in (spec.transform.mean, spec.transform.std))
            self.scale, self.shift = 1 / (255 * std), -mean / std

        def forward(self, images: torch.Tensor) -> Any:
            colours = images.permute(0, 3, 1, 2).float()
            made = outputs(self.network, colours * self.scale + self.shift, spec.spatial, spec.parts, colours / 255)
            return tuple(output.float() for output in made)

    example = torch.zeros((2, *spec.transform.image_size, 3), dtype=torch.uint8)
    names = ["images", "features", *(["spatial"] if spec.spatial else [])]
    return onnx_bytes(Whole().eval(), (example,), names[:1], names[1:])


def _checked(graph: bytes, reference: TorchEncoder) -> tuple[dict[str, float], bool]:
    """How far the graph is from torch, and whether it treats an image among others as alone. Raises: _Refused."""
    spec = reference.spec
    images = trial_images(spec)
    encoder = OnnxEncoder(spec, graph, {})
    expected, exported = reference.encode(images), encoder.encode(images)
    if exported.shape != expected.shape:
        raise _Refused(f"the graph gives {list(exported.shape)}, torch gives {list(expected.shape)}")
    parts = slice(0, spec.embed_dim), slice(spec.embed_dim, None)  # vectors and maps: a large map would hide a wrong vector
    worst = min(float(cosines(expected[:, part], exported[:, part]).min()) for part in parts)
    if not worst >= _WORST_COSINE:
        raise _Refused(f"the graph's features differ from torch's: cosine {worst:.6f}, at least {_WORST_COSINE} is expected")
    check = {
        "images": _CHECKED,
        "worst_cosine": worst,
        "max_difference": float(np.abs(expected - exported).max()),
        "largest_feature": float(np.abs(expected).max()),
    }
    return check, same_alone(encoder, images, exported)


def trial_images(spec: EncoderSpec) -> NDArray[np.uint8]:
    """(5, h, w, 3) that a graph is tried out on: noise, and a ramp."""
    height, width = spec.transform.image_size
    images = np.random.default_rng(0).integers(0, 256, (_CHECKED, height, width, 3), dtype=np.uint8)
    images[0] = np.linspace(0, 255, width, dtype=np.uint8)[:, None]  # noise alone looks the same everywhere
    return images


def same_alone(encoder: OnnxEncoder, images: NDArray[np.uint8], together: NDArray[np.float32]) -> bool:
    """Whether an image gives the same bits alone and among others, on this machine."""
    alone = [encoder.encode(images[start:stop]) for start, stop in ((0, 1), (1, 2), (2, 5))]
    return bool(np.array_equal(np.concatenate(alone), together))


@contextlib.contextmanager
def _silence() -> Iterator[None]:
    # That the exporter is the older one, and what tracing a Python branch means: both known, and `_checked` answers them.
    with quiet_logger("torch.onnx", logging.ERROR), warnings.catch_warnings(), silent_output():
        warnings.simplefilter("ignore")
        yield


def main() -> int:
    """Exit status and one line on standard error, as `runtime.open_encoder` reads them."""
    try:
        export_graph(Path(sys.argv[1]))
    except ExplainedError as error:
        print(error, file=sys.stderr)  # for the process that started this one
        return error.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main())
