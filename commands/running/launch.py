"""`headstart launch`: workers on this machine, a Slurm cluster or a Ray cluster, until the queue is drained."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import TYPE_CHECKING

import click

from headstart.commands.options import Duration, as_json, chosen_workspace, workspace_option
from headstart.commands.output.terminal import next_command, say
from headstart.pipeline.executor import known_executors
from headstart.pipeline.text import plural

if TYPE_CHECKING:
    from headstart.pipeline.launch import Course, Followed


@click.command("launch", context_settings={"ignore_unknown_options": False})
@click.option("--on", type=click.Choice(known_executors()), help="Where: as processes of this machine, by Slurm, by Ray.")
@click.option("--workers", type=click.IntRange(1, 1_000_000), metavar="N", help="So many at once. [default: 1]")
@click.option("--gpus-per-worker", type=click.IntRange(0, 1000), metavar="N", help="GPUs that each worker asks for. [default: 0]")
@click.option(
    "--time-limit",
    type=Duration(),
    metavar="55m",
    help="After this a worker leaves by itself and another takes its place. [default: 55m]",
)
@click.option("--detach", is_flag=True, help="Ask for the workers once, and do not follow them.")
@click.option("--stop", "stops", is_flag=True, help="End all workers that were launched here, and start no more.")
@as_json
@workspace_option
@click.argument("work_options", nargs=-1, type=click.UNPROCESSED, metavar="[-- WORK_OPTIONS]")
def command(
    on: str | None,
    workers: int | None,
    gpus_per_worker: int | None,
    time_limit: float | None,
    detach: bool,
    stops: bool,
    as_json: bool,
    workspace: str | None,
    work_options: tuple[str, ...],
) -> int:
    """Start workers elsewhere, follow them, and replace those that die until the queue is drained.

    Kill it whenever you must: the workers go on, and the same command follows them again; what it was told before holds
    unless told anew. What stands behind `--` is given to each `headstart work`, such as `-- --block 64`.
    """
    from headstart.pipeline import launch
    from headstart.pipeline.drives import caution
    from headstart.pipeline.status import read_status

    opened_workspace = chosen_workspace(workspace)
    if stops:
        _refuse_more(workers=workers, gpus_per_worker=gpus_per_worker, time_limit=time_limit, detach=detach or None)
        stopped = launch.stop(opened_workspace, on)
        say(f"stopped: no worker is left on {', '.join(stopped)}. What was committed stays")
        if as_json:
            click.echo(json.dumps({"state": launch.STOPPED, "workers": stopped}, indent=1))
        return 0
    if on is None:
        raise click.UsageError(f"say where: --on {'|'.join(known_executors())}")
    if time_limit is not None and time_limit < 1:
        raise click.UsageError("--time-limit is less than a second")
    _check_work_options(work_options)
    if note := caution(opened_workspace):
        say(f"note: {note}")
    asked = launch.Asked(workers, gpus_per_worker, time_limit, work_options or None)
    begun = launch.begin(opened_workspace, on, asked)
    say(f"{begun.name}: {plural(begun.workers, 'worker')} on {on}; each runs {opened_workspace.launch_script(on)}")
    followed = launch.follow(opened_workspace, on, _show, detach)
    say(_conclusion(followed))
    if followed.state == launch.ENDED and followed.course.jobs and not followed.course.quarantined:
        say(f"next: {next_command({kind for kind, _ in read_status(opened_workspace).folders})}")
    if as_json:
        course = {key: value for key, value in asdict(followed.course).items() if key != "note"}
        facts = {"name": followed.launch.name, "on": on, "state": followed.state, "started": followed.started, **course}
        click.echo(json.dumps(facts, indent=1))
    return followed.exit_code or (1 if followed.state == launch.ENDED and followed.course.quarantined else 0)


def _show(course: Course) -> None:
    failed = f", {course.quarantined:,} quarantined" if course.quarantined else ""
    note = f"; {course.note}" if course.note else ""
    say(f"{course.done:,} of {plural(course.jobs, 'job')} done{failed}, {plural(course.workers, 'worker')}{note}")


def _conclusion(followed: Followed) -> str:
    on = followed.launch.on
    if followed.state == "ended":
        if followed.course.quarantined:
            return f"{plural(followed.course.quarantined, 'job')} quarantined (see: headstart status --failed, headstart retry)"
        return "all jobs are done, no worker is left" if followed.course.jobs else "the queue is empty, no worker was started"
    if followed.state == "stopped":
        return "stopped: no worker starts any more"
    return f"the workers go on. Follow them: headstart launch --on {on}; end them: headstart launch --stop"


def _check_work_options(words: tuple[str, ...]) -> None:
    """Raises as `headstart work` would: here it costs a line, there as many workers."""
    from headstart.commands.running.work import command as work_command

    context = work_command.make_context("headstart work", list(words), resilient_parsing=False)
    for name, flag in (("loop_s", "--loop"), ("time_limit", "--time-limit"), ("workspace", "--workspace")):
        if name != "workspace" and context.params.get(name) is not None:
            raise click.UsageError(
                f"{flag} is not for workers of a launch: each ends when the queue is drained or its time is over"
            )
    if any(word in ("-w", "--workspace") or word.startswith("--workspace=") for word in words):
        raise click.UsageError("-w stands before the --: all workers are in the workspace of the launch")


def _refuse_more(**given: object) -> None:
    for name, value in given.items():
        if value is not None:
            raise click.UsageError(f"--{name.replace('_', '-')} and --stop exclude each other")
