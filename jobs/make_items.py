"""Kind `make_items`: items in a row become what a user's file makes of each, as one NPZ; one that fails costs nothing else."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from headstart.pipeline.job import Job
from headstart.pipeline.kinds import Settings
from headstart.pipeline.markers import FailedItem, Result
from headstart.pipeline.workspace import Workspace

if TYPE_CHECKING:
    from headstart.experiments.making.kind_file import Item, Maker
    from headstart.experiments.making.making import Making


def fingerprint(workspace: Workspace, folder: str) -> str:
    """Of source, options and items; no code of the user's runs for it."""
    from headstart.experiments.making.making import read_making

    return read_making(workspace.root / folder).identity


def open_session(workspace: Workspace, job: Job, settings: Settings) -> MakeItemsSession:
    """Loads the user's file, if that was allowed. Raises: HeadstartError, and its jobs are left, if not."""
    from headstart.experiments.making.making import open_making, read_making

    folder = workspace.folder(job)
    making = read_making(folder)
    return MakeItemsSession(making, open_making(folder, making))


@dataclass(frozen=True)
class _Items:
    """What a job is to make, and why it leaves out what it leaves out."""

    items: tuple[Item, ...]
    killers: Mapping[int, str] = field(default_factory=dict)


class MakeItemsSession:
    """One making."""

    def __init__(self, making: Making, maker: Maker) -> None:
        self._making, self._maker = making, maker

    def prepare(self, job: Job) -> _Items:
        """Nothing is read ahead: what an item needs, `make` reads."""
        return self.prepare_without(job, {})

    def prepare_without(self, job: Job, killers: Mapping[int, str]) -> _Items:
        return _Items(tuple(map(self._making.item, range(job.start, job.stop))), killers)

    def examine(self, job: Job, item: int) -> None:
        self._made(self._making.item(item))

    def compute(self, prepared: _Items, check: Callable[[], None]) -> Result:
        """Item after item. Raises: MakingFailed if not one of them can be made, or they are no columns: the file is to blame."""
        from headstart.experiments.training.failure import MakingFailed
        from headstart.pipeline.errors import HeadstartError

        try:
            return self._result(prepared, check)
        except HeadstartError as error:
            raise MakingFailed(str(error)) from error

    def _result(self, prepared: _Items, check: Callable[[], None]) -> Result:
        from headstart.experiments.making.columns import as_columns
        from headstart.features.arrays import summary
        from headstart.features.store import shards
        from headstart.pipeline.errors import HeadstartError

        numbers, made, failed = [], [], []
        for item in prepared.items:
            check()
            if item.number in prepared.killers:
                failed.append(FailedItem(item.number, item.name, "killed", prepared.killers[item.number]))
                continue
            values = self._made(item)
            if isinstance(values, str):
                failed.append(FailedItem(item.number, item.name, "failed", values))
            else:
                numbers.append(item.number)
                made.append(values)
        if not made and not prepared.killers:
            raise HeadstartError(f"{self._making.file} makes none of these {len(failed)} items, the first: {failed[0].reason}")
        arrays = as_columns(numbers, made)
        return Result(shards.pack(arrays), shards.SUFFIX, summary(arrays), len(prepared.items), len(numbers), tuple(failed))

    def close(self) -> None:
        """Holds nothing but what the file opened."""

    def _made(self, item: Item) -> Mapping[str, Any] | str:
        """Its values, or why there are none."""
        from headstart.features.devices import is_out_of_memory
        from headstart.pipeline.doors.code import said_by
        from headstart.pipeline.errors import HeadstartError, InterruptedWork, TryLaterError, is_shortage

        try:
            return self._maker.make(item)
        except (HeadstartError, TryLaterError, InterruptedWork):
            raise
        except Exception as error:
            if is_out_of_memory(error) or is_shortage(error):  # the machine's fault, and not the item's
                raise
            return said_by(error)
