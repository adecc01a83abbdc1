"""Begins the training of a recipe: the experiment that the same command began before, or a new one with the recipe's source."""

from __future__ import annotations

from pathlib import Path

from headstart.experiments.runs.beginning.begin import Begun, Complete, begin_experiment
from headstart.experiments.runs.experiment import INPUTS, SOURCE, nowhere
from headstart.experiments.runs.recipe_experiment import RecipeExperiment
from headstart.experiments.training.conduct import Conduct
from headstart.experiments.training.data.sets import Splits
from headstart.experiments.training.judge_model import require_amp
from headstart.experiments.training.loop import Loop
from headstart.experiments.training.options import RecipeOptions, as_values, option_files, sha256_of_file
from headstart.experiments.training.recipe import Recipe, asking, recipe_path
from headstart.pipeline.doors import reading
from headstart.pipeline.doors.code import digest_alone, read_code, read_source
from headstart.pipeline.workspace import Workspace


def begin_recipe(
    workspace: Workspace, recipe: Recipe, file: Path, options: RecipeOptions, conduct: Conduct, name: str | None = None
) -> Begun[RecipeExperiment]:
    """Finds or makes the experiment, and its row in the queue.

    Args:
        file: of the recipe; one that is not headstart's own is allowed already.

    Raises: HeadstartError if the recipe fails to make data or model, or the name is taken by an experiment that differs.
    """
    sketch, splits = sketch_of(workspace, recipe, file, options, conduct, name)

    def complete(sketch: RecipeExperiment) -> Complete[RecipeExperiment]:
        # Refuses what cannot be trained before anything is written.
        require_amp(options.amp, conduct.device, Loop(recipe, options, splits, workspace=workspace).model)
        sources = read_code(file).files if sketch.is_from_file else [(file.name, read_source(file))]
        files = {f"{SOURCE}/{name}": data for name, data in sources}
        files |= {
            str(sketch.values[option]): reading.read_given(path, reading.TABLE_BYTES)
            for option, path in option_files(options).items()
        }
        return Complete(sketch, files, splits.notes)

    return begin_experiment(workspace, sketch, name, complete)


def sketch_of(
    workspace: Workspace, recipe: Recipe, file: Path, options: RecipeOptions, conduct: Conduct, name: str | None
) -> tuple[RecipeExperiment, Splits]:
    """What such a training would be, not placed yet, and its data."""
    is_own = file.parent == recipe_path("tiny").parent
    # A user's file goes by its bytes: wherever it lies, it is the same training.
    inputs = {option: f"{INPUTS}/{sha256_of_file(path)[:16]}{path.suffix}" for option, path in option_files(options).items()}
    with asking("data"):
        splits = recipe.data(options, workspace)
    sketch = RecipeExperiment(
        folder=nowhere(workspace),
        number=0,
        name=name or file.stem[:40],
        data=splits.digest,
        counts={split: len(rows) for split, rows in splits.named().items()},
        recipe=file.stem if is_own else file.name,
        code=digest_alone(file) if is_own else read_code(file).digest,
        values={**as_values(options), **inputs},
        settled=dict(splits.settled),
        device="",
        conduct={
            "save_every": conduct.save_every,
            "save_s": conduct.save_s,
            "data_workers": conduct.data_workers,
            "tensorboard": conduct.tensorboard,
            "mlflow": conduct.mlflow,
            "ram_bytes": conduct.ram_bytes,
            "vram_bytes": conduct.vram_bytes,
        },
    )
    return sketch, splits
