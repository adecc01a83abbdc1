"""Columns of text for a terminal."""

from collections.abc import Iterator, Sequence


def aligned(rows: Sequence[Sequence[str]], sides: str) -> Iterator[str]:
    """A line a row, two blanks between columns. Args: sides: '<' or '>' for each column: to which side its texts are moved."""
    widths = [max(len(row[column]) for row in rows) for column in range(len(sides))]
    for row in rows:
        cells = (f"{text:{side}{width}}" for text, side, width in zip(row, sides, widths, strict=True))
        yield "  ".join(cells).rstrip()
