r"""Text on one line: a reversible spelling for names, a library's reason, sizes, counts and times in words.

Backslash is `\\`, newline `\n`, carriage return `\r`; other control characters and bytes that are not UTF-8 (Python's
surrogateescape) are `\xNN`; line separators beyond ASCII and lone surrogates are `\uNNNN`. So a field, a row and an error are
always one line of valid UTF-8.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any, Literal

# U+0085, U+2028 and U+2029 end a line for str.splitlines and some editors, so they may not stand in a row as they are.
_CONTROLS = "\\x00-\\x1f\\x7f-\\x9f\u2028\u2029\ud800-\udfff"
# Characters that turn the order of what follows: on a screen a name could show itself as another.
_TURNING = "\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069"
_CONTROL, _SHOWN_ODD = re.compile(f"[{_CONTROLS}{_TURNING}]"), re.compile(f"[{_CONTROLS}{_TURNING}\\\\]")
_ODD = re.compile(f"[{_CONTROLS}\\\\]")
_ESCAPED = re.compile(r"\\(?:([\\nr])|x([0-9a-f]{2})|u([0-9a-f]{4}))")
_FORMULA = re.compile(r"[=+\-@](?!\d*\.?\d+(?:[eE][+-]?\d+)?\Z)|[=@]")
_SHORT = {"\\": "\\\\", "\n": "\\n", "\r": "\\r"}
_ONE = {"are": "is", "were": "was", "have": "has"}
_LONG = {"\\": "\\", "n": "\n", "r": "\r"}


def escape(text: str) -> str:
    r"""`text` on one line; a first character that would make it a spreadsheet's formula is `\xNN` too, plain numbers excepted."""
    if _FORMULA.match(text):
        return f"\\x{ord(text[0]):02x}{_ODD.sub(_spell, text[1:])}"
    return _ODD.sub(_spell, text) if _ODD.search(text) else text


def no_formula(text: str) -> str:
    """`text` with the first character spelled as `escape` does where a spreadsheet would run it; all else as it is."""
    return f"\\x{ord(text[0]):02x}{text[1:]}" if _FORMULA.match(text) else text


def printable(text: str) -> str:
    """`text` on one line that any UTF-8 terminal takes; for messages."""
    return _SHOWN_ODD.sub(_spell, text)


def one_line(text: str) -> str:
    r"""`printable` for a message in which names may be spelled so already: backslashes stay as they are."""
    return _CONTROL.sub(_spell, text)


def unescape(text: str) -> str:
    """What `escape` was given. A backslash that `escape` did not write stays as it is."""
    return _ESCAPED.sub(_read, text) if "\\" in text else text


def _spell(match: re.Match[str]) -> str:
    character = match[0]
    code = ord(character)
    if 0xDC80 <= code <= 0xDCFF:  # surrogateescape: byte NN of a name that is not UTF-8
        return f"\\x{code - 0xDC00:02x}"
    return _SHORT.get(character) or (f"\\x{code:02x}" if code < 0x80 else f"\\u{code:04x}")


def _read(match: re.Match[str]) -> str:
    short, byte, unit = match.groups()
    if short:
        return _LONG[short]
    if unit:
        return chr(int(unit, 16))
    code = int(byte, 16)
    return chr(code if code < 0x80 else 0xDC00 + code)


def reason_of(error: BaseException) -> str:
    """Its message without line breaks and closing full stop, at most 160 characters; its type where it has no message."""
    return " ".join(str(error).split())[:160].rstrip(" .") or type(error).__name__


def number_text(number: float) -> str:
    """Nine digits, or fifteen of a number so large that nine may end before what it differs in: seconds since 1970, bytes."""
    return f"{number:.9g}" if abs(number) < 1e6 else f"{number:.15g}"


def size_words(size: int) -> str:
    """Bytes as people say them, with what tells two files apart: `1.26 GB`, `230.0 MB`, `0.9 kB`."""
    if size >= 1e8:
        return f"{size / 1e9:,.2f} GB"
    return f"{size / 1e6:,.1f} MB" if size >= 1e5 else f"{size / 1e3:,.1f} kB"


def rough_size_words(size: float, unit: Literal["MB", "GB"]) -> str:
    """Bytes of memory with no more digits than a limit or a measurement of it has: `1.5 GB`, `230 MB`."""
    return f"{size / 1e9:,.1f} GB" if unit == "GB" else f"{size / 1e6:,.0f} MB"


def plural(number: int, noun: str) -> str:
    """`1 head`, `1,797 images`."""
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def verb(number: int, many: str) -> str:
    """`are`, `have`, `need` behind a number other than 1; behind that `is`, `has`, `needs`."""
    return many if number != 1 else _ONE.get(many, f"{many}s")


def span(seconds: float) -> str:
    """Seconds as people say them: `1h 02m`, `3m 05s`, `12s`."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours}h {minutes:02d}m"
    return f"{minutes}m {rest:02d}s" if minutes else f"{rest}s"


class Screen:
    """A text stream on which nothing that stands in a name acts: whatever is written, and whoever writes it, is escaped.

    Args:
        stream: what it stands for; everything but writing is its own.
    """

    def __init__(self, stream: Any) -> None:
        self._stream = stream

    def write(self, text: str) -> int:
        self._stream.write(_ACTING.sub(_spell, text) if _ACTING.search(text) else text)
        return len(text)

    @property
    def unguarded(self) -> Any:
        """The stream itself: for what draws with escape sequences of its own, and escapes each name."""
        return self._stream

    def writelines(self, lines: Iterable[str]) -> None:
        for line in lines:
            self.write(line)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


# All but line ends, tabs, and what this project itself sends: a return to the line's begin and the order to clear the line.
_ACTING = re.compile(f"(?!\\x1b\\[2K)[\\x00-\\x08\\x0b\\x0c\\x0e-\\x1f\\x7f-\\x9f\u2028\u2029{_TURNING}]")
