"""`headstart predict`: what a trained head says of images."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from headstart.commands.options import as_json, chosen_workspace, device_option, run_option, workspace_option
from headstart.commands.output.terminal import say
from headstart.pipeline.errors import HeadstartError
from headstart.pipeline.text import plural, printable

if TYPE_CHECKING:
    from headstart.experiments.runs.recipe_experiment import RecipeExperiment
    from headstart.experiments.serving.predict import Prediction
    from headstart.experiments.serving.predict_masks import MaskRequest
    from headstart.pipeline.workspace import Workspace


@click.command("predict")
@click.argument("images", nargs=-1, required=True, type=click.Path(path_type=Path), metavar="IMAGES...")
@run_option
@click.option("--top", type=click.IntRange(min=1), default=1, show_default=True, metavar="K", help="Classes to show an image.")
@click.option("--aux", "given", multiple=True, metavar="NAME=VALUE", help="A number the head was trained with beside the image.")
@click.option("--csv", "as_csv", is_flag=True, help="One line an image; text that a spreadsheet would run is escaped.")
@as_json
@click.option(
    "--masks-to", type=click.Path(path_type=Path), metavar="DIR", help="A run of segment: write the mask of each image there."
)
@click.option(
    "--overlap",
    type=click.IntRange(min=0),
    metavar="PIXELS",
    help="With --masks-to: window by window at the image's own resolution, stitched. [default: as in training: the "
    "whole image, or windows that overlap as patches did]",
)
@click.option(
    "--explain",
    type=click.Path(path_type=Path),
    metavar="DIR",
    help="Write a picture of each image there: in orange what in it speaks for the answer. Runs on the CPU.",
)
@click.option("--overlay", is_flag=True, help="With --masks-to: also the classes' colours over the image.")
@click.option(
    "--polygons",
    is_flag=True,
    help="With --masks-to: also the regions as GeoJSON, in pixels; needs the extra polygons.",
)
@click.option(
    "--probabilities",
    is_flag=True,
    help="With --masks-to: also a .npy of what each class has, a place of the map after the other.",
)
@device_option
@click.option("--allow-symlinks", is_flag=True, help="Follow symbolic links out of a folder.")
@workspace_option
def command(
    images: tuple[Path, ...],
    run: str,
    top: int,
    given: tuple[str, ...],
    as_csv: bool,
    as_json: bool,
    masks_to: Path | None,
    overlap: int | None,
    overlay: bool,
    polygons: bool,
    probabilities: bool,
    explain: Path | None,
    device: str,
    allow_symlinks: bool,
    workspace: str | None,
) -> int:
    """Say which class each of IMAGES is, or which numbers it has. IMAGES are files and folders.

    They are decoded and encoded as `work` would do it. One that cannot be read, or takes longer than 30 s
    ($HEADSTART_PICTURE_S), costs its own line; the exit status is 1 then.
    """
    from headstart.commands.output.predictions import PredictionLayout, write_csv, write_json, write_table
    from headstart.experiments.runs.catalog import BEST, recipe_of_run
    from headstart.experiments.serving.predict import predict

    if as_csv and as_json:
        raise click.UsageError("--csv and --json exclude each other")
    if masks_to is None and (overlap is not None or overlay or polygons or probabilities):
        raise click.UsageError("--overlap, --overlay, --polygons and --probabilities go with --masks-to DIR")
    if masks_to is not None and explain is not None:
        raise click.UsageError("--explain goes with a head that says one thing an image, --masks-to with masks")
    opened_workspace = chosen_workspace(workspace)
    experiment = recipe_of_run(opened_workspace, run)
    if masks_to is not None:
        if experiment is None and run == BEST:
            raise HeadstartError("--masks-to: it is not said whose masks. Name a run of the recipe segment: --run N")
        if experiment is None:
            raise HeadstartError(f"run {run} says one thing an image, no mask. Name a run of the recipe segment: --run N")
        from headstart.experiments.serving.predict_masks import MaskRequest

        request = MaskRequest(masks_to, overlap, overlay, polygons, probabilities)
        return _masks(opened_workspace, experiment, images, request, device, allow_symlinks, as_json)
    if experiment is not None and explain is not None:
        raise HeadstartError(
            f"run {run} is of headstart train; --explain goes with runs of headstart train-head. Name one: --run N"
        )
    if experiment is not None:
        return _by_recipe(experiment, images, top, as_csv, as_json, allow_symlinks)
    predictions = predict(
        images, opened_workspace, run=run, auxiliary=given, device=device, allow_symlinks=allow_symlinks, explain_to=explain
    )
    listed = predictions.images
    layout = PredictionLayout(
        predictions.task, predictions.names, min(top, len(predictions.names)), [image.name for image in listed]
    )
    if as_json:
        failed = write_json(iter(predictions), layout, predictions.chosen.as_json())
    else:
        failed = (write_csv if as_csv else write_table)(iter(predictions), layout)
        trained_on = plural(predictions.chosen.experiment.counts["train"], "image")
        say(f"said by {predictions.chosen.words}, trained on {trained_on}")
        if explain is not None and failed < len(listed):
            say(f"what in the images speaks for it: {printable(str(explain))}")
    if failed:
        say(f"{plural(failed, 'image')} of {len(listed):,} could not be read")
    return 1 if failed else 0


def _masks(
    workspace: Workspace,
    experiment: RecipeExperiment,
    images: tuple[Path, ...],
    request: MaskRequest,
    device: str,
    allow_symlinks: bool,
    as_json: bool,
) -> int:
    """Writes masks and says of each where it is and what it holds; the exit status."""
    from headstart.experiments.serving.predict_masks import predict_masks
    from headstart.experiments.serving.recipe_run import open_trained
    from headstart.features.devices import choose_device

    said, failed = [], 0
    for one in predict_masks(workspace, open_trained(experiment), images, request, choose_device(device), allow_symlinks):
        failed += bool(one.error)
        if as_json:
            answer = {"error": one.error} if one.error else {"mask": str(one.path), "size": one.size, "shares": dict(one.shares)}
            said.append({"path": one.name, **answer})
        elif one.error:
            click.echo(f"{printable(one.name)}  {printable(one.error)}")
        else:
            most = sorted(one.shares, key=lambda share: -share[1])[:3]
            shares = ", ".join(f"{printable(name)} {share:.1%}" for name, share in most)
            click.echo(f"{printable(one.name)}  {printable(str(one.path))}  {one.size[1]}x{one.size[0]}  {shares}")
    if as_json:
        click.echo(json.dumps({"experiment": experiment.folder.name, "predictions": said}, indent=1))
    elif failed:
        say(f"{plural(failed, 'image')} got no mask")
    return int(failed > 0)


def _by_recipe(
    experiment: RecipeExperiment, images: tuple[Path, ...], top: int, as_csv: bool, as_json: bool, allow_symlinks: bool
) -> int:
    """What a run of `headstart train` says of each; the exit status."""
    from headstart.commands.output.predictions import PredictionLayout, write_csv, write_table
    from headstart.commands.output.terminal import write_line
    from headstart.experiments.serving.recipe_run import open_trained, predict_files

    trained = open_trained(experiment)
    said = predict_files(trained, images, allow_symlinks)
    if as_json:
        answers = [{"path": name, **answer} for name, answer in said]
        click.echo(json.dumps({"experiment": experiment.folder.name, "predictions": answers}, indent=1))
        return int(any("error" in answer for answer in answers))
    classes = tuple(trained.about.classes) if "classes" in trained.about else ()
    if classes:
        layout = PredictionLayout("classification", classes, min(top, len(classes)), [str(path) for path in images])
        failed = (write_csv if as_csv else write_table)(_as_predictions(said, classes), layout)
        say(f"said by {experiment.folder.name}")
        return int(failed > 0)
    failed = 0
    for name, answer in said:
        failed += "error" in answer
        text = str(answer.get("error") or json.dumps(dict(answer)))
        if as_csv:
            write_line([name, text])
        else:
            click.echo(f"{printable(name)}  {printable(text)}")
    say(f"said by {experiment.folder.name}")
    return int(failed > 0)


def _as_predictions(said: Iterator[tuple[str, Mapping[str, Any]]], classes: tuple[str, ...]) -> Iterator[Prediction]:
    import numpy as np

    from headstart.experiments.serving.predict import Prediction
    from headstart.features.images.decode import ImageError

    for name, answer in said:
        probabilities = answer.get("probabilities")
        if probabilities is None or not probabilities.keys() >= set(classes):
            code, _, reason = str(answer.get("error", "recipe: it says no probabilities of these classes")).partition(": ")
            yield Prediction(name, None, ImageError(code, reason))
        else:
            yield Prediction(name, np.array([probabilities[one] for one in classes], np.float64), None)
