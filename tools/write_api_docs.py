"""Writes docs/api.md from the docstrings of what the package offers: python -m tools.write_api_docs. A test says when stale."""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import headstart

PATH = Path(__file__).resolve().parent.parent / "docs" / "api.md"
_HEAD = """# From Python

Written by `python -m tools.write_api_docs` from the docstrings. Each is a name of the package, `from headstart import plan`.
What a command does is one of these calls, and a notebook does the same. Where a workspace is asked for, `None` is
the one that every command would take. Whatever a user can set right raises `HeadstartError` (`headstart.pipeline.errors`): its
text is the one line that a command prints.
"""


def api_reference() -> str:
    """Functions in the order of the package's own table, then classes."""
    named = [(name, getattr(headstart, name)) for name in headstart._PUBLIC]
    functions = [(name, it) for name, it in named if not inspect.isclass(it)]
    classes = [(name, it) for name, it in named if inspect.isclass(it)]
    parts = [_HEAD, "## Functions\n"]
    for name, it in functions:
        parts += _described(name, it)
    parts.append("## Classes\n")
    for name, it in classes:
        parts += _described(name, it)
    return "\n".join(parts).rstrip("\n") + "\n"


def _described(name: str, it: Any) -> Iterator[str]:
    yield f"### {name}\n"
    yield f"```python\nfrom headstart import {name}\n\n{name}{_signature(it)}\n```\n"
    yield f"```text\n{inspect.getdoc(it) or ''}\n```\n"


def _signature(it: Any) -> str:
    """A parameter a line; defaults that are functions or objects without a short spelling as `...`."""
    lines, is_named = [], False
    signature = inspect.signature(it)
    for parameter in signature.parameters.values():
        if parameter.kind is parameter.KEYWORD_ONLY and not is_named:
            is_named = True
            lines.append("    *,")
        star = {parameter.VAR_POSITIONAL: "*", parameter.VAR_KEYWORD: "**"}.get(parameter.kind, "")
        if parameter.kind is parameter.VAR_POSITIONAL:
            is_named = True
        kind = "" if parameter.annotation is parameter.empty else f": {_annotation(parameter.annotation)}"
        lines.append(f"    {star}{parameter.name}{kind}{_default(parameter)},")
    returns = (
        ""
        if signature.return_annotation in (signature.empty, None, "None")
        else f" -> {_annotation(signature.return_annotation)}"
    )
    return "(\n" + "\n".join(lines) + f"\n){returns}" if lines else f"(){returns}"


def _default(parameter: inspect.Parameter) -> str:
    if parameter.default is parameter.empty:
        return ""
    is_plain = isinstance(parameter.default, str | int | float | bool | tuple | type(None))
    return f" = {parameter.default!r}" if is_plain else " = ..."


def _annotation(annotation: Any) -> str:
    written = annotation if isinstance(annotation, str) else inspect.formatannotation(annotation)
    return re.sub(r"\b(?:headstart|numpy|collections|pathlib|typing|pandas)\.(?:\w+\.)*", "", written)


if __name__ == "__main__":
    PATH.write_text(api_reference(), encoding="utf-8")
