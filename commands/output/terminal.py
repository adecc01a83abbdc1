"""Lines for a terminal: said on standard error, aligned in columns, as CSV; intervals in words."""

import contextlib
import os
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path

import click

_PROGRESS_S = 3.0


def aligned(rows: Sequence[Sequence[str]], sides: str) -> Iterator[str]:
    """A line a row, two blanks between columns. Args: sides: '<' or '>' for each column: to which side its texts are moved."""
    widths = [max(len(row[column]) for row in rows) for column in range(len(sides))]
    for row in rows:
        cells = (f"{text:{side}{width}}" for text, side, width in zip(row, sides, widths, strict=True))
        yield "  ".join(cells).rstrip()


def write_line(cells: Sequence[str]) -> None:
    """One row; its texts are escaped, see `pipeline.text`."""
    import csv  # not while a command starts
    import io

    from headstart.pipeline.text import escape

    buffer = io.StringIO()
    csv.writer(buffer, lineterminator="\n").writerow([escape(cell) for cell in cells])
    click.echo(buffer.getvalue(), nl=False)


def say(text: str) -> None:
    """A line on standard error. Where nobody can read it (a full disk, a closed pipe) the work goes on.

    Names of files reach it in the words of errors: no control character of theirs acts on a terminal or begins a new line.
    """
    from headstart.pipeline.text import one_line  # not while the command starts

    with contextlib.suppress(OSError, ValueError):
        click.echo(one_line(text), err=True)


def show_in_browser(page: Path) -> None:
    """Opens a page where somebody can look at it; says where there is no browser, in one line."""
    import webbrowser  # not while a command starts

    if not webbrowser.open(page.absolute().as_uri()):
        say("no browser was found on this machine: open the page by hand, or copy it to one that has a browser")


class Teller:
    """Says lines while something runs and prints what came out, a note of both only once where a reader sees both.

    A file of standard output alone still has every note beside the numbers that it is about.
    """

    def __init__(self) -> None:
        self._said: set[str] = set()

    def say(self, text: str) -> None:
        self._said.add(text)
        say(text)

    def show(self, lines: Iterable[str]) -> None:
        """Prints lines on standard output; where standard error ends at the same place, not those that stand there already."""
        above = self._said if _is_one_place() else set()
        for line in lines:
            if line not in above:
                click.echo(line)


def _is_one_place() -> bool:
    with contextlib.suppress(OSError, ValueError, AttributeError):
        return os.path.sameopenfile(sys.stdout.fileno(), sys.stderr.fileno())
    return False


def now_and_then(line: Callable[[int, int], str]) -> Callable[[int, int], None]:
    """Says every few seconds how far something is, by `line(done, of)`, and that it is done; nothing where it takes no longer."""
    said, has_said = time.monotonic(), False

    def progress(done: int, of: int) -> None:
        nonlocal said, has_said
        if has_said if done == of else time.monotonic() - said > _PROGRESS_S:
            said, has_said = time.monotonic(), done < of
            say(line(done, of))

    return progress


def interval_text(interval: Sequence[float | None] | None) -> str:
    """Its bounds in words; '-' if it does not exist."""
    if interval is None or interval[0] is None or interval[1] is None:
        return "-"
    return f"{interval[0]:.4f} to {interval[1]:.4f}"


def next_command(kinds: set[str]) -> str:
    """What there is to do when everything of these kinds is done."""
    if kinds & {"train_head", "train_model"}:
        return "headstart runs, and headstart report for the best one"
    if "patches" in kinds:
        return "headstart train segment" + (", or headstart train-head for whole images" if "extract" in kinds else "")
    return "headstart train-head"
