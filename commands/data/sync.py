"""`headstart sync`: a copy of the workspace in few large files."""

from __future__ import annotations

from pathlib import Path

import click

from headstart.commands.options import workspace_option


@click.command("sync")
@click.argument("folder", type=click.Path(path_type=Path, file_okay=False), metavar="DIR")
@workspace_option
def command(folder: Path, workspace: str | None) -> None:
    """Copy what is new in the workspace into DIR; where there is no workspace yet, bring it back from there.

    For a disk that is slow with many small files or that outlives this machine, such as a mounted drive: DIR gets few large
    files, which are never changed. Kill it anywhere and call it again; every byte is compared with its digest on the way back.
    """
    from headstart.pipeline.sync import synchronize_folder
    from headstart.pipeline.text import plural, printable, size_words
    from headstart.pipeline.workspace import find_root

    root = find_root(workspace)
    done = synchronize_folder(root, folder)
    if done.is_restored:
        click.echo(f"{plural(done.files, 'file')} ({size_words(done.size_bytes)}) brought back into {printable(str(root))}")
        click.echo("next: headstart work")
    elif done.packs:
        gone = f", {done.removed:,} gone" if done.removed else ""
        click.echo(
            f"{plural(done.files, 'file')} ({size_words(done.size_bytes)}) copied into {plural(done.packs, 'new pack')}{gone}"
        )
    else:
        click.echo("nothing is new")
    click.echo(f"{plural(len(done.packs_there), 'pack')} in {printable(str(folder))}")
