"""`headstart data`: the data sets of a workspace, and where they lie."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

import click

from headstart.commands.options import as_json, chosen_workspace, workspace_option
from headstart.commands.output.terminal import aligned
from headstart.pipeline.text import plural

if TYPE_CHECKING:
    from headstart.features.planning.data_sets import DatasetSummary, PatchSet


@click.group("data")
def command() -> None:
    """List, show and move data sets."""


@command.command("list")
@as_json
@workspace_option
def list_command(as_json: bool, workspace: str | None) -> None:
    """Each data set: its images, the rows that are retired, where it lies, and what it was cut into by enqueue --patches."""
    from headstart.features.planning.data_sets import list_data

    listed = list_data(chosen_workspace(workspace))
    if as_json:
        click.echo(json.dumps([one.as_json() for one in listed], indent=1))
    elif not listed:
        click.echo("There is no data set. Add one: headstart enqueue DATA")
    else:
        rows = [[one.name, f"{one.images:,}", f"{one.retired:,}", _place(one)] for one in listed]
        click.echo("\n".join(aligned([["data set", "images", "retired", "lies at"], *rows], "<>><")))
        sets = [[one.name, *_patch_cells(each)] for one in listed for each in one.patch_sets]
        if sets:
            header = ["data set", "version", "patch", "overlap", "patches", "images", "masks"]
            click.echo("\n".join(["", *aligned([header, *sets], "<<>>>><")]))


@command.command("show")
@click.argument("name")
@as_json
@workspace_option
def show_command(name: str, as_json: bool, workspace: str | None) -> None:
    """Everything about the data set whose name contains NAME, or that lies at NAME."""
    from headstart.features.planning.data_sets import show_data

    one = show_data(name, chosen_workspace(workspace))
    if as_json:
        click.echo(json.dumps(one.as_json(), indent=1))
        return
    why = "".join(f", {count:,} {reason}" for reason, count in sorted(one.reasons.items()))
    lines = [
        ("data set", one.name),
        ("lies at", _place(one)),
        ("read as", one.layout + "".join(f", {role} '{column}'" for role, column in one.roles.items())),
        ("images", f"{one.images:,}, {one.without_digest:,} of them without digest"),
        ("retired", f"{plural(one.retired, 'row')}{why}"),
        ("copies", f"{plural(one.copies, 'image')} with the bytes of another"),
        ("classes", f"{one.classes:,}"),
        ("splits", ", ".join(f"{split} {count:,}" for split, count in one.splits.items())),
        ("encoders", ", ".join(one.encoders) or "none"),
        *(("patches", _patch_words(each)) for each in one.patch_sets),
    ]
    click.echo("\n".join(f"{what:9} {text}" for what, text in lines))


@command.command("move")
@click.argument("old")
@click.argument("new", type=click.Path(path_type=Path))
@workspace_option
def move_command(old: str, new: Path, workspace: str | None) -> None:
    """Say that the data set OLD (its name, a part of it, or where it lay) lies at NEW now. No image is read or moved."""
    from headstart.features.manifest.dataset_matching import place_of
    from headstart.features.planning.data_sets import move_data
    from headstart.pipeline.text import printable

    moved = move_data(old, new, chosen_workspace(workspace))
    click.echo(f"{moved.folder.name} lies at {printable(place_of(moved.dataset))}")


def _patch_cells(one: PatchSet) -> list[str]:
    from headstart.pipeline.text import printable

    images = "?" if one.images is None else f"{one.images:,}"
    return [one.version, str(one.size), str(one.overlap), f"{one.patches:,}", images, printable(one.masks) or "none"]


def _patch_words(one: PatchSet) -> str:
    version, size, overlap, patches, images, masks = _patch_cells(one)
    of = f"{images} image{'' if one.images == 1 else 's'}"
    return f"{version}: {patches} of {of}, {size} x {size} pixels that overlap by {overlap}, masks {masks}"


def _place(one: DatasetSummary) -> str:
    from headstart.pipeline.text import printable

    return printable(one.place) + ("" if one.is_there else "  (gone: headstart data move OLD NEW)")
