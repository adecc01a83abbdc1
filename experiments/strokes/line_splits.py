"""Lines of a training: from a user's file or folder, or composed from fonts, parted so that no real writer is in two splits."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

from headstart.experiments.training.data.sets import Splits
from headstart.experiments.training.options import RecipeOptions, option
from headstart.pipeline.errors import HeadstartError
from headstart.pipeline.text import plural, printable

from .composer import composed
from .data_set import Alphabet, LineSet, alphabet_of
from .line import PenLine
from .sources import by_writer, read_lines

_JUDGED = 400  # composed lines of validation, and of test
_FEW = 10  # training lines that have a character, below which it is named
_SHOWN = 200  # characters


@dataclass(frozen=True)
class LineOptions(RecipeOptions):
    """What every recipe can be told that learns from lines."""

    lines: Path | None = option(None, "file of lines (.npz, .jsonl, .cpkl); none: composed from fonts")
    folder: str = option("", "folder of lines instead: IAM-OnDB, or style-N-strokes.npy")
    composed_lines: int = option(5000, "lines to compose, where none are given", at_least=24)


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
        test = sets["test"] if self.parts["test"] else None
        return Splits(sets["train"], sets["val"], test, facts, self.notes, contents=self.contents)

    @property
    def contents(self) -> tuple[str, ...]:
        """What these lines are, one line each: writers, characters, points."""
        lines = [line for part in self.parts.values() for line in part]
        writers = ", ".join(f"{len({line.writer for line in part}):,} in {name}" for name, part in self.parts.items() if part)
        sizes = {"points": [len(line) for line in lines], "characters": [len(line.text) for line in lines]}
        spans = [f"{name} a line: {min(of):,} to {max(of):,}, median {median(of):,.0f}" for name, of in sizes.items()]
        return (f"writers: {writers}", *spans, *self._characters())

    def _characters(self) -> Iterator[str]:
        known = self.alphabet.characters.replace(" ", "")
        yield f"{len(known):,} different characters, blanks aside: {_shown(known)}"
        lines = Counter(character for line in self.parts["train"] for character in set(line.text))
        rare = "".join(character for character in known if lines[character] < _FEW)
        if rare:
            yield f"in fewer than {_FEW} training lines each: {_shown(rare)}"


def line_parts(options: LineOptions) -> LineParts:
    """The same for the same options. Raises: HeadstartError if lines cannot be read, or none is left to validate on."""
    if options.lines is not None and options.folder:
        raise HeadstartError("--lines and --folder each say where lines are; give one of them")
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
            unknown = _shown(alphabet.unknown("".join(line.text for line in parts[name])))
            notes.append(f"{left_out} of {name} left out: characters that no training line has: {unknown}")
        parts[name] = known
    if not parts["val"]:
        raise HeadstartError("no line is left to validate on. Give lines of more writers")
    return LineParts(parts, alphabet, tuple(notes))


def _shown(characters: str) -> str:
    return printable(characters[:_SHOWN]) + ("..." if len(characters) > _SHOWN else "")
