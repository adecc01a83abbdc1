"""An experiment that trains a recipe's model: what its description adds to any training's, and how recipe and data come back.

The recipe's source is kept in the folder, and so are the user's files among its options: whoever goes on with it later needs
neither. What data it reads is where it was.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Self

from headstart.pipeline import paths
from headstart.pipeline.errors import HeadstartError
from headstart.pipeline.text import printable
from headstart.pipeline.workspace import Workspace

from .experiment import INPUTS, SOURCE, Experiment, list_experiments, read_experiment

if TYPE_CHECKING:
    from headstart.experiments.training.data.sets import Splits
    from headstart.experiments.training.options import RecipeOptions
    from headstart.experiments.training.recipe import Recipe


def headline_metric(judged_by: Mapping[str, Any]) -> str:
    """The metric that is told of a training, of what its numbers say it was judged by."""
    return str(judged_by.get("headline") or judged_by.get("metric"))


_INPUT = re.compile(rf"{INPUTS}/[0-9a-f]{{16}}(\.[^/\\\x00]{{1,100}})?")


@dataclass(frozen=True)
class RecipeExperiment(Experiment):
    """A recipe with its options on data.

    Attributes:
        recipe: its name, or that of a user's file, `mine.py`.
        code: digest of its source.
        values: every option, ready for JSON; a user's file is named by its place in the experiment's folder.
        settled: options that the data decided; instead of what the user wrote there `data` stands for them.
        device: that an earlier version noted as part of what it is; '' since a training may go on on another device.
        conduct: how it runs and who listens, which decides no bit: save_every, save_s, data_workers, trackers.
    """

    KIND: ClassVar[str] = "train_model"
    COMMAND: ClassVar[str] = "headstart train"

    recipe: str
    code: str
    values: Mapping[str, Any]
    settled: Mapping[str, Any]
    device: str
    conduct: Mapping[str, Any]

    @classmethod
    def from_record(cls, workspace: Workspace, folder: Path, number: int, record: Mapping[str, Any]) -> Self:
        return cls(
            folder=folder,
            number=number,
            name=str(record["name"]),
            data=str(record["data"]),
            counts={str(split): int(count) for split, count in record["counts"].items()},
            recipe=str(record["recipe"]),
            code=str(record["code"]),
            values=dict(record["options"]),
            settled=dict(record["settled"]),
            device=str(record.get("device", "")),
            conduct=dict(record["conduct"]),
        )

    @property
    def source(self) -> str:
        """Nothing but itself is read by its name."""
        return f"experiments/{self.folder.name}"

    @property
    def configuration(self) -> str:
        """Also of its data: on other data it is another training, never the same one gone on with."""
        return self.identity

    def record(self) -> dict[str, Any]:
        more = {"settled": dict(self.settled), "counts": dict(self.counts), "conduct": dict(self.conduct)}
        return {**self.facts(), "options": dict(self.values), **more}

    def on_any_machine(self) -> Self:
        return replace(self, device="")

    def facts(self) -> dict[str, Any]:
        facts: dict[str, Any] = {
            "recipe": self.recipe,
            "code": self.code,
            "options": {name: value for name, value in self.values.items() if name not in self.settled},
            "data": self.data,
        }
        return {**facts, "device": self.device} if self.device else facts

    def settings(self) -> dict[str, Any]:
        return {"recipe": self.recipe, "source": self.code[:8], **self.values, "data": self.data[:8]}

    @property
    def is_from_file(self) -> bool:
        return self.recipe.endswith(".py")

    @property
    def recipe_file(self) -> Path:
        """Its source, as it was kept."""
        return self.folder / SOURCE / (self.recipe if self.is_from_file else f"{self.recipe}.py")

    @property
    def final_weights(self) -> Path:
        """The best weights alone, once it is finished."""
        return self.checkpoints / "final.safetensors"


def read_recipe_experiment(workspace: Workspace, folder: Path) -> RecipeExperiment:
    """As `read_experiment`."""
    return read_experiment(workspace, folder, RecipeExperiment)


def list_recipe_experiments(workspace: Workspace) -> list[RecipeExperiment]:
    """As `list_experiments`."""
    return list_experiments(workspace, RecipeExperiment)


def recipe_of(experiment: RecipeExperiment) -> Recipe:
    """The recipe that it was begun with.

    Raises: HeadstartError if its file was not allowed to run here, or it is another one by now.
    """
    # Here: experiments are listed without recipes, and what runs these would take a quarter of that time.
    from headstart.experiments.training.recipe import checked_recipe, load_recipe, recipe_path
    from headstart.pipeline.doors.code import digest_alone, load_kept

    if experiment.is_from_file:
        module = load_kept(experiment.recipe_file, experiment.code, "headstart train ./mine.py")
        return checked_recipe(module, str(experiment.recipe_file))
    recipe = load_recipe(experiment.recipe)
    if digest_alone(recipe_path(experiment.recipe)) != experiment.code:
        raise HeadstartError(
            f"{experiment.folder.name} was begun with another version of the recipe {experiment.recipe}, kept in "
            f"{experiment.recipe_file}. Finish it with that version, or train anew: headstart train {experiment.recipe}"
        )
    return recipe


def options_of(experiment: RecipeExperiment, recipe: Recipe) -> RecipeOptions:
    """Its options, files at their place in its folder; one that came later has its default.

    Raises: HeadstartError if another version of Headstart began it, with an option that this one does not have.
    """
    from headstart.experiments.training.options import fields_of, options_from

    gone = set(experiment.values) - {field.name for field in fields_of(recipe.Options)}
    if gone:
        raise HeadstartError(
            f"{experiment.folder.name} was begun by another version of Headstart, with an option '{printable(min(gone))}' that "
            f"this one does not have. Finish it with that version, or train anew: headstart train {experiment.recipe}"
        )
    options = options_from(
        recipe.Options, {**experiment.values, **experiment.settled}, str(experiment.folder / "experiment.json")
    )
    files: dict[str, Any] = {
        field.name: _kept_input(experiment, str(value))
        for field in fields_of(recipe.Options)
        if field.type is Path and (value := getattr(options, field.name)) is not None
    }
    return replace(options, **files)


def _kept_input(experiment: RecipeExperiment, name: str) -> Path:
    path = experiment.folder / name
    if not _INPUT.fullmatch(name) or not paths.is_file(path):
        raise HeadstartError(f"{path} is no file that was kept. Restore it from a copy, or train anew: headstart train")
    return path


def splits_of(
    workspace: Workspace, experiment: RecipeExperiment, recipe: Recipe, options: RecipeOptions, wanted: str = "train"
) -> Splits:
    """What it learns from and is judged on.

    Raises: HeadstartError if that is no longer what it was begun on, or has no split `wanted`.
    """
    from headstart.experiments.training.recipe import asking

    with asking("data"):
        splits = recipe.data(options, workspace)
    if splits.digest != experiment.data:
        raise HeadstartError(
            f"the data of {experiment.folder.name} is not what it was begun on. Restore it, or train on what is there now by the "
            "same command, which makes another experiment"
        )
    if wanted not in splits.named():
        raise HeadstartError(f"{experiment.folder.name} has no split '{wanted}'. Use --split val")
    return splits
