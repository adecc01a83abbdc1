"""`headstart demo`: the whole story on real images, with a worker killed in the middle."""

from __future__ import annotations

import tempfile
import time
from pathlib import Path

import click

from headstart.pipeline.text import span

_JOBS_BEFORE_THE_KILL = 5
_PATIENCE_S = 300.0
_HELD_OUT = 12  # digits


@click.command("demo")
@click.option("--folder", type=click.Path(path_type=Path), help="Where to work. [default: a new temporary folder]")
@click.option("--open", "is_opened", is_flag=True, help="Show the report in the browser at the end.")
def command(folder: Path | None, is_opened: bool) -> None:
    """See the whole story on handwritten digits, without a network, in about a minute.

    A worker is killed and the next one goes on, heads are trained and measured, the best one says what it sees in digits that
    it never met, and a report shows it all. The encoder is the small one that ships with Headstart: there to try things
    out, and no stand-in for pretrained weights.
    """
    from headstart.features.sources.digits import write_digits
    from headstart.pipeline.errors import HeadstartError

    begun = time.monotonic()
    if folder is not None and folder.exists() and any(folder.iterdir()):
        raise HeadstartError(f"{folder} is not empty. Name a new folder, or none")
    folder = folder or Path(tempfile.mkdtemp(prefix="headstart-demo-"))
    count = write_digits(folder / "digits", folder / "new", _HELD_OUT)
    click.echo(f"{count:,} handwritten digits that come with scikit-learn, as PNG files in {folder / 'digits'}")
    root = folder / "workspace"
    _extract(folder / "digits", root, count)
    click.echo("\n*** Three heads are trained in one pass over the features, beside baselines that need no training:")
    _run("train-head", "--ablation", "-w", root)
    click.echo(f"\n*** The chosen one looks at {_HELD_OUT} digits that it never met; each name begins with the digit it shows:")
    _run("predict", folder / "new", "-w", root)
    _run("report", *(["--open"] if is_opened else []), "-w", root)
    click.echo(f"\nAll of this took {span(time.monotonic() - begun)} and lies in {folder}")
    click.echo("Now on your own photos, in folders named after what they show:")
    for line in ("headstart enqueue PHOTOS", "headstart work", "headstart train-head && headstart report --open"):
        click.echo(f"  {line}")


def _extract(digits: Path, root: Path, count: int) -> None:
    """Features of all digits, with a worker killed in between, and the proof that it cost nothing."""
    from headstart.features.store.kept import compare_kept, payload_digests
    from headstart.pipeline.errors import HeadstartError
    from headstart.pipeline.workspace import open_workspace

    _run("enqueue", digits, "--weights", "embedded", "-w", root)
    _run_and_kill(root)
    workspace = open_workspace(root)
    before = payload_digests(workspace)
    click.echo(f"\n*** killed with SIGKILL, {len(before)} jobs were committed. Another worker goes on:")
    _run("work", "-w", root)
    _run("verify", "--deep", "--repair", "-w", root)
    kept = compare_kept(workspace, before)
    if not (kept.is_kept and kept.is_once and kept.images == count):
        raise HeadstartError(f"of {count} images {kept.images} have features, committed files kept: {kept.is_kept}. See {root}")
    click.echo(
        f"\n*** Proved: the {len(before)} finished jobs kept every byte, and each of the {count:,} images has its "
        f"{kept.embed_dim} float16 features exactly once."
    )


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
