"""`headstart status`: where the work stands."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import click

from headstart.commands.options import as_json, chosen_workspace, workspace_option
from headstart.commands.output.terminal import say
from headstart.pipeline import paths
from headstart.pipeline.text import plural, span

if TYPE_CHECKING:
    from pathlib import Path

    from headstart.features.manifest.names import RowCounts
    from headstart.pipeline.status import Status
    from headstart.pipeline.tally import Tally
    from headstart.pipeline.workspace import Workspace


@click.command("status")
@click.option("--failed", is_flag=True, help="List images that gave no features, and quarantined and suspect jobs, with reasons.")
@click.option("--disk", is_flag=True, help="Show what takes how much, and what of it `headstart clean` would free.")
@as_json
@workspace_option
def command(failed: bool, disk: bool, as_json: bool, workspace: str | None) -> None:
    """Show what is done, running, pending and failed."""
    from headstart.pipeline.status import read_failures, read_status
    from headstart.pipeline.text import one_line

    opened_workspace = chosen_workspace(workspace)
    status = read_status(opened_workspace)
    listed: dict[str, Any] = read_failures(opened_workspace) if failed else {}
    if disk:
        listed["disk"] = _disk(opened_workspace)
    if as_json:
        click.echo(json.dumps({**_as_json(opened_workspace, status), **listed}, indent=1))
        return
    click.echo(one_line(f"workspace {opened_workspace.root}"))
    for (kind, folder), tally in status.folders.items():
        course = _course(opened_workspace.root / folder) if tally.done < tally.jobs else []
        course += _scores(opened_workspace.root / folder) if kind == "extract" else []
        click.echo("\n".join(map(one_line, [*_paragraph(kind, folder, tally, len(status.workers)), *course])))
    if not status.folders:
        click.echo("The queue is empty. Fill it: headstart enqueue DATA")
    click.echo("".join(f"{line}\n" for line in _data_lines(opened_workspace)), nl=False)
    if status.workers:
        workers = ", ".join(owner.worker for owner in status.workers)
        click.echo(one_line(f"{plural(len(status.workers), 'worker')}: {workers}"))
    for state, why, jobs in status.withdrawn:
        undo = f"; go on: headstart pause {why.rpartition(' ')[2]} --undo" if state == "paused" else ""
        click.echo(one_line(f"{why} is {state} ({plural(jobs, 'job')}){undo}"))
    for problem in status.problems:
        say(f"warning: {problem}")
    if disk:
        for line in _disk_lines(listed["disk"]):
            click.echo(one_line(line))
    for line in _failure_lines(listed) if failed else []:
        click.echo(one_line(line))


def _failure_lines(listed: dict[str, Any]) -> list[str]:
    from headstart.pipeline.text import printable

    lines = [f"{item['job_id']}  {printable(item['name'])}  {item['code']}: {item['reason']}" for item in listed["failed_items"]]
    lines += [f"{job['job_id']}  quarantined: {'; '.join(job['reasons'])}" for job in listed["quarantined_jobs"]]
    lines += [
        f"{job['job_id']}  suspect: {job['deaths']} workers died with it in hand; its items are tried one by one"
        for job in listed["suspect_jobs"]
    ]
    return lines or ["no image failed, no job is quarantined or suspect"]


def _paragraph(kind: str, folder: str, tally: Tally, workers: int) -> list[str]:
    from headstart.pipeline.text import rough_size_words, size_words

    share = f"{tally.done / tally.jobs:.0%}" if tally.done < tally.jobs else "all"
    lines = [f"{kind}  {folder}", f"  jobs    {tally.done:,} of {tally.jobs:,} done ({share})"]
    others = [
        f"{number:,} {word}" for word in ("running", "pending", "quarantined", "unreadable") if (number := getattr(tally, word))
    ]
    lines[-1] += "".join(f", {other}" for other in others)
    if not folder.startswith("experiments/"):  # a training has no images of its own
        said = ("items ", "are made") if kind == "make_items" else ("images", "have features")
        lines.append(f"  {said[0]}  {tally.items_done:,} of {tally.items:,} {said[1]} ({size_words(tally.payload_bytes)})")
    if tally.items_failed:
        lines[-1] += f", {tally.items_failed:,} failed (see: headstart status --failed)"
    if tally.peak_rss_bytes:
        lines.append(f"  memory  at most {rough_size_words(tally.peak_rss_bytes, 'MB')} a worker")
        lines[-1] += f", {rough_size_words(tally.peak_vram_bytes, 'MB')} on the GPU" if tally.peak_vram_bytes else ""
    seconds = tally.seconds_left(workers)
    if seconds is not None:
        lines.append(f"  left    about {span(seconds)} with {plural(max(1, workers), 'worker')}")
    return lines


def _data_lines(workspace: Workspace) -> list[str]:
    lines = []
    for name, counts in _datasets(workspace).items():
        retired = f", {counts.retired:,} retired (see: headstart data show {name})" if counts.retired else ""
        lines.append(f"data  {name}  {plural(counts.rows - counts.retired, 'image')}{retired}")
    return lines


def _datasets(workspace: Workspace) -> dict[str, RowCounts]:
    """Rows of each data set by its name, without opening a file."""
    from headstart.features.manifest.names import count_rows

    folders = [path.parent for path in paths.matching(workspace.manifests, "*/dataset.json")]
    return {folder.name: count_rows(folder) for folder in folders}


def _course(folder: Path) -> list[str]:
    """Where a training of a recipe is, as of its newest checkpoint."""
    from headstart.experiments.runs.course import read_course

    course = read_course(folder)
    if course is None:
        return []
    step, steps, seconds = course["step"], course["steps"], course["seconds_a_step"]
    line = f"  step    {step:,} of {steps:,} as of {course['time']}"
    if seconds is not None:
        line += f", {seconds:.3g} s a step, about {span((steps - step) * seconds)} left"
    return [line]


def _scores(folder: Path) -> list[str]:
    """What the features that are there were worth when a worker last looked."""
    from headstart.experiments.evaluation.anytime.record import read_scores

    scores = read_scores(folder)
    of = {name: f" ({name})" if len(scores) > 1 else "" for name in scores}
    return [f"  score   {points[-1].words}, of {points[-1].images:,} images{of[name]}" for name, points in scores.items()]


def _last_scores(folder: Path) -> dict[str, Any]:
    from headstart.experiments.evaluation.anytime.record import read_scores

    scores = read_scores(folder)
    return {"scores": {name: asdict(points[-1]) for name, points in scores.items()}} if scores else {}


def _as_json(workspace: Workspace, status: Status) -> dict[str, Any]:
    waiting = [{"state": state, "what": why, "jobs": jobs} for state, why, jobs in status.withdrawn]
    datasets = [{"name": name, **counts._asdict()} for name, counts in _datasets(workspace).items()]
    return {
        "workspace": str(workspace.root),
        "remaining_jobs": status.remaining,
        "folders": [
            {"kind": kind, "folder": folder, **asdict(tally), **_last_scores(workspace.root / folder)}
            for (kind, folder), tally in status.folders.items()
        ],
        "workers": [owner.as_json() for owner in status.workers],
        "problems": status.problems,
        "datasets": datasets,
        "withdrawn": waiting,
    }


def _disk(workspace: Workspace) -> list[dict[str, Any]]:
    from headstart.experiments.runs.cleaning import usage

    return [asdict(part) for part in usage(workspace)]


def _disk_lines(parts: list[dict[str, Any]]) -> Iterator[str]:
    from headstart.commands.output.terminal import aligned
    from headstart.pipeline.text import size_words

    rows = [["", "takes", "can go"]]
    rows += [
        [part["what"], size_words(part["total_bytes"]), size_words(part["derived_bytes"]) if part["derived_bytes"] else ""]
        for part in parts
    ]
    sums = [sum(part[key] for part in parts) for key in ("total_bytes", "derived_bytes")]
    rows.append(["all", *map(size_words, sums)])
    yield from aligned(rows, "<>>")
    if sums[1]:
        yield "what can go comes back when it is needed; free it: headstart clean"
