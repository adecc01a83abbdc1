"""One making: a user's file and options, kept with its source in `features/made_<file>_<16 hex>/`. `status` asks: no numpy."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from headstart.experiments.training.options import fields_of, options_from, sha256_of_file
from headstart.pipeline.doors.code import load_kept
from headstart.pipeline.doors.records import DamagedError, read_record, seal
from headstart.pipeline.errors import HeadstartError
from headstart.pipeline.workspace import Workspace

from .kind_file import Item, Maker, checked_kind, open_maker

MAKING_KIND = "make_items"
FORMAT = 1
MADE_FILE = "made.json"
CODE_FOLDER = "code"
MAKE_AGAIN = "headstart make ./mine.py"
_HINT = f"The same {MAKE_AGAIN} writes it again"


@dataclass(frozen=True)
class Making:
    """Attributes:
    file: name of the user's file; code: digest of its source.
    values: every option, ready for JSON.
    inputs: digests of the files among them, by option.
    count: of items; names: of each, None if they have none.
    """

    file: str
    code: str
    values: Mapping[str, Any]
    inputs: Mapping[str, str]
    count: int
    names: tuple[str, ...] | None

    @property
    def identity(self) -> str:
        """sha256 (hex) of all that decides the bytes; wherever files among the options lie."""
        values = {**self.values, **self.inputs}
        facts = [FORMAT, self.file, self.code, values, self.count, self.names]
        return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()

    def folder(self, workspace: Workspace) -> Path:
        stem = "".join(letter if letter.isascii() and (letter.isalnum() or letter in "-.") else "-" for letter in self.file[:-3])
        return workspace.features / f"made_{stem[:40]}_{self.identity[:16]}"

    def item(self, number: int) -> Item:
        return Item(number, str(number) if self.names is None else self.names[number])


def encode_making(making: Making) -> bytes:
    """The bytes of its description."""
    names = None if making.names is None else list(making.names)
    return seal({**vars(making), "names": names, "format": FORMAT, "identity": making.identity})


def read_making(folder: Path) -> Making:
    """Raises: HeadstartError if it is missing or damaged."""
    path = folder / MADE_FILE
    try:
        facts = read_record(path, FORMAT, _HINT)
    except OSError as error:
        raise HeadstartError(f"{path} cannot be read ({error.strerror}). {_HINT}") from None
    making = Making(
        facts.text("file", r"[^/\\\x00-\x1f]{1,200}\.py"),
        facts.text("code", r"[0-9a-f]{64}"),
        dict(facts.record("values")),
        dict(facts.record("inputs")),
        facts.integer("count", 1),
        None if facts.get("names") is None else tuple(facts.texts("names")),
    )
    if making.identity != facts.text("identity") or (making.names is not None and len(making.names) != making.count):
        raise DamagedError(path, "it was changed", _HINT)
    return making


def open_making(folder: Path, making: Making) -> Maker:
    """The kind that it was begun with, ready to make items.

    Raises: HeadstartError if its file was not allowed to run here, or it or a file among its options is another one by now.
    """
    path = folder / CODE_FOLDER / making.file
    kind = checked_kind(load_kept(path, making.code, MAKE_AGAIN), path)
    options = options_from(kind.Options, making.values, str(folder / MADE_FILE))
    for field in fields_of(kind.Options):
        if field.name in making.inputs:
            given = getattr(options, field.name)
            if not given.is_file() or sha256_of_file(given) != making.inputs[field.name]:
                raise HeadstartError(f"{field.flag} {given} is missing or was changed. Restore it, or begin anew: {MAKE_AGAIN}")
    return open_maker(kind, options)
