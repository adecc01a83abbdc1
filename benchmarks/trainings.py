"""Trainings of recipes whose seconds of CPU are counted, over all of their starts."""

import contextlib
import json
import threading
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from headstart.experiments.runs.recipe_experiment import RecipeExperiment
from headstart.experiments.train_recipe import train_recipe
from headstart.experiments.training.conduct import Conduct
from headstart.pipeline.errors import HeadstartError

from .finetune_splits import read_numbers, write_numbers


class Seconds:
    """CPU seconds of each training, kept while they pass: what is killed loses one of them."""

    def __init__(self, path: Path) -> None:
        self._path, self.took = path, read_numbers(path)
        self._given = 0.0  # what was spent before the first training, on imports, is its

    @contextlib.contextmanager
    def of(self, name: str) -> Iterator[None]:
        has_ended = threading.Event()

        def watch() -> None:
            while not has_ended.wait(1.0):
                self._keep(name)

        watching = threading.Thread(target=watch, daemon=True)
        watching.start()
        try:
            yield
        finally:
            has_ended.set()
            watching.join()
            self._keep(name)

    def _keep(self, name: str) -> None:
        now = time.process_time()
        self.took[name] = self.took.get(name, 0.0) + now - self._given
        self._given = now
        write_numbers(self._path, self.took)


def trained(seconds: Seconds, workspace: Path, name: str, recipe: str, values: Mapping[str, Any]) -> RecipeExperiment:
    """The finished training; what it takes to see that it was finished before is no part of its seconds."""
    finished = any(workspace.glob(f"experiments/exp_*_{name}/done/*"))
    with contextlib.nullcontext() if finished else seconds.of(name):
        # No process of its own reads ahead: its seconds would be missing.
        conduct = Conduct(data_workers=0)
        try:
            training = train_recipe(recipe, values, workspace, device="cpu", conduct=conduct, name=name, report=print)
        except HeadstartError as error:
            raise SystemExit(f"error: {error}") from None
    if training.experiment is None or not training.is_finished:
        raise SystemExit(f"{name} was not finished")
    return training.experiment


def said(text: str) -> dict[str, Any]:
    """'epochs=1,max_steps=9' as options."""
    pairs = (pair.partition("=") for pair in text.split(",") if pair)
    return {name.strip(): json.loads(value) for name, _, value in pairs}
