"""Names of block claims: one file `jobs_000064-000127` stands for a claim on each of these jobs: one for many small ones.

They lie in a folder of their own beside the claims, so that whoever takes a single job sees in one look, of a folder that is
mostly not there, whether a block has it.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import NamedTuple

from .quarantine import names_in

_NAME = re.compile(r"jobs_(\d{6,12})-(\d{6,12})")


class Span(NamedTuple):
    """Numbers of jobs, both ends included."""

    first: int
    last: int

    @property
    def name(self) -> str:
        return f"jobs_{self.first:06d}-{self.last:06d}"

    def covers(self, number: int) -> bool:
        return self.first <= number <= self.last


def span_of(name: str) -> Span | None:
    """What a name in a folder of blocks claims; None if it is none of ours."""
    match = _NAME.fullmatch(name)
    span = Span(int(match[1]), int(match[2])) if match is not None else None
    return span if span is not None and span.first <= span.last else None


def read_spans(folder: Path) -> tuple[Span, ...]:
    """Of all block claims in a folder, of the living and the dead."""
    return tuple(span for name in names_in(folder) if (span := span_of(name)) is not None)
