"""Cuts the weights out of exported graphs: `enqueue` puts a user's weights in again, and needs neither torch nor timm for it.

    python -m tools.cut_graphs features/networks/known [MODEL ...]

Writes MODEL.json and MODEL.onnx.cut for each; without names, for all that are there. Run it with the timm that users get: a graph
is used only with the version that it was cut with. What is cut is tried with other weights, which must give the exporter's bytes.
"""

import argparse
import json
import math
import tempfile
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path

import numpy as np
import onnx
import torch
from numpy.typing import NDArray

from headstart.features.encoders.known_encoders import facts_of_known
from headstart.features.encoders.onnx_encoder import GRAPH_NAME, GraphFacts
from headstart.features.encoders.onnx_export import export_graph
from headstart.features.encoders.resolve import EncoderRequest, resolve_encoder
from headstart.features.encoders.saved import save_encoder
from headstart.features.encoders.spec import EncoderSpec
from headstart.features.networks.architectures import build, classifier_names
from headstart.features.networks.cut_graph import KEPT, SCALED, SHIFTED, TURNED, Hole, filled, hole_bytes
from headstart.pipeline.workspace import open_or_create_workspace

_LEAST_NUMBERS = 4  # fewer are found by chance elsewhere in the file


def drawn(model: str, seed: int) -> dict[str, torch.Tensor]:
    """Weights of which no two are alike, as those of a trained network and unlike those of one that was just made."""
    generator = torch.Generator().manual_seed(seed)
    drawn = {}
    for name, tensor in build(model, {}).state_dict().items():
        if tensor.dtype == torch.int64:
            drawn[name] = tensor
        else:
            scale = 1 / math.sqrt(math.prod(tensor.shape[1:])) if tensor.ndim > 1 else 0.2
            values = torch.randn(tensor.shape, generator=generator) * scale
            drawn[name] = values.square() + 0.5 if name.endswith("running_var") else values + (tensor.ndim == 1)
    return drawn


def exported(model: str, seed: int, place: Path) -> tuple[EncoderSpec, bytes, GraphFacts, dict[str, NDArray[np.float32]]]:
    """The encoder with weights drawn from `seed`, its graph, what is known of that, and its tensors."""
    import safetensors.torch

    path = place / f"{model}-{seed}.safetensors"
    safetensors.torch.save_file(drawn(model, seed), path)
    spec, weights = resolve_encoder(EncoderRequest(model, str(path)))
    folder = save_encoder(open_or_create_workspace(place / f"{model}-{seed}"), spec, weights)
    facts = export_graph(folder)
    if facts.refused:
        raise SystemExit(f"{model} has no graph: {facts.refused}")
    return spec, (folder / GRAPH_NAME).read_bytes(), facts, {name: tensor.numpy() for name, tensor in weights.tensors.items()}


def candidates(model: str, tensors: Mapping[str, NDArray[np.float32]]) -> dict[bytes, Hole]:
    """What may stand in the graph of `model`, by its bytes."""
    norms = {name: module.eps for name, module in build(model, {}).named_modules() if isinstance(module, torch.nn.BatchNorm2d)}
    kernels = [name for name, values in tensors.items() if values.ndim == 4]
    holes = [Hole(0, KEPT, name) for name in tensors]
    holes += [Hole(0, TURNED, name) for name, values in tensors.items() if values.ndim == 2]
    for norm, epsilon in norms.items():
        channels = len(tensors[f"{norm}.weight"])
        of_it = [name for name in kernels if len(tensors[name]) == channels]
        holes += [Hole(0, SCALED, name, norm, epsilon) for name in of_it]
        biases = {f"{name.removesuffix('weight')}bias" for name in of_it} & tensors.keys()
        holes += [Hole(0, SHIFTED, bias, norm, epsilon) for bias in ("", *sorted(biases))]
    return {hole_bytes(hole, tensors): hole for hole in reversed(holes)}


def cut_graph(data: bytes, known: Mapping[bytes, Hole]) -> tuple[bytes, list[Hole]]:
    """The graph without the numbers that are `known`, and where they belong."""
    found = []
    for each in onnx.load_from_string(data).graph.initializer:
        if each.raw_data in known and len(each.raw_data) >= 4 * _LEAST_NUMBERS:
            found.append((data.index(each.raw_data), each.raw_data))
    parts: list[bytes] = []
    holes: list[Hole] = []
    end = at = 0
    for begin, numbers in sorted(found):
        parts.append(data[end:begin])
        at += begin - end
        holes.append(Hole(**{**asdict(known[numbers]), "at": at}))
        end = begin + len(numbers)
    return b"".join([*parts, data[end:]]), holes


def write_known(model: str, folder: Path) -> None:
    with tempfile.TemporaryDirectory() as place:
        spec, data, facts, tensors = exported(model, 0, Path(place))
        cut, holes = cut_graph(data, candidates(model, tensors))
        _, other_data, _, others = exported(model, 1, Path(place))
    if filled(cut, holes, others) != other_data:
        raise SystemExit(f"{model}: other weights give other bytes than the exporter's")
    versions = {name: facts.versions[name] for name in ("torch", "timm")}
    known = facts_of_known(spec, tensors, classifier_names(model, {}), facts.check, versions, holes)
    (folder / f"{model}.onnx.cut").write_bytes(cut)
    (folder / f"{model}.json").write_text(json.dumps(known, indent=1) + "\n", encoding="utf-8")
    print(f"{model}: {len(holes)} of {len(tensors)} tensors, {len(cut)} bytes are left of {len(data)}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("models", nargs="*")
    options = parser.parse_args()
    options.folder.mkdir(exist_ok=True)
    for model in options.models or sorted(path.stem for path in options.folder.glob("*.json")):
        write_known(model, options.folder)


if __name__ == "__main__":
    main()
