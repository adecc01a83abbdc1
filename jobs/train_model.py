"""Kind `train_model`: one experiment, a recipe's model, from the last checkpoint on."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, ClassVar

from headstart.experiments.training.failure import TrainingFailed
from headstart.pipeline.errors import HeadstartError
from headstart.pipeline.job import Job
from headstart.pipeline.kinds import Settings
from headstart.pipeline.markers import Result
from headstart.pipeline.workspace import Workspace

if TYPE_CHECKING:
    from headstart.experiments.runs.recipe_experiment import RecipeExperiment
    from headstart.experiments.training.conduct import Conduct
    from headstart.experiments.training.loop import Listener
    from headstart.experiments.training.recipe import Recipe


def fingerprint(workspace: Workspace, folder: str) -> str:
    """Of the description: recipe, options, data; equal fingerprints mean the same weights."""
    from headstart.experiments.runs.recipe_experiment import read_recipe_experiment

    return read_recipe_experiment(workspace, workspace.root / folder).identity


def count_items(workspace: Workspace, source: str) -> int:
    """A training is one item."""
    return 1


def open_session(workspace: Workspace, job: Job, settings: Settings) -> TrainModelSession:
    """Loads the recipe, if its user allowed that. Raises: HeadstartError, and the job is left, if not."""
    from headstart.experiments.runs.recipe_experiment import read_recipe_experiment, recipe_of

    experiment = read_recipe_experiment(workspace, workspace.folder(job))
    return TrainModelSession(workspace, settings, experiment, recipe_of(experiment))


class TrainModelSession:
    """One experiment."""

    KEEPS_PROGRESS: ClassVar[bool] = True

    def __init__(self, workspace: Workspace, settings: Settings, experiment: RecipeExperiment, recipe: Recipe) -> None:
        self._workspace, self._settings = workspace, settings
        self._experiment, self._recipe = experiment, recipe

    def prepare(self, job: Job) -> RecipeExperiment:
        """What is to be trained; its data is opened when it is its turn."""
        return self._experiment

    def compute(self, prepared: RecipeExperiment, check: Callable[[], None]) -> Result:
        """Trains from the last checkpoint on, judges, and writes weights and numbers; the marker that follows makes it done."""
        try:
            return self._trained(prepared, check)
        except HeadstartError as error:
            raise TrainingFailed(str(error)) from error

    def close(self) -> None:
        """Holds nothing between jobs."""

    def _trained(self, experiment: RecipeExperiment, check: Callable[[], None]) -> Result:
        from headstart.experiments.evaluation.publish_recipe import publish_recipe
        from headstart.experiments.runs.recipe_experiment import options_of, splits_of
        from headstart.experiments.tracking.console import narrate
        from headstart.experiments.training.loop import Loop, progress_of, put_on
        from headstart.experiments.training.state.checkpoints import Checkpoints
        from headstart.experiments.training.step_memory import vram_facts
        from headstart.experiments.training.time_limit import LoopTimeLimit
        from headstart.features.devices import device_to_go_on

        options = options_of(experiment, self._recipe)
        splits = splits_of(self._workspace, experiment, self._recipe, options)
        keeper = Checkpoints(experiment.checkpoints, self._workspace.files)
        state = keeper.latest(experiment.identity)
        if state is not None and experiment.device:
            state = put_on(state, experiment.device)
        before = experiment.device if state is None else progress_of(state).device
        device = device_to_go_on(before, self._settings.device)
        if before and device != before:
            narrate(f"{experiment.folder.name}  goes on on {device}, on {before} before: the same training, other last digits")
        loop = Loop(self._recipe, options, splits, self._conduct(experiment, device), state, self._workspace)
        listeners = _listeners(self._workspace, experiment)
        limit = LoopTimeLimit(check)
        loop.run(keeper, experiment.identity, limit.check, [*listeners, limit])
        payload = publish_recipe(self._workspace, experiment, loop, limit.check)
        for listener in listeners:
            listener.ended(experiment.folder)
        keeper.keep_only_newest()
        facts = {"device": device, **vram_facts(device), "versions": _versions()}
        return Result(payload, ".json", arrays={}, items=0, ok=0, facts=facts)

    def _conduct(self, experiment: RecipeExperiment, device: str) -> Conduct:
        """As it was begun, on this device, with the budgets of this worker where it has any."""
        from dataclasses import replace

        conduct, mine = conduct_of(experiment), self._settings
        ram_bytes, vram_bytes = mine.ram_bytes or conduct.ram_bytes, mine.vram_bytes or conduct.vram_bytes
        return replace(conduct, device=device, ram_bytes=ram_bytes, vram_bytes=vram_bytes)


def conduct_of(experiment: RecipeExperiment) -> Conduct:
    """As it was begun, but for the device, which is this machine's business."""
    from dataclasses import fields

    from headstart.experiments.training.conduct import Conduct

    known = {field.name for field in fields(Conduct)}
    return Conduct(**{name: value for name, value in experiment.conduct.items() if name in known})


def _listeners(workspace: Workspace, experiment: RecipeExperiment) -> Sequence[Listener]:
    from headstart.experiments.runs.course import CourseFile
    from headstart.experiments.tracking.console import TrainingNarrator, narrate
    from headstart.experiments.tracking.guarded import Guarded

    about = {"recipe": experiment.recipe, "options": dict(experiment.values)}
    listeners: list[Listener] = [TrainingNarrator(experiment.folder.name), CourseFile(workspace, experiment.folder, about)]
    conduct = conduct_of(experiment)
    if conduct.tensorboard:
        listeners.append(Guarded(lambda: _tensorboard(experiment), narrate))
    if conduct.mlflow is not None:
        place = conduct.mlflow
        listeners.append(Guarded(lambda: _mlflow(experiment, place), narrate))
    return listeners


def _tensorboard(experiment: RecipeExperiment) -> Listener:
    from headstart.experiments.tracking.tensorboard import TensorBoard

    return TensorBoard(experiment.folder / "tensorboard")


def _mlflow(experiment: RecipeExperiment, place: str) -> Listener:
    from headstart.experiments.tracking.mlflow import MLflow

    return MLflow(place, experiment.folder.name, experiment.identity, {"recipe": experiment.recipe, **experiment.values})


def _versions() -> dict[str, Any]:
    import numpy as np
    import torch

    return {"numpy": np.__version__, "torch": str(torch.__version__)}
