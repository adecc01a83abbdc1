"""`headstart fetch`: bring features from an object store into the workspace."""

from __future__ import annotations

import json
from dataclasses import asdict

import click

from headstart.commands.options import as_json, chosen_workspace, objects_option, workspace_option
from headstart.commands.output.terminal import now_and_then, say


@click.command("fetch")
@objects_option
@as_json
@workspace_option
def command(objects: str | None, as_json: bool, workspace: str | None) -> int:
    """Bring the features that `work --objects URL` put into an object store into the workspace, where heads are trained.

    Each is compared with the digest in its marker. Kill it anywhere and call it again: what is here stays, the rest comes.
    Exits with 1 if something is missing or damaged there; `verify --objects URL --deep --repair` computes that anew.
    """
    from headstart.pipeline.objects import fetch_payloads, open_objects
    from headstart.pipeline.text import plural, size_words

    if objects is None:
        raise click.UsageError("say where they are: --objects s3://BUCKET/PREFIX, or set HEADSTART_OBJECTS")
    opened_workspace = chosen_workspace(workspace)
    progress = now_and_then(lambda done, of: f"fetched {done:,} of {plural(of, 'file')}")
    fetched = fetch_payloads(opened_workspace, open_objects(objects), progress)
    if as_json:
        click.echo(json.dumps(asdict(fetched), indent=1))
        return fetched.exit_code
    for flaw in fetched.flaws:
        click.echo(flaw)
    say(f"{plural(fetched.files, 'file')} ({size_words(fetched.size_bytes)}) fetched, {fetched.there:,} were here already")
    if fetched.flaws:
        say(f"{plural(len(fetched.flaws), 'job')} to do again: headstart verify --objects {objects} --deep --repair")
    elif fetched.files or fetched.there:
        say("next: headstart train-head --ablation")
    else:
        say("no job of this workspace has its features in an object store")
    return fetched.exit_code
