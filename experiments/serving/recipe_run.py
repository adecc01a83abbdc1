"""A trained recipe's model at work: what it says of new files, and itself as a file for other programs."""

from __future__ import annotations

import contextlib
import io
import json
import logging
import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from headstart.experiments.runs.recipe_experiment import RecipeExperiment, options_of, recipe_of
from headstart.experiments.training.data.batch import Facts
from headstart.experiments.training.recipe import Exporting, Predicting, Recipe, Reducing, asking, has
from headstart.experiments.training.state.final_weights import built, read_final
from headstart.features.extraction.new_images import find_new_images
from headstart.features.networks.onnx_bytes import onnx_bytes
from headstart.pipeline.errors import HeadstartError
from headstart.pipeline.output_files import refuse_place, write_output

if TYPE_CHECKING:
    from torch import nn

SUFFIXES = {"onnx": ".onnx", "torchscript": ".ts", "pt2": ".pt2"}
_CLOSE = 1e-4  # of the largest number, that an exported model may differ by


@dataclass(frozen=True)
class Trained:
    """A model as it was at its best."""

    experiment: RecipeExperiment
    recipe: Recipe
    options: Any
    about: Facts
    model: nn.Module


def open_trained(experiment: RecipeExperiment) -> Trained:
    """Raises: HeadstartError if its weights are gone, or its recipe may not run here."""
    final, recipe = read_final(experiment.final_weights), recipe_of(experiment)
    options = options_of(experiment, recipe)
    return Trained(experiment, recipe, options, Facts(final.about), built(recipe, options, final))


def with_workspace(trained: Trained) -> Facts:
    """What the model knows of its data, and where the training lies: it may need other runs that lie there."""
    return Facts({**trained.about, "workspace": str(trained.experiment.folder.parent.parent)})


def makes_masks(trained: Trained) -> bool:
    """Whether it says a class for each place of a map, see `recipes.segment`."""
    return "pixel_values" in trained.about


def predict_files(
    trained: Trained, places: Sequence[Path], allow_symlinks: bool = False
) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Of each file, and of each image in a folder: its name and what the recipe says. Raises: HeadstartError if it cannot."""
    import torch

    recipe, name = trained.recipe, trained.experiment.recipe
    if not has(recipe, "predict"):
        way = ". Say where its masks go: --masks-to DIR" if makes_masks(trained) else ""
        raise HeadstartError(f"the recipe {name} cannot predict: it has no function predict(model, files, options, about){way}")
    images = find_new_images(places, allow_symlinks)
    paths = [Path(image.root) / image.path for image in images]
    with torch.inference_mode(), asking("predict"):
        said = cast(Predicting, recipe).predict(trained.model, paths, trained.options, with_workspace(trained))
        yield from zip((image.name for image in images), said, strict=True)


def exported_model(trained: Trained) -> nn.Module:
    """What of the model goes into a file for other programs: all of it, or what the recipe says, in evaluation mode."""
    if not has(trained.recipe, "exported"):
        return trained.model
    with asking("exported"):
        return cast(Reducing, trained.recipe).exported(trained.model, trained.options).eval().requires_grad_(False)


def example_of(trained: Trained) -> tuple[Any, ...]:
    """Arguments of the model, of two rows. Raises: HeadstartError if the recipe says none."""
    if not has(trained.recipe, "example"):
        way = ". Add --with-encoder --half: from pixels to masks" if makes_masks(trained) else ""
        raise HeadstartError(
            f"the recipe {trained.experiment.recipe} cannot be exported: it has no function example(options, about){way}"
        )
    with asking("example"):
        return cast(Exporting, trained.recipe).example(trained.options, trained.about)


def export_trained(trained: Trained, form: str, output: Path | None, force: bool) -> tuple[Path, float]:
    """Writes the model; returns where, and the largest difference of its answers from torch's (relative).

    Raises: HeadstartError if the recipe says no example, the model cannot be exported, differs, or the file holds something else.
    """
    experiment, example = trained.experiment, example_of(trained)
    path = output or Path(f"{experiment.folder.name}{SUFFIXES[form]}")
    refuse_place(path)
    try:
        data, difference = _exported(exported_model(trained), example, form, trained)
    except HeadstartError:
        raise
    except Exception as error:
        reason = (str(error).splitlines() or [""])[0][:200]
        raise HeadstartError(
            f"torch cannot write this model as {form} ({type(error).__name__}: {reason}). Try another --format"
        ) from error
    write_output(path, data, force)
    return path, difference


def _exported(model: nn.Module, example: tuple[Any, ...], form: str, trained: Trained) -> tuple[bytes, float]:
    import torch

    facts = json.dumps({"recipe": trained.experiment.recipe, "about": dict(trained.about)}, sort_keys=True)
    with torch.no_grad(), _silence():
        torch.manual_seed(0)
        tried = tuple(torch.randn_like(one) if torch.is_tensor(one) and one.is_floating_point() else one for one in example)
        expected = _arrays(model(*tried))
        buffer = io.BytesIO()
        if form == "torchscript":
            torch.jit.save(torch.jit.trace(model, example), buffer, _extra_files={"headstart.json": facts})  # type: ignore[no-untyped-call]
            answers = _arrays(torch.jit.load(io.BytesIO(buffer.getvalue()))(*tried))  # type: ignore[no-untyped-call]
        elif form == "pt2":
            torch.export.save(torch.export.export(model, example), buffer, extra_files={"headstart.json": facts})
            answers = _arrays(torch.export.load(io.BytesIO(buffer.getvalue())).module()(*tried))
        else:
            names = [f"input_{number}" for number in range(len(example))]
            buffer.write(onnx_bytes(model, example, names, ["output_0"]))
            answers = _onnx_answers(buffer.getvalue(), names, tried)
    data = buffer.getvalue()
    worst = max(
        float(abs(one - other).max()) / max(1e-12, float(abs(other).max())) for one, other in zip(answers, expected, strict=False)
    )
    if not worst <= _CLOSE:
        raise HeadstartError(
            f"the exported model's answers differ from torch's by {worst:.1e} of the largest. Try another --format"
        )
    return data, worst


def _arrays(said: Any) -> list[Any]:
    return [one.numpy() for one in (said if isinstance(said, tuple | list) else (said,)) if hasattr(one, "numpy")]


def _onnx_answers(graph: bytes, names: Sequence[str], tried: tuple[Any, ...]) -> list[Any]:
    import onnxruntime

    session = onnxruntime.InferenceSession(graph, providers=["CPUExecutionProvider"])
    return list(session.run(None, {name: one.numpy() for name, one in zip(names, tried, strict=True)}))


@contextlib.contextmanager
def _silence() -> Iterator[None]:
    logger = logging.getLogger("torch.onnx")
    before = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(before)
