"""Encoders whose graph is in the package, without its weights: a file of weights becomes one of them without torch and timm.

`networks/known` holds them, made by `tools/cut_graphs.py`. What is asked for otherwise, or does not fit in the plainest way, is
resolved and exported as if nothing were known, and there it is explained.
"""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np

import headstart.features.networks
from headstart.features.images.transform import parse_transform
from headstart.features.networks.cut_graph import Hole, NoRootsError, Tensors, filled, parse_holes
from headstart.features.networks.torch_roots import has_torch_roots
from headstart.features.networks.weights import digest_of_arrays, file_of
from headstart.pipeline.doors import reading
from headstart.pipeline.doors.records import parse_record
from headstart.pipeline.errors import ExplainedError
from headstart.pipeline.versions import versions_of

from .onnx_encoder import GraphFacts, OnnxEncoder
from .onnx_export import same_alone, trial_images
from .resolve import DEFAULT_MODEL, EncoderRequest, decoded_as_asked
from .saved import write_encoder
from .spec import EncoderSpec

KNOWN = Path(headstart.features.networks.__path__[0]) / "known"
_EXACT = (np.float16, np.float32)  # are the same in float32


@dataclass(frozen=True, eq=False)  # tensors have no single truth value
class KnownEncoder:
    """One whose weights fit."""

    spec: EncoderSpec
    tensors: Tensors
    facts: Mapping[str, Any]

    def write(self, folder: Path) -> bool:
        """Whether the encoder stands in `folder` now, to the byte as if it had just been exported.

        Args:
            folder: is made; what is in it without success is of no use.
        """
        import safetensors.numpy

        cut = reading.read_given(KNOWN / f"{self.spec.model}.onnx.cut", reading.RECORD_BYTES)
        try:
            graph = filled(cut, parse_holes(self.facts["holes"]), self.tensors)
        except NoRootsError:
            return False
        encoder = OnnxEncoder(self.spec, graph, {}, keeps_memory=False)
        features = encoder.encode(images := trial_images(self.spec))
        is_invariant = same_alone(encoder, images, features)
        encoder.close()
        if not np.isfinite(features).all():
            return False
        sha256, versions = hashlib.sha256(graph).hexdigest(), {**self.facts["versions"], **versions_of("onnxruntime")}
        facts = GraphFacts(self.spec.fingerprint, sha256, "", is_invariant, self.facts["check"], versions)
        write_encoder(folder, self.spec, bytes(safetensors.numpy.save(dict(self.tensors))), graph, facts)
        return True


def known_encoder(request: EncoderRequest) -> KnownEncoder | None:
    """The one that `request` means, its weights read; None if it is not known, or they do not fit in the plainest way."""
    is_more = (
        request.image_size is not None or request.spatial is not None or request.maps or request.stages or request.image_stats
    )
    weights = file_of(request.weights)
    if is_more or weights is None:
        return None
    try:
        facts = _facts_of(request.model or DEFAULT_MODEL)
        tensors = None if facts is None else _fitting_tensors(weights, facts)
        if facts is None or tensors is None:
            return None
        return KnownEncoder(_spec_of(facts, request, str(weights), tensors), tensors, facts)
    except (OSError, ExplainedError):
        return None


def facts_of_known(
    spec: EncoderSpec,
    tensors: Tensors,
    left_out: set[str],
    check: Mapping[str, float],
    versions: Mapping[str, str],
    holes: Sequence[Hole],
) -> dict[str, Any]:
    """What stands beside a cut graph.

    Args:
        tensors: that the encoder has. left_out: names of others that a file may hold: the classifier's.
        check, versions: of the export that it was cut from, see `GraphFacts`.
    """
    return {
        "model": spec.model,
        "transform": spec.transform.facts(),
        "pooling": spec.pooling,
        "embed_dim": spec.embed_dim,
        "check": dict(check),
        "versions": dict(versions),
        "left_out": sorted(left_out),
        "tensors": {name: list(values.shape) for name, values in tensors.items()},
        "holes": [{name: value for name, value in asdict(hole).items() if value or name == "at"} for hole in holes],
    }


def _facts_of(model: str) -> dict[str, Any] | None:
    """None of a model that is not known, or that the installed timm, or the exporter on this system, may build otherwise."""
    if model not in {path.stem for path in KNOWN.glob("*.json")}:
        return None
    path = KNOWN / f"{model}.json"
    facts = parse_record(reading.read_given(path, reading.RECORD_BYTES), path, None)
    if not has_torch_roots() and any("norm" in hole for hole in facts["holes"]):
        return None
    try:
        return facts if metadata.version("timm") == facts["versions"]["timm"] else None
    except metadata.PackageNotFoundError:
        return None


def _fitting_tensors(path: Path, facts: Mapping[str, Any]) -> Tensors | None:
    """Those of a safetensors file, if it has all of the encoder's, and besides at most a classifier."""
    import safetensors.numpy

    data = reading.read_given(path, reading.WEIGHTS_BYTES)
    try:
        loaded = safetensors.numpy.load(data)
    except Exception:  # torch's own format, a type that numpy has not, or garbage, which raises anything
        return None
    expected = {name: tuple(shape) for name, shape in facts["tensors"].items()}
    others = {name for name in loaded.keys() - expected.keys() if not name.endswith("num_batches_tracked")}
    if not others <= set(facts["left_out"]):
        return None
    fits = all(
        name in loaded and loaded[name].dtype in _EXACT and loaded[name].shape == shape for name, shape in expected.items()
    )
    return {name: loaded[name].astype(np.float32, copy=False) for name in expected} if fits else None


def _spec_of(facts: Mapping[str, Any], request: EncoderRequest, source: str, tensors: Tensors) -> EncoderSpec:
    return EncoderSpec(
        model=facts["model"],
        model_args={},
        weights_source=source,
        weights_sha256=digest_of_arrays(tensors),
        transform=decoded_as_asked(parse_transform(facts["transform"]), facts["model"], request),
        pooling=facts["pooling"],
        embed_dim=facts["embed_dim"],
    )
