"""`headstart verify`: prove that what is marked as done is there, and mend what is not."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import click

from .options import as_json, opened, plural, work_options, workspace_option

if TYPE_CHECKING:
    from headstart.pipeline.kinds import Settings
    from headstart.pipeline.verify import Findings
    from headstart.pipeline.workspace import Workspace


@click.command("verify")
@click.option("--deep", is_flag=True, help="Read every payload and compare its sha256, not only its size.")
@click.option("--repair", is_flag=True, help="Redo torn jobs, and remove what dead workers left behind.")
@work_options
@as_json
@workspace_option
def command(
    deep: bool,
    repair: bool,
    device: str,
    batch_size: int | None,
    ram_budget: int | None,
    vram_budget: int | None,
    as_json: bool,
    workspace: str | None,
) -> int:
    """Check every marker against its payload. Exits with 1 if something is torn and was not repaired."""
    from headstart.pipeline.kinds import Settings
    from headstart.pipeline.verify import sweep, verify

    opened_workspace = opened(workspace)
    findings = verify(opened_workspace, deep)
    redone = removed = 0
    if repair:
        if findings.torn:
            redone = _redo(opened_workspace, findings, Settings(device, batch_size, ram_budget, vram_budget))
        removed = sweep(verify(opened_workspace).orphans if findings.torn else findings.orphans)
    still_torn = len(findings.torn) - redone
    if as_json:
        record = {
            "sound": findings.sound + redone,
            "pending": findings.pending,
            "torn": [{"job_id": job.job_id, "folder": job.folder, "reason": reason} for job, reason in findings.torn],
            "orphans": [str(path) for path in findings.orphans],
            "redone": redone,
            "removed": removed,
            "problems": findings.problems,
        }
        click.echo(json.dumps(record, indent=1))
        return 1 if still_torn else 0
    for problem in findings.problems:
        click.echo(f"warning: {problem}", err=True)
    for job, reason in findings.torn:
        click.echo(f"{job.job_id}  {job.folder}  {reason}")
    looked = "every byte of every payload" if deep else "markers and sizes"
    click.echo(f"{plural(findings.sound, 'job')} sound ({looked}), {findings.pending:,} pending, {len(findings.torn):,} torn")
    click.echo(
        f"{plural(len(findings.orphans), 'leftover file')}" + ("" if repair or not findings.orphans else " (remove: --repair)")
    )
    if repair:
        click.echo(f"{plural(redone, 'job')} redone, {plural(removed, 'leftover')} removed")
    elif still_torn:
        click.echo("Redo what is torn: headstart verify --deep --repair")
    return 1 if still_torn else 0


def _redo(workspace: Workspace, findings: Findings, settings: Settings) -> int:
    from headstart.pipeline.retry import retire
    from headstart.pipeline.worker import Limits, Worker

    from .progress import Progress

    for job, _ in findings.torn:
        retire(workspace, job)  # else a payload of the right size but other bytes would pass for done
    torn = frozenset(job.job_id for job, _ in findings.torn)
    with Progress(workspace) as progress:
        return Worker(workspace, settings, Limits(only=torn), progress.hear).run().jobs
