"""The JSON of a workspace: read and written here alone, so that whatever is wrong with one is said the same way.

A record of a higher format is refused, because who wrote it knew something that this version does not; keys that this
version does not know are passed over, because they were added without changing what the others mean.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import math
import os
import re
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, NoReturn

from headstart.pipeline import paths
from headstart.pipeline.errors import HeadstartError
from headstart.pipeline.text import one_line

from . import reading

LARGEST = 2**53  # beyond it JSON's numbers are no integers any more
_SEAL = b'"seal": "'
# The last key of an object if what it says may be a seal, and the name of that key, whatever bytes it has.
_LAST = re.compile(rb'\s"([^"]{1,16})": "([0-9a-f]{16})"\s*\}\s*\Z')
_LONGEST_SEAL = 128
_SEALED, _SEALED_END = b",\n " + _SEAL, b'"\n}\n'  # what stands around the digest where the indent is 1
_MOST_DIGITS = 300  # of an integer that is one as a float, too: whoever asks whether it is finite gets an answer
_decode = json.JSONDecoder().raw_decode
_UPGRADE = "Upgrade: pip install -U headstart"


class DamagedError(HeadstartError):
    """A file is not what was written. `why` says in what way, without the path."""

    def __init__(self, path: Path | str, why: str, hint: str = "") -> None:
        why = one_line(why)[:300]
        super().__init__(f"{path} is damaged ({why})" + (f". {hint}" if hint else ""))
        self.path = Path(path)
        self.why = why


class NewerError(HeadstartError):
    """A later version wrote it, so this one must neither judge nor replace it."""

    def __init__(self, path: Path | str, found: Any, highest: int) -> None:
        super().__init__(f"{path} has format {found}, this version reads up to {highest}. {_UPGRADE}")


class Record(dict[str, Any]):
    """One object of a file; each value is asked for by its kind. Raises: DamagedError naming the file and the key."""

    def __init__(self, facts: Mapping[str, Any], path: Path | str, hint: str = "", within: str = "") -> None:
        super().__init__(facts)
        self.path, self.hint, self.within = path, hint, within

    def text(self, key: str, pattern: str = "", longest: int = 1 << 20) -> str:
        """A string; with `pattern`, one that all of it matches, and that a file may be called."""
        value: str = self._of(key, str)
        if len(value) > longest or (pattern and not (re.fullmatch(pattern, value) and _is_encodable(value))):
            self.refuse(key, value)
        return value

    def integer(self, key: str, least: int = 0, most: int = LARGEST) -> int:
        value: int = self._of(key, int)
        if isinstance(value, bool) or not least <= value <= most:
            self.refuse(key, value)
        return value

    def number(self, key: str, least: float = -math.inf, most: float = math.inf) -> float:
        value = self._of(key, (int, float))
        if isinstance(value, bool) or not least <= value <= most or abs(value) > 1e300:
            self.refuse(key, value)
        return float(value)

    def flag(self, key: str) -> bool:
        value: bool = self._of(key, bool)
        return value

    def items_of(self, key: str, longest: int = 1 << 24) -> list[Any]:
        value: list[Any] = self._of(key, list)
        if len(value) > longest:
            self.refuse(key, value)
        return value

    def record(self, key: str) -> Record:
        return Record(self._of(key, dict), self.path, self.hint, f"{self.within}{key}.")

    def records(self, key: str) -> list[Record]:
        return [self._inner(f"{key}[{n}]", value) for n, value in enumerate(self.items_of(key))]

    def texts(self, key: str) -> list[str]:
        values = self.items_of(key)
        if not all(isinstance(value, str) for value in values):
            self.refuse(key, values)
        return values

    def refuse(self, key: str, value: Any) -> NoReturn:
        raise DamagedError(self.path, f"{self.within}{key} is {repr(value)[:80]}", self.hint)

    def _inner(self, key: str, value: Any) -> Record:
        if not isinstance(value, dict):
            self.refuse(key, value)
        return Record(value, self.path, self.hint, f"{self.within}{key}.")

    def _of(self, key: str, kind: Any) -> Any:
        if key not in self:
            raise DamagedError(self.path, f"{self.within}{key} is missing", self.hint)
        value = self[key]
        if not isinstance(value, kind):
            self.refuse(key, value)
        return value


def _is_encodable(text: str) -> bool:
    """Whether the system can be given it: JSON may hold half a surrogate pair."""
    try:
        os.fsencode(text)
    except UnicodeEncodeError:
        return False
    return True


def read_record(
    path: Path,
    highest: int | None,
    hint: str = "",
    limit: int = reading.RECORD_BYTES,
    judge: Callable[[Mapping[str, Any]], None] = lambda facts: None,
) -> Record:
    """The object in a file of a workspace.

    Args:
        highest: format that this version reads; None for a file without one.
        hint: what to do if it is damaged, one sentence.
        judge: called with what it says before its seal is looked at: another version's may be of another kind.

    Raises: FileNotFoundError; NewerError; DamagedError for whatever else is there, but for faults of the disk (OSError).
    """
    try:
        data = reading.read(path, limit)
    except reading.UnreadableError as error:
        raise DamagedError(path, error.why, hint) from None
    except paths.LinkError as error:
        if error.path != path:
            raise  # a folder above it: what that says is more to the point
        raise DamagedError(path, "is a symbolic link", hint) from None
    except NotADirectoryError:
        raise FileNotFoundError(2, "No such file or directory", str(path)) from None
    return parse_record(data, path, highest, hint, judge=judge)


def parse_record(
    data: bytes | str,
    path: Path | str,
    highest: int | None,
    hint: str = "",
    is_finite: bool = True,
    judge: Callable[[Mapping[str, Any]], None] = lambda facts: None,
) -> Record:
    """As `read_record`, of bytes that were read already.

    Args:
        is_finite: False lets NaN and infinities pass where nothing asks for them.
    """
    facts = parse(data, path, hint, is_finite)
    if not isinstance(facts, dict):
        raise DamagedError(path, f"expected an object, found {type(facts).__name__}", hint)
    if highest is not None:
        require_format(facts, path, highest, hint)
    judge(facts)
    _unsealed(data.encode("utf-8", "surrogatepass") if isinstance(data, str) else data, facts, path, hint)
    return Record(facts, path, hint)


def parse_sealed(data: bytes) -> dict[str, Any] | None:
    """What `seal` was given if these are the very bytes that it made; None of any others, which `parse_record` judges.

    It asks less than `parse_record`, for whoever reads a million of them.
    """
    body, _, rest = data.rpartition(_SEALED)
    if rest != _digest(body) + _SEALED_END:
        return None
    try:
        text = data.decode("ascii")
        facts, end = _decode(text)  # what `json.loads` calls, which looks for white space around it first
    except (ValueError, RecursionError, MemoryError):
        return None
    if not isinstance(facts, dict) or text[end:] != "\n":
        return None
    facts.pop("seal", None)
    return facts


def require_format(facts: Mapping[str, Any], path: Path | str, highest: int, hint: str = "") -> int:
    """The format of a record, at most `highest`. Raises: NewerError; DamagedError if it is no number from 1 on."""
    found = facts.get("format")
    if isinstance(found, bool) or not isinstance(found, int) or found < 1:
        raise DamagedError(path, "format is missing" if found is None else f"format is {repr(found)[:40]}", hint)
    if found > highest:
        raise NewerError(path, found, highest)
    return found


def parse(data: bytes | str, path: Path | str, hint: str = "", is_finite: bool = True) -> Any:
    """Any JSON. Raises: DamagedError, whatever is wrong: depth, numbers that are none, encodings, an empty file."""
    if not data:
        raise DamagedError(path, "it is empty", hint)
    try:
        text = data.decode() if isinstance(data, bytes) else data
        number, whole = (_finite, _whole) if is_finite else (float, int)
        return json.loads(text.removeprefix("\ufeff"), parse_float=number, parse_constant=number, parse_int=whole)
    except RecursionError:
        raise DamagedError(path, "it is nested too deep", hint) from None
    except ValueError as error:
        raise DamagedError(path, str(error), hint) from None
    except MemoryError:
        raise DamagedError(path, "it unpacks to more than memory holds", hint) from None


@contextlib.contextmanager
def taken_apart(path: Path | str, hint: str = "") -> Iterator[None]:
    """Whatever goes wrong while values of a record are taken out and used is damage of its file. Raises: DamagedError."""
    try:
        yield
    except (ValueError, LookupError, TypeError, AttributeError, ArithmeticError) as error:
        raise DamagedError(path, f"{type(error).__name__}: {error}", hint) from None


def encode(facts: Mapping[str, Any], indent: int | None = 1) -> bytes:
    """The bytes of a record: ASCII, so that lone surrogates, which stand for bytes that are no UTF-8, survive as escapes."""
    return (json.dumps(facts, indent=indent) + "\n").encode("ascii")


def seal(facts: Mapping[str, Any], indent: int | None = 1) -> bytes:
    """As `encode`, with a digest of all that stands before it as the last key, which readers compare and take off.

    For what says itself no digest of what it says: one flipped bit in a number would be another number otherwise.
    """
    body = json.dumps(facts, indent=indent).encode("ascii")[:-1].rstrip()
    between = b" " if indent is None else b"\n" + b" " * indent
    return body + (b"," if facts else b"") + between + _SEAL + _digest(body) + b'"' + (b"" if indent is None else b"\n") + b"}\n"


def seal_line(line: bytes) -> bytes:
    """A line of a list that only grows: with a digest of what stands before it as its last field, and a line end."""
    return line + b"," + _digest(line) + b"\n"


def unseal_line(line: bytes) -> bytes | None:
    """What `seal_line` was given, from a line with or without its end; None if these are other bytes than were written."""
    text, _, seal = line.rstrip(b"\r\n").rpartition(b",")
    return text if seal == _digest(text) else None


def _unsealed(data: bytes, facts: dict[str, Any], path: Path | str, hint: str) -> None:
    """Compares the seal and takes it off. Another version may have written none, and who edits a record takes it out."""
    last = _LAST.search(data[-_LONGEST_SEAL:])
    if last is None:
        if isinstance(facts.get("seal"), str):
            raise DamagedError(path, "its seal is not what was written", hint)
        return
    is_sealed = _digest(data[: last.start() - min(len(data), _LONGEST_SEAL)].rstrip().removesuffix(b",")) == last[2]
    if last[1] == b"seal":
        if not is_sealed:
            raise DamagedError(path, "it has other bytes than were written", hint)
        del facts["seal"]
    elif is_sealed:
        # The very digest of what stands before it is a seal, whatever its name says by now.
        raise DamagedError(path, "the name of its seal is not what was written", hint)


def _digest(body: bytes) -> bytes:
    return hashlib.blake2b(body, digest_size=8).hexdigest().encode("ascii")


def _whole(text: str) -> int:
    if len(text) > _MOST_DIGITS:
        raise ValueError(f"{text[:40]} is a number of {len(text)} digits")
    return int(text)


def _finite(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        raise ValueError(f"{text[:40]} is no number")
    return value
