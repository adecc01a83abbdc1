"""Cuts the weights out of the embedded encoder's exported graph: `enqueue` puts them in again, and needs no torch for it.

    python -m tools.cut_embedded_graph features/networks/embedded

Writes `encoder.onnx.cut` and what `encoder.json` says about it. A graph has the bytes that the exporter gave it, or is not used;
so this is run again only where the weights or the way of exporting changed.
"""

import argparse
import json
import tempfile
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import torch
from numpy.typing import NDArray

from headstart.features.encoders.onnx_encoder import GRAPH_NAME
from headstart.features.encoders.onnx_export import export_graph
from headstart.features.encoders.resolve import EncoderRequest, resolve_encoder
from headstart.features.encoders.saved import save_encoder
from headstart.features.images.transform import parse_transform
from headstart.features.networks import embedded_encoder
from headstart.features.networks.weights import embedded_card, resolve_weights
from headstart.pipeline.workspace import open_or_create_workspace


def cut_graph(data: bytes, tensors: Mapping[str, torch.Tensor]) -> tuple[bytes, list[dict[str, object]]]:
    """The graph with a scale a channel in place of each convolution's weights, and where which weights are to be put in."""
    graph = onnx.load_from_string(data).graph
    values = {each.name: each.raw_data for each in graph.initializer}
    # Modules and nodes stand in the order of computing.
    convs = [name.removesuffix(".weight") for name, tensor in tensors.items() if tensor.ndim == 4]
    inputs = [node.input[1] for node in graph.node if node.op_type == "Conv"]
    found = []
    for conv, name in zip(convs, inputs, strict=True):
        weight = tensors[f"{conv}.weight"].numpy()
        folded = np.frombuffer(values[name], np.float32).reshape(weight.shape)
        scale = np.array([scale_of(one, other) for one, other in zip(weight, folded, strict=True)], np.float32)
        found.append((data.index(values[name]), len(values[name]), scale.tobytes(), conv))
    parts: list[bytes] = []
    holes: list[dict[str, object]] = []
    end = 0
    for begin, length, scales, conv in sorted(found):
        parts.append(data[end:begin])
        holes.append({"at": sum(map(len, parts)), "conv": conv})
        parts.append(scales)
        end = begin + length
    return b"".join([*parts, data[end:]]), holes


def scale_of(weight: NDArray[np.float32], folded: NDArray[np.float32]) -> np.float32:
    """The number that makes `folded` of `weight`, bit for bit."""
    largest = np.abs(weight).argmax()
    near = np.float32(folded.flat[largest] / weight.flat[largest])
    for step in sorted(range(-8, 9), key=abs):
        scale = (near.view(np.int32) + np.int32(step)).view(np.float32)
        if np.array_equal(weight * scale, folded):
            return np.float32(scale)
    raise SystemExit("no number makes the exported weights of those of the network")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("folder", type=Path)
    folder = parser.parse_args().folder
    card = {name: value for name, value in embedded_card().items() if name != "graph"}
    (folder / "encoder.json").write_text(json.dumps(card, indent=2) + "\n", encoding="utf-8")  # else the old graph is taken
    weights = resolve_weights(str(card["model"]), dict(card["model_args"]), "embedded")
    with tempfile.TemporaryDirectory() as place:
        spec, _ = resolve_encoder(EncoderRequest(weights="embedded"))
        saved = save_encoder(open_or_create_workspace(Path(place) / "workspace"), spec, weights)
        facts = export_graph(saved)
        data = (saved / GRAPH_NAME).read_bytes()
    cut, holes = cut_graph(data, weights.tensors)
    (folder / embedded_encoder.CUT_NAME).write_bytes(cut)
    graph = {
        "fingerprint": replace(spec, transform=parse_transform(card["transform"])).fingerprint,
        "weights_sha256": spec.weights_sha256,
        "pooling": spec.pooling,
        "sha256": facts.sha256,
        "check": dict(facts.check),
        "versions": dict(facts.versions),
        "holes": holes,
    }
    (folder / "encoder.json").write_text(json.dumps({**card, "graph": graph}, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
