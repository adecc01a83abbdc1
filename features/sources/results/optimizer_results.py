"""What the JSON files of vectorizer optimizers say, whatever their shape: one result an image, a set of parameters and an SSIM.

Knows lists of records, `results`, histories by image and methods nested below an image. Keys may be in snake_case or camelCase.
"""

from __future__ import annotations

import functools
import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import IO, Any

from .json_stream import BrokenJsonError, JsonPath, stream_json

# Name: (smallest, largest, whether it is a whole number), as VTracer takes them.
PARAMETERS: dict[str, tuple[float, float, bool]] = {
    "filter_speckle": (0, 128, True),
    "color_precision": (1, 8, True),
    "layer_difference": (0, 255, True),
    "corner_threshold": (0, 180, True),
    "length_threshold": (3.5, 10, False),
    "max_iterations": (1, 1000, True),
    "splice_threshold": (0, 180, True),
    "path_precision": (0, 16, True),
}
_PARAMETER_KEYS = ("parameters", "params", "vtracer_params", "vtracer_parameters", "best_parameters", "best_params")
_IMAGE_KEYS = ("image", "image_path", "image_file", "image_name", "file", "filename", "file_name", "file_path", "path", "logo")
_TYPE_KEYS = ("logo_type", "category", "image_type", "type")
_METHOD_KEYS = ("method", "optimization_method", "optimizer", "algorithm")
_ITERATION_KEYS = ("iteration", "iter", "step", "episode", "trial")
_METRIC_KEYS = ("metrics", "quality", "scores", "quality_metrics")
_SSIM_KEYS = ("ssim", "ssim_score", "best_ssim")
_ERROR_KEYS = ("error", "error_message", "exception")
_SUCCESS_KEYS = ("success", "successful", "ok")
_BY_IMAGE, _BY_METHOD = ("images", "logos", "files"), ("methods", "algorithms")
_NO_RESULTS = frozenset(("config", "configuration", "settings", "summary", "metadata", "statistics", "aggregate"))
_IMAGE_NAME = re.compile(r".+\.(png|jpe?g|webp|bmp|gif|tiff?)", re.IGNORECASE)
_CAMEL = re.compile(r"(?<=[a-z0-9])(?=[A-Z])")
UNKNOWN = "unknown"
_DEEPEST = 64

VectorizerParameters = tuple[int | float, ...]


@dataclass(frozen=True)
class OptimizerResult:
    """What one run of the vectorizer came to.

    Attributes:
        image: its name as the file has it.
        parameters: in the order of PARAMETERS.
        ssim: 0 to 1.
        logo_type, method: UNKNOWN if the file does not say.
        iteration: None if it is not one of a history.
    """

    image: str
    parameters: VectorizerParameters
    ssim: float
    logo_type: str
    method: str
    iteration: int | None


@dataclass(frozen=True)
class Refusal:
    """Why an entry is no result: a sort of reason, for counting, and the reason itself."""

    sort: str
    why: str


class _RefusedError(Exception):
    def __init__(self, sort: str, why: str) -> None:
        super().__init__(why)
        self.sort, self.why = sort, why


Entry = tuple[JsonPath, OptimizerResult | Refusal]


def place_in(path: JsonPath) -> str:
    """A place in a JSON file as text: `images/a.png/history[0]`."""
    text = ""
    for part in path:
        text += f"[{part}]" if isinstance(part, int) else f"{'/' if text else ''}{part}"
    return text


def read_entries(file: IO[bytes], largest: int | None = None) -> Iterator[Entry]:
    """Every entry of one file, a result or why it is none, with its place; memory does not grow with the file.

    Args:
        file: JSON, seekable: a large file is read twice, because what holds for all results may stand behind them.
        largest: see `stream_json`.

    Damage ends the file: the last entry says so, what stands before it counts.
    """
    arguments = () if largest is None else (largest,)
    above: dict[JsonPath, dict[str, Any]] = {}
    is_small = False
    try:
        for path, value in stream_json(file, *arguments):
            is_small = not path
            if path and isinstance(path[-1], str) and not isinstance(value, dict | list):
                above.setdefault(path[:-1], {})[path[-1]] = value
            elif not path:
                yield from _entries(value, (), _NOTHING)
    except BrokenJsonError as error:
        if is_small:  # else the second reading says so, behind what stands before
            yield (), _damage(error)
    if is_small:
        return
    file.seek(0)
    container: JsonPath = ()
    context = _NOTHING
    try:
        for path, value in stream_json(file, *arguments):
            if isinstance(value, dict | list) and not any(_is_no_result(key) for key in path):
                if context is _NOTHING or path[:-1] != container:
                    container, context = path[:-1], _said_above(path, above)
                yield from _entries(value, path, context)
    except BrokenJsonError as error:
        yield (), _damage(error)


def _damage(error: BrokenJsonError) -> Refusal:
    return Refusal("damaged file", f"no JSON from character {error.character} on: {error}")


@dataclass(frozen=True)
class _Context:
    """What the containers of an entry say about it."""

    image: Any = None
    logo_type: Any = None
    method: Any = None


_NOTHING = _Context()


def _said_above(path: JsonPath, above: Mapping[JsonPath, Mapping[str, Any]]) -> _Context:
    context = _NOTHING
    for depth in range(len(path)):
        context = _within(context, path[:depth])
        context = _heard(context, _plain(above.get(path[:depth], {})))
    return context


def _entries(value: Any, path: JsonPath, context: _Context) -> Iterator[Entry]:
    context = _within(context, path)
    if len(path) > _DEEPEST:
        yield path[:_DEEPEST], Refusal("no result", f"is nested more than {_DEEPEST} deep")
    elif isinstance(value, list):
        for number, one in enumerate(value):
            if isinstance(one, dict | list):
                yield from _entries(one, (*path, number), context)
            elif _is_list_of_results(path):
                yield (*path, number), Refusal("no result", f"is {_kind(one)}, not a result")
    elif isinstance(value, dict):
        facts = _plain(value)
        heard = _heard(context, facts)
        for key, one in value.items():
            name = _snake(key)
            if isinstance(one, dict | list) and name not in (*_PARAMETER_KEYS, *_METRIC_KEYS) and not _is_no_result(key):
                yield from _entries(one, (*path, key), heard)
        if _is_entry(facts):
            try:
                yield path, _result(facts, heard)
            except _RefusedError as error:
                yield path, Refusal(error.sort, error.why)


def _within(context: _Context, path: JsonPath) -> _Context:
    """What the last key says: in `images` and `methods`, keys are names."""
    if not path or not isinstance(path[-1], str):
        return context
    key, container = path[-1], _snake(str(path[-2])) if len(path) > 1 else ""
    if container in _BY_METHOD:
        return replace(context, method=key)
    if container in _BY_IMAGE or _IMAGE_NAME.fullmatch(key):
        return replace(context, image=key)
    return context


def _heard(context: _Context, facts: Mapping[str, Any]) -> _Context:
    said = {
        "image": _first(facts, _IMAGE_KEYS, scalar=True),
        "logo_type": _first(facts, _TYPE_KEYS, scalar=True),
        "method": _first(facts, _METHOD_KEYS, scalar=True),
    }
    return replace(context, **{name: value for name, value in said.items() if value is not None})


def _is_entry(facts: Mapping[str, Any]) -> bool:
    if any(key in facts for key in (*_SSIM_KEYS, *_PARAMETER_KEYS)) or sum(name in facts for name in PARAMETERS) > 1:
        return True
    return bool(_first(facts, _ERROR_KEYS)) or _first(facts, _SUCCESS_KEYS) is False


def _result(facts: Mapping[str, Any], context: _Context) -> OptimizerResult:
    """Raises: _RefusedError."""
    metrics = _plain(_first(facts, _METRIC_KEYS) or {})
    ssim = next((said[key] for said in (facts, metrics) for key in _SSIM_KEYS if key in said), None)
    error, success = _first(facts, _ERROR_KEYS), _first(facts, _SUCCESS_KEYS)
    if success is False or (error and ssim is None):
        what = "failed conversion" if success is False else "failed"
        why = str(error)[:100] if error else "no reason given"
        raise _RefusedError("failed run", f"{what} ({why}): skipped, counted, no error")
    if context.image is None or context.image == "":
        raise _RefusedError("no image", "no image")
    if not isinstance(context.image, str):
        raise _RefusedError("no image", f"image is {_kind(context.image)}, not a name")
    given = _first(facts, _PARAMETER_KEYS)
    parameters = _parameters(_plain(given) if isinstance(given, dict) else facts)
    if ssim is None:
        raise _RefusedError("no ssim", "no ssim")
    _require_number("ssim", ssim, 0, 1, "wrong ssim")
    iteration = _first(facts, _ITERATION_KEYS)
    if iteration is not None and (isinstance(iteration, bool) or not isinstance(iteration, int)):
        raise _RefusedError("wrong iteration", f"iteration is {_kind(iteration)}, not a whole number")
    return OptimizerResult(context.image, parameters, ssim, _word(context.logo_type), _word(context.method), iteration)


def _parameters(given: Mapping[str, Any]) -> VectorizerParameters:
    values: list[int | float] = []
    for name, (least, most, is_whole) in PARAMETERS.items():
        value = given.get(name)
        if value is None:
            raise _RefusedError("parameter missing", f"parameter {name} is missing")
        _require_number(f"parameter {name}", value, least, most, "wrong parameter")
        if is_whole and value != int(value):
            raise _RefusedError("wrong parameter", f"parameter {name} is {value:g}, not a whole number")
        values.append(int(value) if is_whole else value)
    return tuple(values)


def _require_number(what: str, value: Any, least: float, most: float, sort: str) -> None:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise _RefusedError(sort, f"{what} is {_kind(value)}, not a number")
    if isinstance(value, float) and not math.isfinite(value):
        raise _RefusedError(sort, f"{what} is not finite")
    if not least <= value <= most:
        said = f"{value:g}" if abs(value) < 1e15 else "beyond 1e15"
        raise _RefusedError(sort, f"{what} {said} is not between {least:g} and {most:g}")


def _kind(value: Any) -> str:
    names = {str: "text", bool: "true or false", int: "a number", float: "a number", list: "a list", dict: "an object"}
    return names.get(type(value), "null")


def _word(value: Any) -> str:
    return str(value) if isinstance(value, str | int) and not isinstance(value, bool) and value != "" else UNKNOWN


def _first(facts: Mapping[str, Any], keys: tuple[str, ...], scalar: bool = False) -> Any:
    for key in keys:
        if facts.get(key) is not None and not (scalar and isinstance(facts[key], dict | list)):
            return facts[key]
    return None


def _plain(facts: Any) -> dict[str, Any]:
    return {_snake(key): value for key, value in facts.items()} if isinstance(facts, Mapping) else {}


@functools.lru_cache(maxsize=4096)  # a history says the same keys a million times
def _snake(key: str) -> str:
    return _CAMEL.sub("_", key).casefold().replace("-", "_").replace(" ", "_")


def _is_no_result(key: str | int) -> bool:
    return isinstance(key, str) and _snake(key) in _NO_RESULTS


def _is_list_of_results(path: JsonPath) -> bool:
    return not path or _snake(str(path[-1])) in ("results", "history", "records", "iterations")
