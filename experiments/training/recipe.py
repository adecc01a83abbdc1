"""What a recipe is: one file that says what is particular about a training, in functions that are found by their names.

A recipe never says a loop, a device, a checkpoint, a file name or a log: `loop` owns these.
"""

from __future__ import annotations

import ast
import io
import pkgutil
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, cast

from headstart.pipeline.doors.code import Code, allow_named, run_code, said_by
from headstart.pipeline.errors import HeadstartError, TryLaterError
from headstart.pipeline.portable_names import portable_name

from .options import RecipeOptions, SampleOptions, fields_of, nearest, options_from

if TYPE_CHECKING:
    from torch import Tensor, nn

    from headstart.experiments.training.data.batch import Batch, Facts, Step
    from headstart.experiments.training.data.sets import Splits
    from headstart.experiments.training.judging.evaluation import Batches
    from headstart.experiments.training.judging.metrics import Metric, Table
    from headstart.pipeline.enqueue import Work
    from headstart.pipeline.workspace import Workspace

    from .optimizer import Group
    from .plan import Way

PACKAGE = "headstart.experiments.recipes"


class Recipe(Protocol):
    """What every recipe has. The first line of its docstring is what `train --list` says of it."""

    Options: type[RecipeOptions]

    def data(self, options: Any, workspace: Workspace) -> Splits:
        """What to learn from and to be judged on; also what the model must know of it. The same for the same options."""

    def model(self, options: Any, about: Facts) -> nn.Module:
        """A network on the CPU, its first weights drawn from torch's generator, which is seeded.

        Args: about: what `data` said in `Splits.about`: a trained model is built again from this, without its data.
        """

    def loss(self, model: Any, batch: Batch, step: Step) -> Tensor | tuple[Tensor, Mapping[str, Any]]:
        """What is minimized, a mean over the rows of the batch; and numbers to log, likewise means."""

    def evaluate(self, model: Any, batches: Batches) -> Iterable[Metric | Table]:
        """Numbers of a split. Validation is judged by the first, or by the one that says so."""


class Grouping(Protocol):
    """May be there: which weights are trained, and how fast."""

    def groups(self, model: Any, options: Any) -> Sequence[Group]:
        """What is in no group is frozen, its statistics included."""


class Needing(Protocol):
    """May be there: jobs whose results the data is read from."""

    def needs(self, options: Any, workspace: Workspace) -> Sequence[Work]:
        """What is to be queued and done before the training; what is done already costs nothing."""


class Planning(Protocol):
    """May be there, where there are several ways to train: what each will take."""

    def plan(self, options: Any, workspace: Workspace) -> Sequence[Way]:
        """Tried on a few rows; said before a training begins, and by `train --dry-run`."""


class Starting(Protocol):
    """May be there: first weights that are not drawn, such as pretrained ones."""

    def start(self, model: Any, options: Any, about: Facts, workspace: Workspace) -> None:
        """Puts them into the model; called once, when the training begins. What they are must be part of options or `about`."""


class Showing(Protocol):
    """May be there: what to see of the best model, at the end."""

    def show(self, model: Any, batches: Batches) -> Iterator[tuple[str, Any]]:
        """Names and pictures (PIL), text, or bytes with a suffix in the name; `batches` are those of the test split."""


class Sampling(Protocol):
    """May be there: what the model makes when it is asked to, for `headstart sample`."""

    Sampling: type[SampleOptions]

    def sample(self, model: Any, wanted: Any, options: Any, about: Facts) -> Iterator[tuple[str, Any]]:
        """Names and what is to be written there: as in `show`. Args: wanted: an instance of `Sampling`."""


class Predicting(Protocol):
    """May be there: what the model says of new files, for `headstart predict`."""

    def predict(self, model: Any, files: Sequence[Path], options: Any, about: Facts) -> Iterator[Mapping[str, Any]]:
        """What it says of each, in order, ready for JSON; `error` instead if it cannot be read.

        Args: about: what the data said, and `workspace`, the folder in which the training lies now.
        """


class Exporting(Protocol):
    """May be there: what one call of the model takes, for `headstart export`."""

    def example(self, options: Any, about: Facts) -> tuple[Any, ...]:
        """Arguments of `model(...)`, of two rows."""


class Reducing(Protocol):
    """May be there, where more is trained than answers: what is exported."""

    def exported(self, model: Any, options: Any) -> nn.Module:
        """Called with what `example` gives, it answers as `model` does."""


def named_file(function: str, name: str, value: Any) -> tuple[str, bytes]:
    """What a recipe's `show` or `sample` yields, as a file: text and pictures (PIL) get their suffix, bytes have it in the name.

    A name that not every system lets be becomes one that is like it: it may be that of a user's column, and it is asked for when
    hours are spent.

    Raises: HeadstartError if there is no name.
    """
    if not name:
        raise HeadstartError(f"{function}() gives something no name. Yield a name and what belongs to it")
    if isinstance(value, bytes):
        return portable_name(name), value
    if isinstance(value, str):
        return portable_name(f"{name}.txt"), value.encode()
    buffer = io.BytesIO()
    value.save(buffer, "PNG")
    return portable_name(f"{name}.png"), buffer.getvalue()


def has(recipe: Recipe, name: str) -> bool:
    return callable(getattr(recipe, name, None))


def known_recipes() -> dict[str, str]:
    """Recipes of this installation by name, with the first line of what each says about itself. None is run for it."""
    recipes = {}
    for folder in import_module(PACKAGE).__path__:
        for module in pkgutil.iter_modules([folder]):
            if not module.ispkg:
                path = Path(folder) / f"{module.name}.py"
                said = ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or ""
                recipes[module.name] = said.partition("\n")[0]
    return recipes


def recipe_path(name: str) -> Path:
    """The file of one of these. Raises: HeadstartError that offers the nearest name."""
    for folder in import_module(PACKAGE).__path__:
        path = Path(folder) / f"{name}.py"
        if name.isidentifier() and path.is_file():
            return path
    raise HeadstartError(f"there is no recipe '{name}'; {nearest(name, sorted(known_recipes()))} A file of your own: ./mine.py")


@dataclass(frozen=True)
class NamedRecipe:
    """A recipe, and the file that it stands in."""

    recipe: Recipe
    file: Path


def named_recipe(name: str) -> NamedRecipe:
    """A recipe of this installation by its name, or a user's file, which is allowed to run because its user names it.

    Raises: HeadstartError if there is none, or it lacks something.
    """
    if not name.endswith(".py"):
        return NamedRecipe(load_recipe(name), recipe_path(name))
    try:
        code = allow_named(name)
    except HeadstartError as error:
        raise HeadstartError(f"{error}. A recipe is a name of headstart train --list, or a file of your own") from None
    return NamedRecipe(load_recipe_file(code), code.path)


def load_recipe(name: str) -> Recipe:
    """A recipe of this installation. Raises: HeadstartError if there is none of that name, or it lacks something."""
    recipe_path(name)
    return checked_recipe(import_module(f"{PACKAGE}.{name}"), name)


def load_recipe_file(code: Code) -> Recipe:
    """A user's recipe: runs the file, so whoever calls this has asked whether it may run.

    Raises: HeadstartError in one line if it raises or lacks something.
    """
    return checked_recipe(run_code(code), str(code.path))


def checked_recipe(module: Any, name: str) -> Recipe:
    """A loaded module as a recipe. Raises: HeadstartError if it lacks something."""
    if not hasattr(module, "Options"):
        module.Options = RecipeOptions
    lacking = [wanted for wanted in ("data", "model", "loss", "evaluate") if not callable(getattr(module, wanted, None))]
    if lacking:
        raise HeadstartError(f"recipe {name} has no function {', '.join(lacking)}. See docs/recipes.md for what a recipe says")
    if not (isinstance(module.Options, type) and issubclass(module.Options, RecipeOptions)):
        raise HeadstartError(f"recipe {name}: Options is no subclass of RecipeOptions. Write: class Options(RecipeOptions)")
    _check_presets(module.Options, name)
    return cast(Recipe, module)


def _check_presets(options: type[RecipeOptions], name: str) -> None:
    presets = options.PRESETS
    if not isinstance(presets, Mapping) or not all(isinstance(values, Mapping) for values in presets.values()):
        raise HeadstartError(f"recipe {name}: PRESETS is {presets!r}, expected options by name: {{'fast': {{'epochs': 5}}}}")
    if presets and any(field.name == "preset" for field in fields_of(options)):
        raise HeadstartError(f"recipe {name}: an option called preset does not go with PRESETS. Give it another name")
    for preset, values in presets.items():
        options_from(options, values, f"recipe {name}, preset {preset}")


class _Asking:
    """Turns what a recipe's function raises into one line that names the function."""

    def __init__(self, what: str) -> None:
        self._what = what

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: Any, error: BaseException | None, trace: Any) -> None:
        from headstart.features.devices import is_out_of_memory
        from headstart.pipeline.errors import InterruptedWork

        if error is None or not isinstance(error, Exception):
            return
        if isinstance(error, HeadstartError | TryLaterError | InterruptedWork) or is_out_of_memory(error):
            return
        raise HeadstartError(
            f"the recipe's {self._what}() failed: {said_by(error, PACKAGE)}. Mend it, then run the same command again"
        ) from error


def asking(what: str) -> _Asking:
    """Within it runs a function of a recipe: what it raises becomes one line. Memory that ran out passes as it is."""
    return _Asking(what)
