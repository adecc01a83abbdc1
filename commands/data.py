"""`headstart data`: the data sets of a workspace, and where they lie."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from headstart.commands.output.terminal import aligned
from headstart.pipeline.text import plural

from .options import as_json, chosen_workspace, workspace_option

if TYPE_CHECKING:
    from headstart.pipeline.workspace import Workspace


@click.group("data")
def command() -> None:
    """List, show and move data sets."""


@command.command("list")
@as_json
@workspace_option
def list_command(as_json: bool, workspace: str | None) -> None:
    """Each data set: its images, the rows that are retired, and where it lies."""
    opened_workspace = chosen_workspace(workspace)
    facts = [_facts(opened_workspace, folder) for folder in _folders(opened_workspace)]
    if as_json:
        click.echo(json.dumps(facts, indent=1))
    elif not facts:
        click.echo("There is no data set. Add one: headstart enqueue DATA")
    else:
        rows = [[one["name"], f"{one['images']:,}", f"{one['retired']:,}", _place(one)] for one in facts]
        click.echo("\n".join(aligned([["data set", "images", "retired", "lies at"], *rows], "<>><")))


@command.command("show")
@click.argument("name")
@as_json
@workspace_option
def show_command(name: str, as_json: bool, workspace: str | None) -> None:
    """Everything about the data set whose name contains NAME, or that lies at NAME."""
    from headstart.features.manifest.datasets import named_dataset

    opened_workspace = chosen_workspace(workspace)
    one = _facts(opened_workspace, named_dataset(opened_workspace, name))
    if as_json:
        click.echo(json.dumps(one, indent=1))
        return
    why = "".join(f", {count:,} {reason}" for reason, count in sorted(one["reasons"].items()))
    lines = [
        ("data set", one["name"]),
        ("lies at", _place(one)),
        ("read as", one["layout"] + "".join(f", {role} '{column}'" for role, column in one["roles"].items())),
        ("images", f"{one['images']:,}, {one['without_digest']:,} of them without digest"),
        ("retired", f"{plural(one['retired'], 'row')}{why}"),
        ("copies", f"{plural(one['copies'], 'image')} with the bytes of another"),
        ("classes", f"{one['classes']:,}"),
        ("splits", ", ".join(f"{split} {count:,}" for split, count in one["splits"].items())),
        ("encoders", ", ".join(one["encoders"]) or "none"),
    ]
    click.echo("\n".join(f"{what:9} {text}" for what, text in lines))


@command.command("move")
@click.argument("old")
@click.argument("new", type=click.Path(path_type=Path))
@workspace_option
def move_command(old: str, new: Path, workspace: str | None) -> None:
    """Say that the data set OLD (its name, a part of it, or where it lay) lies at NEW now. No image is read or moved."""
    from headstart.features.manifest.datasets import move_dataset, named_dataset, place_of
    from headstart.pipeline.enqueue import queue_lock
    from headstart.pipeline.text import printable

    opened_workspace = chosen_workspace(workspace)
    with queue_lock(opened_workspace):
        moved = move_dataset(opened_workspace, named_dataset(opened_workspace, old), new)
    click.echo(f"{moved.folder.name} lies at {printable(place_of(moved.dataset))}")


def _folders(workspace: Workspace) -> list[Path]:
    from headstart.features.manifest.reading import list_datasets

    return list_datasets(workspace.manifests)


def _facts(workspace: Workspace, folder: Path) -> dict[str, Any]:
    from collections import Counter

    from headstart.features.manifest.datasets import is_there, place_of
    from headstart.features.manifest.reading import open_manifest
    from headstart.features.planning.enqueue import encoders_of

    manifest = open_manifest(folder)
    columns = manifest.read_all()
    live = columns.live.nonzero()[0].tolist()
    digests = [columns.digest[row] for row in live if columns.digest[row]]
    reasons = Counter(reason for reason in columns.retired if reason)
    splits = Counter(columns.split[row] for row in live)
    return {
        "name": folder.name,
        "place": place_of(manifest.dataset),
        "is_there": is_there(manifest.dataset, columns),
        "layout": manifest.dataset.layout,
        "roles": manifest.dataset.roles,
        "images": len(live),
        "retired": sum(reasons.values()),
        "reasons": dict(reasons),
        "without_digest": len(live) - len(digests),
        "copies": len(digests) - len(set(digests)),
        "classes": len({columns.label[row] for row in live} - {""}),
        "splits": dict(sorted(splits.items())),
        "encoders": [spec.folder_name for spec in encoders_of(workspace, folder)],
    }


def _place(one: dict[str, Any]) -> str:
    from headstart.pipeline.text import printable

    return printable(one["place"]) + ("" if one["is_there"] else "  (gone: headstart data move OLD NEW)")
