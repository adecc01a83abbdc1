"""Trainings of recipes in memory and on disk, interrupted where a test wants it."""

from __future__ import annotations

import json
from pathlib import Path

import torch

from headstart.experiments.recipes import tiny
from headstart.experiments.training.conduct import Conduct
from headstart.experiments.training.loop import Loop
from headstart.experiments.training.state.checkpoints import Checkpoints
from headstart.pipeline.errors import InterruptedWork
from headstart.pipeline.files import FileSystem

from .recipes import lines, noise

RECIPES = {"tiny": (tiny, {"epochs": 3}), "lines": (lines, {}), "noise": (noise, {})}
IDENTITY = "of a test"


def options_of(name: str, **more):
    recipe, usual = RECIPES[name]
    return recipe.Options(**{"threads": 1, **usual, **more})


def begun(name: str, folder: Path | None = None, conduct: Conduct | None = None, **more) -> Loop:
    """A loop from the newest state in `folder` on."""
    recipe, _ = RECIPES[name]
    options = options_of(name, **more)
    state = None if folder is None else keeper(folder).latest(IDENTITY)
    return Loop(recipe, options, recipe.data(options, None), conduct or Conduct(), state)


def keeper(folder: Path) -> Checkpoints:
    return Checkpoints(folder, FileSystem())


def whole(name: str, conduct: Conduct | None = None, **more) -> Loop:
    loop = begun(name, None, conduct, **more)
    loop.run(None, IDENTITY)
    return loop


def leave_after(calls: int):
    """A check that raises at that call."""
    left = iter(range(calls))

    def check():
        if next(left, None) is None:
            raise InterruptedWork

    return check


def interrupted(name: str, folder: Path, moments, conduct: Conduct | None = None, **more) -> Loop:
    """Left at each of these calls of check in turn, each time gone on with in a new loop, then brought to its end."""
    for moment in moments:
        loop = begun(name, folder, conduct, **more)
        try:
            loop.run(keeper(folder), IDENTITY, leave_after(moment))
        except InterruptedWork:
            continue
        break
    loop = begun(name, folder, conduct, **more)
    loop.run(keeper(folder), IDENTITY)
    return loop


def facts_of(loop: Loop) -> dict:
    """Every number of a state, by a path of names."""
    found = {}

    def walk(value, path):
        if isinstance(value, dict):
            for name, inner in value.items():
                walk(inner, f"{path}/{name}")
        elif isinstance(value, list | tuple):
            for number, inner in enumerate(value):
                walk(inner, f"{path}/{number}")
        elif isinstance(value, torch.Tensor):
            found[path] = (tuple(value.shape), str(value.dtype), value.detach().contiguous().flatten().numpy().tobytes())
        else:
            found[path] = value

    state = loop.state()
    walk({**state, "progress": json.loads(state["progress"])}, "")
    return found
