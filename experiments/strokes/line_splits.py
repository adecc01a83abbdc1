"""Lines of a training: from a user's file or folder, or composed from fonts, parted so that no real writer is in two splits."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from headstart.experiments.training.data.sets import Splits
from headstart.experiments.training.options import RecipeOptions, option
from headstart.pipeline.errors import HeadstartError
from headstart.pipeline.text import plural

from .composer import composed
from .data_set import Alphabet, LineSet, alphabet_of
from .line import PenLine
from .sources import by_writer, read_lines

_JUDGED = 400  # composed lines of validation, and of test


@dataclass(frozen=True)
class LineOptions(RecipeOptions):
    """What every recipe can be told that learns from lines."""

    lines: Path | None = option(None, "file of lines (.npz, .jsonl, .cpkl); none: composed from fonts")
    folder: str = option("", "folder of lines instead: IAM-OnDB, or style-N-strokes.npy")
    composed_lines: int = option(3000, "lines to compose, where none are given", at_least=24)


@dataclass(frozen=True)
class LineParts:
    """Attributes: parts: lines of train, val and test, the latter two without characters that no training line has."""

    parts: Mapping[str, list[PenLine]]
    alphabet: Alphabet
    notes: tuple[str, ...]

    def splits(self, about: Mapping[str, Any]) -> Splits:
        """Ready to train on. Args: about: facts besides the alphabet."""
        sets = {name: LineSet(lines, self.alphabet) for name, lines in self.parts.items()}
        facts = {"alphabet": self.alphabet.characters, **about}
        return Splits(sets["train"], sets["val"], sets["test"] if self.parts["test"] else None, facts, self.notes)


def line_parts(options: LineOptions) -> LineParts:
    """The same for the same options. Raises: HeadstartError if lines cannot be read, or none is left to validate on."""
    if options.lines is not None or options.folder:
        read = read_lines(options.lines or Path(options.folder))
        parts, notes = by_writer(read.lines, options.seed), [read.words]
    else:
        sizes = {"train": options.composed_lines, "val": _JUDGED, "test": _JUDGED}
        parts = {name: list(composed(count, 10 * options.seed + place)) for place, (name, count) in enumerate(sizes.items())}
        notes = [f"{plural(options.composed_lines, 'line')} composed from fonts in 24 hands; all hands are in every split"]
    alphabet = alphabet_of(parts["train"])
    for name in ("val", "test"):
        known = [line for line in parts[name] if not alphabet.unknown(line.text)]
        if len(known) < len(parts[name]):
            left_out = plural(len(parts[name]) - len(known), "line")
            notes.append(f"{left_out} of {name} left out: characters that no training line has")
        parts[name] = known
    if not parts["val"]:
        raise HeadstartError("no line is left to validate on. Give lines of more writers")
    return LineParts(parts, alphabet, tuple(notes))
