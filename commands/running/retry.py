"""`headstart retry`: give failed jobs a new life."""

import click

from headstart.commands.options import chosen_workspace, workspace_option
from headstart.pipeline.text import plural


@click.command("retry")
@click.argument("jobs", nargs=-1, metavar="[JOB]...")
@click.option("--all", "everything", is_flag=True, help="Every quarantined job, and every job with images that failed.")
@workspace_option
def command(jobs: tuple[str, ...], everything: bool, workspace: str | None) -> None:
    """Try quarantined jobs, and jobs with failed images, again.

    Mend the cause first (bring the files back, give the disk room). What happened before stays on record. Until a
    job is done again, its good images have no features either.
    """
    from headstart.pipeline.retry import retry

    if bool(jobs) == everything:
        raise click.UsageError("name the jobs to try again, or pass --all; see them with: headstart status --failed")
    revived = retry(chosen_workspace(workspace), None if everything else frozenset(jobs))
    click.echo(f"{plural(len(revived), 'job')} to try again" + (": headstart work" if revived else ""))
