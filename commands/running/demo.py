"""`headstart demo`: the main job on real images, with a worker killed in the middle."""

from __future__ import annotations

import tempfile
import time
from pathlib import Path

import click

from headstart.pipeline.text import span

_JOBS_BEFORE_THE_KILL = 5
_PATIENCE_S = 300.0


@click.command("demo")
@click.option("--folder", type=click.Path(path_type=Path), help="Where to work. [default: a new temporary folder]")
def command(folder: Path | None) -> None:
    """Watch a worker die and the next one go on: 1,797 handwritten digits, no network, under a minute.

    The encoder is the small one that ships with Headstart. It is there to try things out and no stand-in for
    pretrained weights.
    """
    from headstart.features.sources.digits import write_digits
    from headstart.features.store.kept import compare_kept, payload_digests
    from headstart.pipeline.errors import HeadstartError
    from headstart.pipeline.workspace import open_workspace

    begun = time.monotonic()
    if folder is not None and folder.exists() and any(folder.iterdir()):
        raise HeadstartError(f"{folder} is not empty. Name a new folder, or none")
    folder = folder or Path(tempfile.mkdtemp(prefix="headstart-demo-"))
    count = write_digits(folder / "digits")
    click.echo(f"{count:,} handwritten digits that come with scikit-learn, as PNG files in {folder / 'digits'}")
    root = folder / "workspace"
    _run("enqueue", folder / "digits", "--weights", "embedded", "-w", root)
    _run_and_kill(root)
    workspace = open_workspace(root)
    before = payload_digests(workspace)
    click.echo(f"\n*** killed with SIGKILL, {len(before)} jobs were committed. Another worker goes on:\n")
    _run("work", "-w", root)
    _run("verify", "--deep", "--repair", "-w", root)
    kept = compare_kept(workspace, before)
    if not (kept.is_kept and kept.is_once and kept.images == count):
        raise HeadstartError(
            f"the demo found {kept.images} of {count} images, committed files kept: {kept.is_kept}. See {folder}"
        )
    seconds = span(time.monotonic() - begun)
    click.echo(f"\nProved in {seconds}: a worker was killed in the middle, {len(before)} finished jobs kept every byte,")
    click.echo(f"and each of the {count:,} images has its {kept.embed_dim} float16 features exactly once, in {kept.encoder}")
    click.echo("Now on your own images:  headstart enqueue PHOTOS  &&  headstart work")


def _command(*arguments: object) -> list[str]:
    from headstart.pipeline.doors import python

    # Through the interpreter rather than the `headstart` script: this also works in a checkout that was never installed.
    return python.module_command("headstart.cli", *map(str, arguments))


def _run(*arguments: object) -> None:
    from headstart.pipeline.doors import python
    from headstart.pipeline.errors import HeadstartError

    click.echo(f"\n$ headstart {' '.join(map(str, arguments))}")
    status = python.run(_command(*arguments)).returncode
    if status:
        raise HeadstartError(
            f"headstart {arguments[0]} exited with {status}; what it said stands above. Mend that, then run the demo again"
        )


def _run_and_kill(root: Path) -> None:
    from headstart.features.store.kept import payload_digests
    from headstart.pipeline.doors import python
    from headstart.pipeline.errors import HeadstartError
    from headstart.pipeline.workspace import open_workspace

    click.echo(f"\n$ headstart work -w {root}")
    worker = python.start(_command("work", "-w", root))
    try:
        deadline = time.monotonic() + _PATIENCE_S
        while len(payload_digests(open_workspace(root))) < _JOBS_BEFORE_THE_KILL:
            if worker.poll() is not None or time.monotonic() > deadline:
                raise HeadstartError(
                    f"the worker ended before it could be killed (exit status {worker.poll()}). Run the demo again"
                )
            time.sleep(0.02)
    finally:
        worker.kill()
        worker.wait()
