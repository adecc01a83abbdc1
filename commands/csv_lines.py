"""CSV on standard output, spelled as in manifests: no field holds a line end, and none is a spreadsheet's formula."""

import csv
import io
from collections.abc import Sequence

import click


def write_line(cells: Sequence[str]) -> None:
    """One row; its texts are escaped, see `features.escaping`."""
    from headstart.features.escaping import escape

    buffer = io.StringIO()
    csv.writer(buffer, lineterminator="\n").writerow([escape(cell) for cell in cells])
    click.echo(buffer.getvalue(), nl=False)
