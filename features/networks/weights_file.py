"""Weights files of other people: read without running anything that stands in them, and made to fit an architecture."""

import argparse
import contextlib
import sys
from collections import defaultdict
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from headstart.features.arrays import require_stored
from headstart.pipeline.doors import reading
from headstart.pipeline.errors import HeadstartError
from headstart.pipeline.text import printable, reason_of

from .architectures import build, classifier_names

if TYPE_CHECKING:
    import torch

    Tensors = Mapping[str, torch.Tensor]

# Where training scripts put the state dict; averaged weights first, as timm does.
_NESTS = ("state_dict_ema", "model_ema", "state_dict", "model")
_NAMED = 3
_KEYS = 12
_DEEPEST = 20
_ZIP = b"PK\x03\x04"
_TORCH_MAGIC = (_ZIP, b"\x80\x02")


# What DataParallel and torch.compile put before every name; timm takes it off.
_LIBRARY_PREFIXES = ("module.", "_orig_mod.")


class _LfsPointerError(Exception):
    """The file was never fetched."""


class WeightsOfFile(NamedTuple):
    """Attributes:
    tensors: by name.
    prefix: that stood before the names in the file, '' for none.
    """

    tensors: "dict[str, torch.Tensor]"
    prefix: str


def read_tensors(path: Path) -> WeightsOfFile:
    """All tensors of `path`, without the prefixes that DataParallel and torch.compile add; on the CPU, as they are.

    Those of tables within the table get the table's key as prefix; `_NESTS` are opened instead.

    The content decides the format, not the suffix. Raises: HeadstartError if the file is damaged or neither of the two.
    """
    import torch
    from timm.models import clean_state_dict

    is_stored = False
    try:
        # What torch wrote never unpacks to more than it holds.
        with reading.opened_given(path, reading.WEIGHTS_BYTES) as file:
            magic = file.read(len(reading.LFS_POINTER))
            if magic == reading.LFS_POINTER:
                raise _LfsPointerError
            if magic.startswith(_ZIP):
                require_stored(file)
        is_stored = True
        loaded = _load(path)
    except _LfsPointerError:
        raise HeadstartError(f"{path} is a pointer of Git LFS instead of the weights. Fetch them: git lfs pull") from None
    except Exception as error:  # garbage raises anything: KeyError, EOFError, UnpicklingError, SafetensorError ...
        foreign = _foreign_objects(path) if is_stored else None
        if foreign is not None:
            raise HeadstartError(f"{path} {foreign}") from None
        raise HeadstartError(
            f"{path} cannot be read as weights: {reason_of(error)}. "
            "Is it cut off? Fetch it again, or save its state dict as safetensors"
        ) from None
    for nest in _NESTS:
        if isinstance(loaded, dict) and isinstance(loaded.get(nest), dict):
            loaded = loaded[nest]
    keys = f" Its keys: {_some_keys(loaded)}." if isinstance(loaded, dict) and loaded else ""
    loaded = dict(_tensors_below(loaded, ""))
    if not loaded:
        raise HeadstartError(
            f"{path} holds no state dict (a table of named tensors).{keys} Save model.state_dict() as safetensors"
        )
    prefix = next((prefix for prefix in _LIBRARY_PREFIXES if all(name.startswith(prefix) for name in loaded)), "")
    cleaned: dict[str, torch.Tensor] = clean_state_dict(loaded)
    return WeightsOfFile(cleaned, prefix)


def _tensors_below(value: Any, place: str) -> "Iterator[tuple[str, torch.Tensor]]":
    """(name, tensor) in tables within tables, named as if these were modules, as `encoder.conv1.weight`; nothing else."""
    import torch

    if not isinstance(value, dict) or place.count(".") >= _DEEPEST:
        return
    for key, inner in value.items():
        if isinstance(key, str) and isinstance(inner, torch.Tensor):
            yield f"{place}{key}", inner
        elif isinstance(key, str):
            yield from _tensors_below(inner, f"{place}{key}.")


def _some_keys(table: Mapping[Any, Any]) -> str:
    return printable(", ".join(str(key) for key in list(table)[:_KEYS]))


class _Foreign:
    """Stands for an object of a class that is not loaded. Whatever the file would have done with it, nothing is run."""

    name = ""

    def __init__(self, *values: Any, **named: Any) -> None:
        pass

    def __setstate__(self, state: Any) -> None:
        pass


def _foreign_objects(path: Path) -> str | None:
    """What a torch file holds besides tensors and plain values, and under which keys; None if it is damaged, or not torch's."""
    import torch

    try:
        names = sorted(torch.serialization.get_unsafe_globals_in_checkpoint(path))
    except Exception:  # damaged, or not torch's
        return None
    if not names:
        return None
    loaded = None
    with contextlib.suppress(Exception):  # torch loads some things under no name
        stand_ins: list[Any] = [(type("Foreign", (_Foreign,), {"name": name}), name) for name in names]
        with torch.serialization.safe_globals(stand_ins):
            loaded = torch.load(path, map_location="cpu", weights_only=True, mmap=True)
    places = [f"{place}: {name}" for place, name in _places(loaded, "")]
    keys = list(loaded)[:_KEYS] if isinstance(loaded, dict) else []
    nest = next((nest for nest in _NESTS if nest in keys), "state_dict")
    kept = f"checkpoint['{nest}']" if keys else "model.state_dict()"
    more = f" and {len(places) - _NAMED} more" if len(places) > _NAMED else ""
    their_keys = f"Its keys: {_some_keys(loaded or {})}. " if keys else ""
    return printable(
        f"holds other objects than tensors ({', '.join(places[:_NAMED] or names[:_NAMED])}{more}), and none of those is read. "
        f"{their_keys}Save its state dict alone: torch.save({kept}, FILE)"
    )


def _places(value: Any, place: str) -> Iterator[tuple[str, str]]:
    """(where, class) of every foreign object in tables and lists."""
    if isinstance(value, _Foreign):
        yield place or "the file itself", value.name
    elif isinstance(value, dict | list | tuple) and place.count(".") < _DEEPEST:
        for key, inner in value.items() if isinstance(value, dict) else enumerate(value):
            yield from _places(inner, f"{place}.{key}" if place else str(key))


def _load(path: Path) -> Any:
    import safetensors.torch
    import torch

    with reading.opened_given(path, reading.WEIGHTS_BYTES) as file:
        magic = file.read(4)
        file.seek(0)
        if magic.startswith(_TORCH_MAGIC):
            with torch.serialization.safe_globals([argparse.Namespace]):  # plain values that timm's training script saves along
                return torch.load(file, map_location="cpu", weights_only=True)
    tensors = safetensors.torch.load_file(path, device="cpu")
    with safetensors.safe_open(path, "pt") as opened:
        # As the library's own save_model writes them: tensors that a network ties together are stored once.
        tied = opened.metadata() or {}
    return tensors | {name: tensors[kept] for name, kept in tied.items() if kept in tensors and name not in tensors}


def fit_tensors(read: WeightsOfFile, model: str, model_args: Mapping[str, Any], path: Path) -> WeightsOfFile:
    """The tensors of `model` without classifier, taken from those read of `path`, in the dtypes that timm builds.

    A classifier of any size and `num_batches_tracked` may be there or not, and of tied tensors one is enough. What timm itself
    would rename or drop when it loads such a file is renamed or dropped; positions are resampled only if model_args ask for
    another image size.

    Raises: HeadstartError naming up to three tensors that are missing, unexpected or of another shape.
    """
    network = build(model, model_args)
    wanted: Tensors = network.state_dict()
    ignored = classifier_names(model, model_args)
    tensors, prefix = _unwrapped(read.tensors, wanted, path)
    tensors = _with_tied(tensors, wanted)
    differing = _differences(tensors, wanted, ignored)
    if differing:
        adapted = _as_timm_loads(tensors, network)
        reshaped = [name for name in tensors.keys() & wanted.keys() if tensors[name].shape != wanted[name].shape]
        # Only positions may be resampled, and only for another image size: timm's filter would bend patch embeddings as well.
        bendable = "img_size" in model_args and all("pos" in name for name in reshaped)
        if (bendable or not reshaped) and not _differences(adapted, wanted, ignored):
            tensors, differing = adapted, []
    if differing:
        more = f" and {len(differing) - _NAMED} more" if len(differing) > _NAMED else ""
        begin = _common_begin(tensors)
        names = f" (all names begin with '{printable(begin)}')" if begin else ""
        raise HeadstartError(f"{path} does not fit {model}: {'; '.join(differing[:_NAMED])}{more}{names}. {_advice(model, path)}")
    fitted = {name: tensors[name].to(tensor.dtype).contiguous() for name, tensor in wanted.items() if name in tensors}
    return WeightsOfFile(fitted, read.prefix + prefix)


def _with_tied(tensors: "Tensors", wanted: "Tensors") -> "Tensors":
    """`tensors`, and those that the network ties to one of them, as long as files leave them out."""
    groups: dict[tuple[int, ...], list[str]] = defaultdict(list)
    for name, tensor in wanted.items():
        groups[tensor.data_ptr(), *tensor.shape].append(name)
    tied: dict[str, torch.Tensor] = {}
    for names in groups.values():
        there = next((name for name in names if name in tensors), None)
        tied |= {name: tensors[there] for name in names if there is not None and name not in tensors and len(names) > 1}
    return {**tensors, **tied} if tied else tensors


def _common_begin(tensors: "Tensors") -> str:
    """The first part of all names, with its dot, if it is the same in all; else ''."""
    begins = {name.partition(".")[0] for name in tensors if "." in name}
    return f"{begins.pop()}." if len(begins) == 1 and all("." in name for name in tensors) else ""


# What scripts call the head that they put behind a network. Anything else that the network lacks is another network's.
_HEADS = frozenset({"head", "heads", "fc", "classifier", "linear", "last_linear", "projector", "projection_head", "criterion"})


def _unwrapped(tensors: "Tensors", wanted: "Tensors", path: Path) -> "tuple[Tensors, str]":
    """`tensors` without the prefix that a training script put before the network's names (`model.`, `backbone.`), and that.

    Unchanged where no prefix, or the empty one, leaves all that is wanted. Raises: HeadstartError if several do.
    """
    # Of tied tensors the first: a file may leave out the others.
    first_of = {tensor.data_ptr(): name for name, tensor in reversed(list(wanted.items()))}
    needed = [
        name
        for name, tensor in wanted.items()
        if not name.endswith("num_batches_tracked") and first_of[tensor.data_ptr()] == name
    ]
    if not needed or all(name in tensors for name in needed):
        return tensors, ""
    first = needed[0]
    prefixes = [name[: -len(first)] for name in tensors if name.endswith(f".{first}")]
    fitting = [
        prefix
        for prefix in prefixes
        if all(f"{prefix}{name}" in tensors and tensors[f"{prefix}{name}"].shape == wanted[name].shape for name in needed)
    ]
    if len(fitting) > 1:
        raise HeadstartError(
            f"{path} holds {len(fitting)} networks that fit: {', '.join(sorted(fitting)[:_NAMED])}. Save one of them alone"
        )
    if not fitting:
        return tensors, ""
    [prefix] = fitting
    kept = {name.removeprefix(prefix): tensor for name, tensor in tensors.items() if name.startswith(prefix)}
    return {name: tensor for name, tensor in kept.items() if name in wanted or name.partition(".")[0] not in _HEADS}, prefix


def _differences(tensors: "Tensors", wanted: "Tensors", ignored: set[str]) -> list[str]:
    """One phrase for each tensor that does not fit, other shapes first, because they tell most."""
    shared = sorted(tensors.keys() & wanted.keys())
    shapes = [
        f"{name} is {list(tensors[name].shape)}, expected {list(wanted[name].shape)}"
        for name in shared
        if tensors[name].shape != wanted[name].shape
    ]
    # Integers in place of floats are quantized weights, which mean nothing without their scales.
    kinds = [
        f"{name} is {tensors[name].dtype}, expected {wanted[name].dtype}"
        for name in shared
        if tensors[name].is_floating_point() != wanted[name].is_floating_point()
    ]
    missing = sorted(name for name in wanted.keys() - tensors.keys() if not name.endswith("num_batches_tracked"))
    # A single number, such as how many states were averaged, decides nothing.
    unexpected = sorted(name for name in tensors.keys() - wanted.keys() - ignored if tensors[name].dim())
    return (
        shapes
        + kinds
        + [f"{name} {list(wanted[name].shape)} is missing" for name in missing]
        + [f"{name} {list(tensors[name].shape)} is unexpected" for name in unexpected]
    )


def _as_timm_loads(tensors: "Tensors", network: "torch.nn.Module") -> "Tensors":
    """`tensors` through the filter that timm keeps beside an architecture for files of its first authors; else unchanged."""
    adapt = getattr(sys.modules[type(network).__module__], "checkpoint_filter_fn", None)
    if adapt is None:
        return tensors
    try:
        adapted: Tensors = adapt(dict(tensors), network)
    except Exception:  # a filter may assume anything about a file that it was not made for
        return tensors
    return adapted


def _advice(model: str, path: Path) -> str:
    import timm

    named = [name for name in timm.list_models() if path.name.startswith(name) and name != model.partition(".")[0]]
    if named:
        return f"By its name it fits --encoder {max(named, key=len)}"
    return "Pass the --encoder that these weights were made for"
