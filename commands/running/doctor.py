"""`headstart doctor`: is everything here that the work needs?"""

from __future__ import annotations

import json
import tempfile
import time
from collections import Counter
from pathlib import Path

import click

from headstart.commands.options import as_json, workspace_option
from headstart.commands.output.terminal import say


@click.command("doctor")
@click.option(
    "--gpu", is_flag=True, help="Try out all that is promised of a GPU, in about ten minutes; a table to paste into a report."
)
@as_json
@workspace_option
def command(gpu: bool, as_json: bool, workspace: str | None) -> int:
    """Look at this machine and this workspace: each line is ok, or says its fix. Exits with 1 if something is wrong.

    A note is something that not everybody needs. It changes nothing and, without a GPU, loads no torch. With --gpu it extracts,
    trains, kills and goes on in a temporary folder, and compares.
    """
    if gpu:
        return _accept_gpu(as_json)
    from headstart.features.planning.machine import WRONG, examine_machine
    from headstart.pipeline.text import one_line, plural
    from headstart.pipeline.workspace import find_root

    lines = examine_machine(find_root(workspace))
    counts = Counter(line.state for line in lines)
    if as_json:
        click.echo(json.dumps({"lines": [line.as_json() for line in lines], "wrong": counts[WRONG]}, indent=1))
        return int(counts[WRONG] > 0)
    width = max(len(line.subject) for line in lines)
    for line in lines:
        click.echo(one_line(f"{line.subject:<{width}}  {line.state:<5}  {line.text}"))
        if line.fix:
            click.echo(one_line(f"{'':<{width}}         fix: {line.fix}"))
    if counts[WRONG]:
        say(f"{plural(counts[WRONG], 'line')} wrong")
    return int(counts[WRONG] > 0)


def _accept_gpu(as_json: bool) -> int:
    from headstart.features.accelerators import has_nvidia_device
    from headstart.features.acceptance.gpu_acceptance import CHECKS, Scene, accept_gpu
    from headstart.features.planning.machine import WRONG
    from headstart.pipeline.text import one_line, span

    if not has_nvidia_device():
        planned = [(check.__doc__ or "").partition(".")[0] for check in CHECKS]
        if as_json:
            click.echo(json.dumps({"device": None, "would_check": planned, "lines": []}, indent=1))
        else:
            click.echo("no NVIDIA device is here, so nothing was tried. On a machine with one, this checks:")
            for words in planned:
                click.echo(f"  {words}")
        return 1
    begun, about, lines = time.monotonic(), _gpu_words(), []
    if not as_json:
        click.echo(f"{about}\n\n| check | wanted | measured | |\n|---|---|---|---|")
    with tempfile.TemporaryDirectory(prefix="headstart-gpu-") as folder:
        for line in accept_gpu(Scene(Path(folder)), say):
            lines.append(line)
            if not as_json:  # at once: what is known stays known if the rest is interrupted
                click.echo(one_line(f"| {line.check} | {line.wanted} | {line.measured} | {line.state} |"))
    wrong = sum(line.state == WRONG for line in lines)
    if as_json:
        click.echo(json.dumps({"device": about, "lines": [line.as_json() for line in lines], "wrong": wrong}, indent=1))
    else:
        click.echo(f"\n{span(time.monotonic() - begun)}")
    return int(wrong > 0)


def _gpu_words() -> str:
    """GPU, driver and versions, for whoever reads the table elsewhere."""
    from headstart.features.planning.machine import examine_gpu
    from headstart.pipeline.versions import versions_of

    versions = ", ".join(f"{name} {version}" for name, version in versions_of("torch", "timm").items())
    return "; ".join([*(line.text for line in examine_gpu()), versions])
