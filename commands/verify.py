"""`headstart verify`: prove that what is marked as done is there, and mend what is not."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import click

from headstart.commands.output.terminal import plural, say

from .options import as_json, opened, work_options, workspace_option

if TYPE_CHECKING:
    from headstart.pipeline.job import Job
    from headstart.pipeline.kinds import Settings
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
    from headstart.pipeline.text import one_line
    from headstart.pipeline.verify import sweep, verify

    opened_workspace = opened(workspace)
    findings = verify(opened_workspace, deep)
    torn = {job for job, _ in findings.torn}
    redone = removed = interrupted = 0
    if repair:
        if torn:
            interrupted = _redo(opened_workspace, sorted(torn), Settings(device, batch_size, ram_budget, vram_budget))
        after = verify(opened_workspace, deep) if torn else findings
        redone = len(torn & after.sound_jobs)
        removed = sweep(after.orphans)
    still_torn = len(torn) - redone
    status = interrupted or (1 if still_torn or findings.problems else 0)
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
        return status
    for problem in findings.problems:
        say(f"warning: {problem}")
    for job, reason in findings.torn:
        click.echo(one_line(f"{job.job_id}  {job.folder}  {reason}"))
    looked = "every byte of every payload" if deep else "markers and sizes"
    click.echo(f"{plural(findings.sound, 'job')} sound ({looked}), {findings.pending:,} pending, {len(findings.torn):,} torn")
    click.echo(
        f"{plural(len(findings.orphans), 'leftover file')}" + ("" if repair or not findings.orphans else " (remove: --repair)")
    )
    if repair:
        click.echo(f"{plural(redone, 'job')} redone, {plural(removed, 'leftover')} removed")
        if still_torn:
            click.echo(f"{plural(still_torn, 'job')} could not be redone: headstart status --failed")
    elif still_torn:
        click.echo("Redo what is torn: headstart verify --deep --repair")
    return status


def _redo(workspace: Workspace, torn: list[Job], settings: Settings) -> int:
    """Does torn jobs again; returns the exit status of an interruption, else 0."""
    from headstart.commands.output.progress import Progress
    from headstart.pipeline.retry import reopen
    from headstart.pipeline.worker import Limits, Worker

    for job in torn:
        reopen(workspace, job)
    with Progress(workspace) as progress:
        limits = Limits(only=frozenset(job.job_id for job in torn))
        return Worker(workspace, settings, limits, progress.hear).run().exit_code
