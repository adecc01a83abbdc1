"""`headstart demo`: the main job on real images, with a worker killed in the middle."""

from __future__ import annotations

import hashlib
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import click

from headstart.pipeline.text import span

if TYPE_CHECKING:
    from headstart.pipeline.workspace import Workspace

_JOBS_BEFORE_THE_KILL = 5
_PATIENCE_S = 300.0


@click.command("demo")
@click.option("--folder", type=click.Path(path_type=Path), help="Where to work. [default: a new temporary folder]")
def command(folder: Path | None) -> None:
    """Watch a worker die and the next one go on: 1,797 handwritten digits, no network, under a minute.

    The encoder is the small one that ships with Headstart. It is there to try things out and no stand-in for
    pretrained weights.
    """
    from headstart.features.store.load import load_features
    from headstart.pipeline.errors import HeadstartError
    from headstart.pipeline.workspace import open_workspace

    begun = time.monotonic()
    if folder is not None and folder.exists() and any(folder.iterdir()):
        raise HeadstartError(f"{folder} is not empty. Name a new folder, or none")
    folder = folder or Path(tempfile.mkdtemp(prefix="headstart-demo-"))
    count = _write_digits(folder / "digits")
    click.echo(f"{count:,} handwritten digits that come with scikit-learn, as PNG files in {folder / 'digits'}")
    root = folder / "workspace"
    _run("enqueue", folder / "digits", "--weights", "embedded", "-w", root)
    _run_and_kill(root)
    workspace = open_workspace(root)
    before = dict(_digests(workspace))
    click.echo(f"\n*** killed with SIGKILL, {len(before)} jobs were committed. Another worker goes on:\n")
    _run("work", "-w", root)
    _run("verify", "--deep", "--repair", "-w", root)
    after = dict(_digests(workspace))
    [encoder] = workspace.features.glob("encoder_*")
    finished = load_features(encoder)
    is_kept = all(after.get(name) == digest for name, digest in before.items())
    is_whole = len(finished.paths) == len(set(finished.paths)) == count
    if not (is_kept and is_whole):
        raise HeadstartError(
            f"the demo found {len(finished.paths)} of {count} images, committed files kept: {is_kept}. See {folder}"
        )
    seconds = span(time.monotonic() - begun)
    click.echo(f"\nProved in {seconds}: a worker was killed in the middle, {len(before)} finished jobs kept every byte,")
    click.echo(
        f"and each of the {count:,} images has its {finished.features.shape[1]} float16 features exactly once, in {encoder}"
    )
    click.echo("Now on your own images:  headstart enqueue PHOTOS  &&  headstart work")


def _write_digits(folder: Path) -> int:
    from PIL import Image
    from sklearn.datasets import load_digits

    digits = load_digits()
    for number, (pixels, label) in enumerate(zip(digits.images, digits.target, strict=True)):
        target = folder / str(label)
        target.mkdir(parents=True, exist_ok=True)
        Image.fromarray((pixels * 255 / 16).round().astype("uint8")).save(target / f"{number:04d}.png")
    return len(digits.target)


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
    from headstart.pipeline.doors import python
    from headstart.pipeline.errors import HeadstartError
    from headstart.pipeline.workspace import open_workspace

    click.echo(f"\n$ headstart work -w {root}")
    worker = python.start(_command("work", "-w", root))
    try:
        deadline = time.monotonic() + _PATIENCE_S
        while len(dict(_digests(open_workspace(root)))) < _JOBS_BEFORE_THE_KILL:
            if worker.poll() is not None or time.monotonic() > deadline:
                raise HeadstartError(
                    f"the worker ended before it could be killed (exit status {worker.poll()}). Run the demo again"
                )
            time.sleep(0.02)
    finally:
        worker.kill()
        worker.wait()


def _digests(workspace: Workspace) -> Iterator[tuple[str, str]]:
    for marker in workspace.features.glob("encoder_*/done/*/*.done"):
        for payload in marker.parent.parent.parent.glob(f"shards/{marker.parent.name}/{marker.stem}.*"):
            yield payload.name, hashlib.sha256(payload.read_bytes()).hexdigest()
