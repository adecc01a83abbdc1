"""What a trained recipe makes when it is asked to: lines of handwriting, pictures, whatever its `sample` says."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from headstart.experiments.runs.recipe_experiment import RecipeExperiment, recipe_of
from headstart.experiments.training.options import Field, SampleOptions, fields_of, merged_options, option_files
from headstart.experiments.training.recipe import Recipe, Sampling, asking, has, named_file
from headstart.pipeline.errors import HeadstartError
from headstart.pipeline.files import environment_faults
from headstart.pipeline.output_files import write_output

if TYPE_CHECKING:
    from .recipe_run import Trained


def sampling_fields(experiment: RecipeExperiment) -> list[Field]:
    """What sampling from this run can be told. Raises: HeadstartError if its recipe does not sample."""
    return fields_of(_sampling(recipe_of(experiment), experiment.recipe))


def _sampling(recipe: Recipe, name: str) -> type[SampleOptions]:
    options = getattr(recipe, "Sampling", None)
    if not has(recipe, "sample") or not (isinstance(options, type) and issubclass(options, SampleOptions)):
        raise HeadstartError(
            f"the recipe {name} makes no samples: it has no Sampling(SampleOptions) and no sample(model, wanted, options, about)"
        )
    return options


def sample_run(trained: Trained, values: Mapping[str, Any], config: Path | None = None) -> Iterator[tuple[str, bytes]]:
    """Names of files and their bytes, the same for the same values. Raises: HeadstartError."""
    import torch

    from .recipe_run import with_workspace

    wanted = merged_options(_sampling(trained.recipe, trained.experiment.recipe), values, config)
    option_files(wanted)  # a file that is not there is said before anything is made
    # No inference mode: what is made in it can never have a gradient, and a recipe may follow one.
    with torch.no_grad(), asking("sample"):
        about = with_workspace(trained)
        for name, value in cast(Sampling, trained.recipe).sample(trained.model, wanted, trained.options, about):
            yield named_file("sample", name, value)


def write_samples(samples: Iterator[tuple[str, bytes]], folder: Path, force: bool) -> Iterator[Path]:
    """Writes each below `folder`. Raises: HeadstartError if a file of that name holds something else."""
    with environment_faults(f"cannot write into {folder}"):
        folder.mkdir(parents=True, exist_ok=True)
        for name, data in samples:
            write_output(folder / name, data, force, "Pass --force to replace it, or -o DIR")
            yield folder / name
