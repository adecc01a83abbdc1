"""`headstart ingest`: results of vectorizer optimizers as one table."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import click

from headstart.commands.output.terminal import say
from headstart.pipeline.text import plural

if TYPE_CHECKING:
    from headstart.features.sources.results.ingest import Ingested, LeftOut

_SHOWN = 20


@click.command("ingest")
@click.argument("results", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option(
    "--images", required=True, type=click.Path(path_type=Path), metavar="DIR", help="The folder that images are named in."
)
@click.option("--out", type=click.Path(path_type=Path), metavar="FILE", help="Where the table goes. [default: printed]")
@click.option(
    "--left-out", type=click.Path(path_type=Path), metavar="FILE", help="Also write each entry that is no row, and why, as CSV."
)
@click.option("--force", is_flag=True, help="Replace files that are there.")
def command(results: tuple[Path, ...], images: Path, out: Path | None, left_out: Path | None, force: bool) -> None:
    """Make one table of what optimizers of a vectorizer wrote.

    RESULTS are JSON files, or folders in which optimization_*.json and benchmark_*.json are searched: lists of records,
    `results`, histories by image, methods nested below an image. Each entry with an image, the eight parameters of VTracer
    and an SSIM is a row; every other one is counted, with its file, its place and the reason. A result that stands twice is
    taken once.
    """
    from headstart.features.sources.results.ingest import below_table, ingest_results

    shown: list[LeftOut] = []

    def show(one: LeftOut) -> None:
        if len(shown) < _SHOWN:
            shown.append(one)
            say(f"left out: {one.file}{' ' if one.where else ''}{one.where}: {one.why}")

    ingested = ingest_results(results, images, out or sys.stdout, left_out, force, show)
    for line in _lines(ingested, left_out):
        say(line)
    if out is not None and below_table(out, images) is None:
        say(f"note: enqueue looks for images below the table's folder, where {images} is not. Write the table into it, or above")


def _lines(ingested: Ingested, left_out: Path | None) -> Iterator[str]:
    total = sum(ingested.left_out.values())
    if total > _SHOWN:
        yield f"left out: {total - _SHOWN:,} more" + ("" if left_out else "; --left-out FILE has them all")
    yield f"{plural(ingested.rows, 'row')} of {plural(ingested.images, 'image')} from {plural(ingested.files, 'file')}"
    if total:
        sorts = ", ".join(f"{sort} {count:,}" for sort, count in sorted(ingested.left_out.items()))
        yield f"{total:,} left out: {sorts}"
    if ingested.absent:
        yield f"note: {plural(ingested.absent, 'image')} not there; their rows fail until they are"
