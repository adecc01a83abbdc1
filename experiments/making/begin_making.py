"""Begins a making: tries the user's file out, keeps it, and says what is to be queued."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from headstart.experiments.training.options import CheckedOptions, as_values, option_files, sha256_of_file
from headstart.pipeline import paths
from headstart.pipeline.doors.code import read_code, said_by
from headstart.pipeline.enqueue import Work
from headstart.pipeline.errors import HeadstartError, InterruptedWork, TryLaterError
from headstart.pipeline.workspace import Workspace

from .columns import as_columns
from .kind_file import ItemKind, Maker, counted, items_a_job, open_maker
from .making import CODE_FOLDER, MADE_FILE, MAKING_KIND, Making, encode_making

_TRIED = 3  # items, until one can be made


def begin_making(workspace: Workspace, kind: ItemKind, file: Path, options: CheckedOptions) -> tuple[Making, Work]:
    """Writes down what is made, with its source; and what is to be queued for it. Doing it again changes nothing.

    Args: file: its user allowed it.

    Raises: HeadstartError if the kind fails, says no items, or makes an item in other bytes each time.
    """
    count, names = counted(kind, options)
    inputs = {option: sha256_of_file(path) for option, path in option_files(options).items()}
    values = as_values(replace(options, **{name: path.absolute() for name, path in option_files(options).items()}))
    code = read_code(file)
    making = Making(file.name, code.digest, values, inputs, count, names)
    folder = making.folder(workspace)
    if not paths.exists(folder / MADE_FILE):
        _try_out(open_maker(kind, options), making)
    workspace.make_folder(folder / CODE_FOLDER)
    for name, data in code.files:
        workspace.files.replace(folder / CODE_FOLDER / name, data)
    workspace.files.replace(folder / MADE_FILE, encode_making(making))  # last: without it nothing was begun
    relative = workspace.relative(folder)
    return making, Work(MAKING_KIND, relative, relative, count, items_a_job(kind))


def _try_out(maker: Maker, making: Making) -> None:
    """Raises: HeadstartError unless one of the first items can be made, and twice in the same bytes."""
    first: Exception | None = None
    for number in range(min(_TRIED, making.count)):
        try:
            one, other = (as_columns([number], [maker.make(making.item(number))]) for _ in range(2))
        except (HeadstartError, TryLaterError, InterruptedWork, MemoryError):
            raise
        except Exception as error:
            first = first or error
            continue
        if any(one[name].tobytes() != other[name].tobytes() for name in one):
            raise HeadstartError(
                f"make() gives item {number} other bytes each time. Draw from np.random.default_rng((options.seed, item.number)) "
                "alone, and leave out what the clock says"
            )
        return
    assert first is not None
    raise HeadstartError(f"make() failed for the first items: {said_by(first)}. Mend the file, then run the same command again")
