"""`headstart export-features`: features as files for other programs."""

from __future__ import annotations

from pathlib import Path

import click

from headstart.commands.options import chosen_workspace, workspace_option


@click.command("export-features")
@click.option(
    "--format",
    "form",
    required=True,
    metavar="NAME",
    help="parquet, npz-per-image, h5, faiss or tensorboard; see docs/features.md.",
)
@click.option("-o", "--out", type=click.Path(path_type=Path), metavar="PATH", help="A file or folder that is not there yet.")
@click.option("--encoder", metavar="FOLDER|NAME", help="Whose features, if there are several encoders.")
@workspace_option
def command(form: str, out: Path | None, encoder: str | None, workspace: str | None) -> None:
    """Write all features for another program: a table, an index, a file an image.

    With each image its path, label, split, group and digest. Parquet has a map and the nearest images, too, so that viewers of
    embeddings open it.
    """
    from headstart.experiments.interchange.export_features import export_features
    from headstart.pipeline.text import plural, printable, size_words

    done = export_features(form, out, chosen_workspace(workspace), encoder)
    click.echo(f"{plural(done.images, 'image')}, {size_words(done.bytes)}: {printable(str(done.path))}")
