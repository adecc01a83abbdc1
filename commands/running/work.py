"""`headstart work`: run jobs until nothing is left or a limit is reached."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from headstart.commands.options import Duration, chosen_workspace, objects_option, work_options, workspace_option
from headstart.commands.output.terminal import next_command, say
from headstart.pipeline.text import plural, span

if TYPE_CHECKING:
    from headstart.pipeline.supervisor import Supervision
    from headstart.pipeline.worker import Summary


@click.command("work")
@click.option("--max-jobs", type=click.IntRange(min=1), metavar="N", help="Leave after N jobs.")
@click.option("--time-limit", type=Duration(), metavar="55m", help="Begin no job that would probably end later than this.")
@click.option("--jobs", "kinds", metavar="KIND[,KIND]", help="Only these kinds of job, such as extract.")
@work_options
@click.option(
    "--loop", "loop_s", type=Duration(), metavar="SECONDS", help="When nothing is left, look again after this time, for ever."
)
@click.option(
    "--job-timeout",
    type=Duration(),
    metavar="5m",
    help="A job without a sign of life for this long ends its worker. [default: ten times the usual, at least a minute]",
)
@click.option(
    "--block",
    type=click.IntRange(1, 1000),
    default=1,
    show_default=True,
    metavar="N",
    help="Claim up to N small jobs at once, as many as take about five seconds: for many workers on a shared file system.",
)
@objects_option
@click.option("--exit-status", is_flag=True, help="Exit with 10 if jobs remain, so that a shell loop knows.")
@workspace_option
@click.pass_obj
def command(
    supervision: Supervision | None,
    max_jobs: int | None,
    time_limit: float | None,
    kinds: str | None,
    device: str,
    batch_size: int | None,
    ram_budget: int | None,
    vram_budget: int | None,
    loop_s: float | None,
    job_timeout: float | None,
    block: int,
    objects: str | None,
    exit_status: bool,
    workspace: str | None,
) -> int:
    """Claim jobs, run them, commit the results.

    Start it as often as you like, several at once, from a shell, cron or a loop; kill it whenever you must. What was
    committed stays, what was not is done again by the next one. A worker that crashes is started again.
    """
    from headstart.commands.output.forecast import planned_against_actual
    from headstart.commands.output.progress import ProgressDisplay
    from headstart.pipeline.drives import caution
    from headstart.pipeline.kinds import Settings
    from headstart.pipeline.work import work
    from headstart.pipeline.worker import Limits

    opened_workspace = chosen_workspace(workspace)
    limits = Limits(
        max_jobs=max_jobs,
        seconds=time_limit,
        kinds=frozenset(kinds.split(",")) if kinds else None,
        loop_s=None if loop_s is None else max(1.0, loop_s),
        job_timeout_s=job_timeout,
        block=block,
    )
    if note := caution(opened_workspace):
        say(f"note: {note}")
    with ProgressDisplay(opened_workspace) as progress:
        settings = Settings(device, batch_size, ram_budget, vram_budget)
        worked = work(opened_workspace, settings, limits, progress.show, supervision, objects)
    summary = worked.summary
    for problem in summary.problems:
        say(f"warning: {problem}")
    for note in summary.notes:
        say(note)
    for withdrawn in summary.withdrawn:
        say(f"note: {withdrawn}")
    say(_line(summary))
    for comparison in planned_against_actual(opened_workspace, progress.items, summary.seconds, worked.status):
        say(comparison)
    if worked.quarantined:
        failures = f"{plural(worked.quarantined, 'job')} quarantined after repeated failures"
        say(f"{failures} (see: headstart status --failed, headstart retry)")
    if not worked.status.folders:
        say("the queue is empty. Fill it: headstart enqueue DATA")
    if worked.remaining:
        say(f"{plural(worked.remaining, 'job')} left: run the same command again")
    elif worked.is_all_done:
        say("all jobs are done")
        fetching = "headstart fetch, then " if objects else ""
        say(f"next: {fetching}{next_command({kind for kind, _ in worked.status.folders})}")
    return worked.exit_code(tells_remaining=exit_status)


def _line(summary: Summary) -> str:
    speed = f", {summary.items / summary.seconds:.1f} images/s from start to end" if summary.items else ""
    images = f", {plural(summary.items, 'image')}" if summary.items or not summary.jobs else ""
    line = f"{plural(summary.jobs, 'job')} done{images} in {span(summary.seconds)}{speed}"
    if summary.failed_items:
        line += f", {plural(summary.failed_items, 'image')} failed (see: headstart status --failed)"
    if summary.failed_jobs:
        line += f", {plural(summary.failed_jobs, 'attempt')} failed"
    return line
