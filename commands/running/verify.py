"""`headstart verify`: prove that what is marked as done is there, and mend what is not."""

from __future__ import annotations

import json

import click

from headstart.commands.options import as_json, chosen_workspace, objects_option, work_options, workspace_option
from headstart.commands.output.terminal import say
from headstart.pipeline.text import plural


@click.command("verify")
@click.option("--deep", is_flag=True, help="Read every payload and compare its sha256, not only its size.")
@click.option("--repair", "repairs", is_flag=True, help="Redo torn jobs, and remove what dead workers left behind.")
@objects_option
@work_options
@as_json
@workspace_option
def command(
    deep: bool,
    repairs: bool,
    objects: str | None,
    device: str,
    batch_size: int | None,
    ram_budget: int | None,
    vram_budget: int | None,
    as_json: bool,
    workspace: str | None,
) -> int:
    """Check every marker against its payload. Exits with 1 if something is torn and was not repaired.

    What a file of your data holds, and what of it cannot be used, says `headstart train RECIPE --dry-run`.
    """
    from headstart.commands.output.progress import ProgressDisplay
    from headstart.pipeline.kinds import Settings
    from headstart.pipeline.repair import verify_all
    from headstart.pipeline.text import one_line

    opened_workspace = chosen_workspace(workspace)
    with ProgressDisplay(opened_workspace) as progress:
        settings = Settings(device, batch_size, ram_budget, vram_budget)
        verified = verify_all(opened_workspace, deep, repairs, settings, progress.show, objects)
    findings, still_torn = verified.findings, verified.still_torn
    redone, removed, _ = verified.repaired
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
        return verified.exit_code
    for problem in findings.problems:
        say(f"warning: {problem}")
    for job, reason in findings.torn:
        click.echo(one_line(f"{job.job_id}  {job.folder}  {reason}"))
    looked = "every byte of every payload" if deep else "markers and sizes"
    click.echo(f"{plural(findings.sound, 'job')} sound ({looked}), {findings.pending:,} pending, {len(findings.torn):,} torn")
    click.echo(
        f"{plural(len(findings.orphans), 'leftover file')}" + ("" if repairs or not findings.orphans else " (remove: --repair)")
    )
    if repairs:
        click.echo(f"{plural(redone, 'job')} redone, {plural(removed, 'leftover')} removed")
        if still_torn:
            click.echo(f"{plural(still_torn, 'job')} could not be redone: headstart status --failed")
    elif still_torn:
        click.echo("Redo what is torn: headstart verify --deep --repair")
    return verified.exit_code
