"""Text that came from data, as HTML, SVG and JSON in which it can do nothing but be read."""

from __future__ import annotations

import html
import json
import re
from collections.abc import Mapping
from typing import Any

from headstart.pipeline.text import printable

LONGEST = 120  # characters of a name that are shown
_BIDI = re.compile("[\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069\ufeff]")


def plain(text: str, longest: int = LONGEST) -> str:
    """On one line, nothing invisible in it, its middle left out where it is long."""
    shown = _BIDI.sub(lambda match: f"\\u{ord(match[0]):04x}", printable(text))
    if len(shown) <= longest:
        return shown
    head = (longest - 1) * 2 // 3
    return f"{shown[:head]}…{shown[len(shown) - (longest - 1 - head) :]}"


def text(value: str, longest: int = LONGEST) -> str:
    """For an element or an attribute in double quotes."""
    return html.escape(plain(value, longest))


def embedded_json(facts: Any) -> str:
    """For a `<script type="application/json">`: no character of it ends the element or begins a comment."""
    written = json.dumps(facts, separators=(",", ":"), allow_nan=False)
    return written.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")


def tag(name: str, attributes: Mapping[str, object], content: str = "") -> str:
    """An element; values are escaped, `content` is markup. None leaves an attribute out."""
    given = "".join(f' {key}="{html.escape(str(value))}"' for key, value in attributes.items() if value is not None)
    return f"<{name}{given}>{content}</{name}>"
