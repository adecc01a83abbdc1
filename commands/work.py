"""`headstart work`: run jobs until nothing is left or a limit is reached."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from headstart.commands.output.terminal import plural, say, span

from .options import Duration, opened, work_options, workspace_option

if TYPE_CHECKING:
    from headstart.pipeline.supervisor import Supervision


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
    exit_status: bool,
    workspace: str | None,
) -> int:
    """Claim jobs, run them, commit the results.

    Start it as often as you like, several at once, from a shell, cron or a loop; kill it whenever you must. What was
    committed stays, what was not is done again by the next one. A worker that crashes is started again.
    """
    import time

    from headstart.commands.output.forecast import planned_against_actual
    from headstart.commands.output.progress import Progress
    from headstart.pipeline.errors import HeadstartError
    from headstart.pipeline.kinds import Settings, known_kinds
    from headstart.pipeline.status import read_status
    from headstart.pipeline.worker import Finished, Limits, Worker

    opened_workspace = opened(workspace)
    chosen = frozenset(kinds.split(",")) if kinds else None
    if chosen and chosen - known_kinds():
        raise HeadstartError(f"unknown kind of job {min(chosen - known_kinds())!r}; there are {', '.join(sorted(known_kinds()))}")
    with Progress(opened_workspace) as progress:
        limits = Limits(
            max_jobs=max_jobs if max_jobs is None or supervision is None else max_jobs - supervision.jobs,
            seconds=time_limit
            if time_limit is None or supervision is None
            else time_limit + supervision.begun - time.monotonic(),
            kinds=chosen,
            loop_s=None if loop_s is None else max(1.0, loop_s),
            job_timeout_s=job_timeout,
        )

        def hear(finished: Finished) -> None:
            if supervision is not None and finished.error is None:
                supervision.job_finished()
            progress.hear(finished)

        summary = Worker(opened_workspace, Settings(device, batch_size, ram_budget, vram_budget), limits, hear).run()
    for problem in summary.problems:
        say(f"warning: {problem}")
    speed = f", {summary.items / summary.seconds:.1f} images/s from start to end" if summary.items else ""
    images = f", {plural(summary.items, 'image')}" if summary.items or not summary.jobs else ""
    line = f"{plural(summary.jobs, 'job')} done{images} in {span(summary.seconds)}{speed}"
    if summary.failed_items:
        line += f", {plural(summary.failed_items, 'image')} failed (see: headstart status --failed)"
    if summary.failed_jobs:
        line += f", {plural(summary.failed_jobs, 'attempt')} failed"
    say(line)
    status = read_status(opened_workspace)
    for comparison in planned_against_actual(opened_workspace, progress.items, summary.seconds, status):
        say(comparison)
    mine = [tally for (kind, _), tally in status.folders.items() if chosen is None or kind in chosen]
    quarantined, remaining = sum(tally.quarantined for tally in mine), sum(tally.pending + tally.running for tally in mine)
    if quarantined:
        say(f"{plural(quarantined, 'job')} quarantined after repeated failures (see: headstart status --failed, headstart retry)")
    if not status.folders:
        say("the queue is empty. Fill it: headstart enqueue DATA")
    if remaining:
        say(f"{plural(remaining, 'job')} left: run the same command again")
    elif not quarantined and status.folders and summary.is_drained:
        say("all jobs are done")
    if summary.exit_code:
        return summary.exit_code
    if exit_status and remaining and not summary.is_drained:
        return 10  # although there may be problems: they hold up their own jobs alone, and whoever drains the queue reports them
    if summary.problems or (exit_status and quarantined and not remaining):
        return 1  # more runs of the same command would change nothing
    return 10 if exit_status and remaining else 0  # what was enqueued since the queue was drained
