"""The encoder inside the package without torch: its weights as a workspace keeps them, and its graph.

Both have the bytes that torch and its exporter give. The graph is held by its digest: where the numbers come out otherwise there
is none, and it is exported.
"""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from . import weights
from .cut_graph import Tensors
from .weights import EMBEDDED_SOURCE, embedded_card

# The graph with a number a channel in place of each convolution's weights: what the exporter multiplied them by, as it folds the
# normalization behind into them. Made by tools/cut_embedded_graph.py.
CUT_NAME = "encoder.onnx.cut"


@dataclass(frozen=True)
class EmbeddedWeights:
    """Attributes as of `weights.Weights`, whose tensors these are."""

    source: str
    sha256: str

    def stored(self) -> bytes:
        """The bytes of the weights' file in a workspace."""
        import safetensors.numpy

        return bytes(safetensors.numpy.save(dict(_tensors())))


@dataclass(frozen=True)
class EmbeddedGraph:
    """Attributes:
    data: the ONNX file.
    check, versions: see `onnx_encoder.GraphFacts`.
    """

    data: bytes
    check: Mapping[str, float]
    versions: Mapping[str, str]


def embedded_weights() -> EmbeddedWeights | None:
    """None if the package says too little of its encoder. Raises: HeadstartError if it is damaged."""
    facts = embedded_card().get("graph")
    return EmbeddedWeights(EMBEDDED_SOURCE, str(facts["weights_sha256"])) if facts else None


def embedded_graph(fingerprint: str) -> EmbeddedGraph | None:
    """The graph of the encoder of that fingerprint, None unless it is the one inside the package.

    Raises: HeadstartError if the package is damaged.
    """
    facts = embedded_card().get("graph")
    if not facts or facts["fingerprint"] != fingerprint:
        return None
    data = _filled((weights.EMBEDDED / CUT_NAME).read_bytes(), facts["holes"], _tensors())
    if hashlib.sha256(data).hexdigest() != facts["sha256"]:
        return None
    return EmbeddedGraph(data, dict(facts["check"]), dict(facts["versions"]))


def _tensors() -> Tensors:
    import safetensors.numpy

    loaded = safetensors.numpy.load_file(weights.EMBEDDED / "encoder.safetensors")
    return {name: values.astype(np.float32) for name, values in loaded.items() if not name.endswith("num_batches_tracked")}


def _filled(cut: bytes, holes: Sequence[Mapping[str, Any]], tensors: Tensors) -> bytes:
    parts, end = [], 0
    for hole in holes:
        weight = tensors[f"{hole['conv']}.weight"]
        scale = np.frombuffer(cut, "<f4", len(weight), hole["at"])
        parts += [cut[end : hole["at"]], (weight * scale[:, None, None, None]).tobytes()]
        end = hole["at"] + scale.nbytes
    return b"".join([*parts, cut[end:]])
