"""Encoder and head as one file with weights in float16: pixels, and what stands beside them, in; what the head says out.

Half the size; weights become float32 again where they are used, so answers differ by what rounding them costs. Before a head
with thresholds they stay float32: there a small difference becomes a jump.
"""

from __future__ import annotations

import io
import json
import time
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from headstart.features.encoders.map_compression import as_module
from headstart.features.encoders.saved import read_network
from headstart.features.encoders.spec import EncoderSpec, projection_of, read_encoder
from headstart.features.networks.feature_map import outputs
from headstart.features.networks.onnx_bytes import onnx_bytes
from headstart.features.networks.quiet import silent_output
from headstart.pipeline.errors import HeadstartError
from headstart.pipeline.text import plural

if TYPE_CHECKING:
    from torch import Tensor, nn

HALF_FORMS = ("onnx", "torchscript")
LARGEST_HALF_DIFFERENCE = 1e-3  # of an answer that is about 1, from the same in float32
_LARGE = 256  # numbers from which an array is worth rounding
_CALLS, _WARM_UP = 20, 3
_AT_ONCE = 8  # images
_FORGIVEN = 0.1  # of the images, that a rounded feature may carry over a threshold
_THREADS = (1, 2)


@dataclass(frozen=True)
class WholeFile:
    """Attributes:
    data: its bytes.
    difference: largest one from float32 over `images`, as a part of the image's largest answer where that is beyond 1.
    beyond: of these, how many differ by more than LARGEST_HALF_DIFFERENCE; only a head with thresholds may have some.
    is_half: whether weights are float16.
    median_ms: by threads, of one image at a time.
    """

    data: bytes
    difference: float
    images: int
    beyond: int
    is_half: bool
    median_ms: Mapping[int, float]


def export_whole(
    folder: Path,
    head: nn.Module,
    beside: tuple[Tensor, ...],
    form: str,
    facts: Mapping[str, Any],
    images: NDArray[np.uint8],
    of_maps: bool = False,
) -> WholeFile:
    """The encoder in `folder` and `head` behind it: `images` uint8 (n, h, w, 3) and `beside` in, what `head` says out.

    Args:
        head: takes vectors (n, d) as a shard holds them, or with `of_maps` maps (n, c, h, w), and `beside`. With an attribute
            `has_thresholds` that is true nothing is stored as float16.
        beside: further arguments of two rows or more, () for none.
        form: one of HALF_FORMS.
        images: (m, h, w, 3) to compare on.

    Raises: HeadstartError if a weight is beyond float16, or answers differ by more than LARGEST_HALF_DIFFERENCE: of any image,
        behind thresholds of more than one in ten.
    """
    import torch

    has_thresholds = bool(getattr(head, "has_thresholds", False))
    spec = read_encoder(folder)
    projection = projection_of(folder, spec) if of_maps else None
    if projection is not None:
        head = torch.nn.Sequential(as_module(projection), head)
    whole = _whole(read_network(folder, spec), spec, head, of_maps)
    rows = tuple(one[torch.arange(len(images)) % len(one)] for one in beside)
    given = [images, *(one.numpy() for one in rows)]
    with torch.no_grad(), warnings.catch_warnings(), silent_output():
        warnings.simplefilter("ignore")
        expected = _in_parts(lambda part: whole(*(torch.from_numpy(one) for one in part)).numpy(), given)
        example = (torch.zeros((2, *images.shape[1:]), dtype=torch.uint8), *(one[:2] for one in beside))
        write = _as_onnx if form == "onnx" else _as_torchscript
        data = write(whole, example, facts, not has_thresholds)
    said = _in_parts(_opened(data, form, 0), given)
    # A class's number is worth what it is beside those of the other classes; near 0 it is rounded as coarsely as they are.
    off, sizes = (np.abs(one).reshape(len(images), -1).max(1) for one in (said - expected, expected))
    gaps = off / np.maximum(1, sizes)
    difference, beyond = float(gaps.max()), int((~(gaps <= LARGEST_HALF_DIFFERENCE)).sum())
    if beyond > (len(images) * _FORGIVEN if has_thresholds else 0):
        raise HeadstartError(
            f"answers for {beyond} of {plural(len(images), 'image')} differ from float32, by up to {difference:.1e}, at most "
            f"{LARGEST_HALF_DIFFERENCE:.0e} is expected. {'Choose another --format' if has_thresholds else 'Leave out --half'}"
        )
    median = {threads: _median_ms(_opened(data, form, threads), [one[:1] for one in given]) for threads in _THREADS}
    return WholeFile(data, difference, len(images), beyond, not has_thresholds, median)


def _in_parts(answer: Callable[[Sequence[NDArray[Any]]], NDArray[Any]], given: Sequence[NDArray[Any]]) -> NDArray[Any]:
    """What `answer` says of all rows, few at once: activations of many images are large."""
    starts = range(0, len(given[0]), _AT_ONCE)
    return np.concatenate([answer([one[start : start + _AT_ONCE] for one in given]) for start in starts])


def _whole(network: nn.Module, spec: EncoderSpec, head: nn.Module, of_maps: bool) -> nn.Module:
    import torch

    spatial, which = (spec.spatial, 1) if of_maps else (None, 0)

    class Whole(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.network, self.head = network, head
            self.scale: Tensor
            self.shift: Tensor
            mean, std = (torch.tensor(values).view(1, 3, 1, 1) for values in (spec.transform.mean, spec.transform.std))
            self.register_buffer("scale", 1 / (255 * std), persistent=False)
            self.register_buffer("shift", -mean / std, persistent=False)

        def forward(self, images: Tensor, *beside: Tensor) -> Any:
            colours = images.permute(0, 3, 1, 2).float()
            features = outputs(self.network, colours * self.scale + self.shift, spatial, spec.parts, colours / 255)[which]
            return self.head(features.half().float(), *beside)  # rounded as a shard is

    return Whole().eval().requires_grad_(False)


def _as_onnx(whole: nn.Module, example: tuple[Any, ...], facts: Mapping[str, Any], is_half: bool) -> bytes:
    import onnx

    names = ["images", *(f"beside_{number}" for number in range(1, len(example)))]
    graph = onnx_bytes(whole, example, names, ["answers"])
    model = onnx.load_from_string(graph)
    if is_half:
        # Weights alone: what a head keeps in buffers are units, which cost nothing.
        model = halved(model, frozenset(name for name, _ in whole.named_buffers() if name.startswith("head.")))
    onnx.helper.set_model_props(model, {"headstart": json.dumps(dict(facts), sort_keys=True)})
    onnx.checker.check_model(model, full_check=True)
    data: bytes = model.SerializeToString(deterministic=True)
    return data


def halved(model: Any, exact: frozenset[str] = frozenset()) -> Any:
    """The same ONNX model with its large float32 weights but for those named in `exact` stored as float16.

    Raises: HeadstartError if one does not fit.
    """
    from onnx import TensorProto, helper, numpy_helper

    graph, casts = model.graph, []
    for number, tensor in enumerate(list(graph.initializer)):
        if tensor.data_type != TensorProto.FLOAT or int(np.prod(tensor.dims)) < _LARGE or tensor.name in exact:
            continue
        half = _rounded(numpy_helper.to_array(tensor), tensor.name)
        name = f"{tensor.name}.half"
        casts.append(helper.make_node("Cast", [name], [tensor.name], to=TensorProto.FLOAT))
        graph.initializer[number].CopyFrom(numpy_helper.from_array(half, name))
    nodes = [*casts, *graph.node]
    del graph.node[:]
    graph.node.extend(nodes)
    return model


def _rounded(values: NDArray[np.float32], name: str) -> NDArray[np.float16]:
    with np.errstate(over="ignore"):
        half = values.astype(np.float16)
    if not np.isfinite(half).all():
        raise HeadstartError(f"the weights {name} reach {np.abs(values).max():.3g}, float16 holds 65,504. Leave out --half")
    return half


def _as_torchscript(whole: nn.Module, example: tuple[Any, ...], facts: Mapping[str, Any], is_half: bool) -> bytes:
    import torch

    places = {
        name: (module, own)
        for prefix, module in whole.named_modules()
        for own, one in module.named_parameters(prefix="", recurse=False)
        if is_half and one.numel() >= _LARGE
        for name in [f"{prefix}.{own}" if prefix else own]
    }
    halves = {}
    for name, (module, own) in places.items():
        weight = getattr(module, own).detach()
        _rounded(weight.numpy(), name)
        halves[name] = weight.half()
        del module._parameters[own]  # what the trace sees in its place is made of the half

    class Halved(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            for number, half in enumerate(halves.values()):
                self.register_buffer(f"half_{number}", half)

        def forward(self, images: Tensor, *beside: Tensor) -> Any:
            for number, (module, own) in enumerate(places.values()):
                setattr(module, own, getattr(self, f"half_{number}").float())
            return whole(images, *beside)

    buffer = io.BytesIO()
    traced = torch.jit.trace(Halved().eval(), example, check_trace=False)  # type: ignore[no-untyped-call]
    torch.jit.save(traced, buffer, _extra_files={"headstart.json": json.dumps(dict(facts), sort_keys=True)})
    return buffer.getvalue()


def _opened(data: bytes, form: str, threads: int) -> Callable[[Sequence[NDArray[Any]]], NDArray[np.float32]]:
    """A function from inputs to answers. Args: threads: 0: as many as there are."""
    if form == "onnx":
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads, options.log_severity_level = threads, 3
        session = onnxruntime.InferenceSession(data, options, providers=["CPUExecutionProvider"])
        names = [one.name for one in session.get_inputs()]
        return lambda given: np.asarray(session.run(None, dict(zip(names, given, strict=True)))[0])
    import torch

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch wants everybody to move to pt2; who asks for this format knows
        module = torch.jit.load(io.BytesIO(data))  # type: ignore[no-untyped-call]

    def answer(given: Sequence[NDArray[Any]]) -> NDArray[np.float32]:
        before = torch.get_num_threads()
        torch.set_num_threads(threads or before)
        try:
            with torch.inference_mode():
                said: NDArray[np.float32] = module(*(torch.from_numpy(one) for one in given)).numpy()
        finally:
            torch.set_num_threads(before)
        return said

    return answer


def _median_ms(answer: Callable[[Sequence[NDArray[Any]]], object], given: Sequence[NDArray[Any]]) -> float:
    seconds = []
    for number in range(_WARM_UP + _CALLS):
        begun = time.perf_counter()
        answer(given)
        if number >= _WARM_UP:
            seconds.append(time.perf_counter() - begun)
    return float(np.median(seconds) * 1000)
