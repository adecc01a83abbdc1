"""Reads JSON of any length in bounded memory: what is small is decoded whole, what is large is walked.

Not with a streaming library: `ijson` refuses NaN, which Python's own `json` writes wherever a metric failed.
"""

from __future__ import annotations

import codecs
import json
from collections.abc import Iterator
from typing import IO, Any

MOST_AT_ONCE = 4 << 20  # characters of one value that is decoded whole
_CHUNK = 1 << 18  # bytes
_DEEPEST = 64  # containers within each other that are too large to be decoded whole
_DECODER = json.JSONDecoder()
_LARGE = object()
_OF_A_NUMBER = frozenset("0123456789.eE+-")

JsonPath = tuple[str | int, ...]


class BrokenJsonError(Exception):
    """What stands from `character` (from 0) on is no JSON; `str()` says why."""

    def __init__(self, why: str, character: int) -> None:
        super().__init__(why)
        self.character = character


def stream_json(file: IO[bytes], largest: int = MOST_AT_ONCE) -> Iterator[tuple[JsonPath, Any]]:
    """Values with their keys and positions from the root: each that has no more than about `largest` characters, in a container
    that has more. A small file is one value with the path ().

    A damaged file gives what stands before the damage. NaN and infinities are read.

    Raises: BrokenJsonError at the damage; OSError as `file.read`.
    """
    scanner = _Scanner(file, largest)
    yield from scanner.values(())
    if scanner.mark():
        raise BrokenJsonError("more follows behind the end of the JSON", scanner.character)


class _Scanner:
    def __init__(self, file: IO[bytes], largest: int) -> None:
        self._file, self._largest = file, largest
        self._decoder = codecs.getincrementaldecoder("utf-8-sig")()
        self._text, self._at, self._before = "", 0, 0
        self._is_ended = False

    @property
    def character(self) -> int:
        return self._before + self._at

    def mark(self) -> str:
        """The next character that is no space, '' at the end; it is not taken."""
        while True:
            while self._at < len(self._text) and self._text[self._at] in " \t\r\n":
                self._at += 1
            if self._at < len(self._text):
                return self._text[self._at]
            if self._is_ended:
                return ""
            self._read()

    def values(self, path: JsonPath) -> Iterator[tuple[JsonPath, Any]]:
        value = self._whole()
        if value is not _LARGE:
            yield path, value
            return
        if len(path) >= _DEEPEST:
            raise BrokenJsonError("it is nested too deep", self.character)
        is_list = self._take() == "["
        closing = "]" if is_list else "}"
        number = 0
        if self.mark() == closing:
            self._take()
            return
        while True:
            key: str | int = number if is_list else self._key()
            yield from self.values((*path, key))
            number += 1
            self._expect(f",{closing}")
            if self._take() == closing:
                return

    def _key(self) -> str:
        self._expect('"')
        key = self._whole()
        if not isinstance(key, str):
            raise BrokenJsonError("a key is no text", self.character)
        self._expect(":")
        self._take()
        return key

    def _whole(self) -> Any:
        """The value that begins here, or _LARGE if it is a container that is too large or damaged further on."""
        first = self.mark()
        while True:
            try:
                value, end = _DECODER.raw_decode(self._text, self._at)
            except (ValueError, RecursionError) as error:
                if not self._is_ended and len(self._text) - self._at <= self._largest:
                    self._read()
                    continue
                if isinstance(error, RecursionError):
                    raise BrokenJsonError("it is nested too deep", self.character) from None
                if first and first in "[{":
                    return _LARGE
                raise self._broken(first) from None
            # A number may go on in what was not read yet: of `1.` only the `1` is one.
            rest = self._text[end : end + 3]
            if first not in '[{"' and len(rest) < 3 and not self._is_ended and not set(rest) - _OF_A_NUMBER:
                self._read()
                continue
            self._at = end
            return value

    def _broken(self, first: str) -> BrokenJsonError:
        if not first:
            return BrokenJsonError("it ends in the middle" if self.character else "it is empty", self.character)
        if first == '"':
            is_long = len(self._text) - self._at > self._largest
            return BrokenJsonError(
                "a text is too long" if is_long else "a text has no end, or a control character", self.character
            )
        return BrokenJsonError(f"unexpected {self._text[self._at : self._at + 12].split()[0]!r}", self.character)

    def _expect(self, marks: str) -> None:
        there = self.mark()
        if not there:
            raise BrokenJsonError("it ends in the middle", self.character)
        if there not in marks:
            raise BrokenJsonError(f"expected {' or '.join(marks)}, found {there!r}", self.character)

    def _take(self) -> str:
        self._at += 1
        return self._text[self._at - 1]

    def _read(self) -> None:
        rest = self._text[self._at :]
        self._before += self._at
        # As much again as is held, so that a long value is tried a few times and not once a chunk.
        chunk = self._file.read(max(min(_CHUNK, self._largest), len(rest)))
        self._is_ended = not chunk
        try:
            self._text, self._at = rest + self._decoder.decode(chunk, final=self._is_ended), 0
        except UnicodeDecodeError:
            self._at = 0
            self._text = rest
            raise BrokenJsonError("it is not UTF-8", self._before + len(rest)) from None
