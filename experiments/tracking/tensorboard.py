"""A training's numbers in TensorBoard, by torch's writer and TensorBoard's own reader, under the names that people know."""

from __future__ import annotations

import contextlib
import re
import stat
import time
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from headstart.pipeline import paths
from headstart.pipeline.doors import reading
from headstart.pipeline.errors import HeadstartError

from .confusion import CONFUSION, confusion_due

if TYPE_CHECKING:
    from headstart.experiments.training.loop import Loop, Taken

BATCH_SCALARS = {"loss": "Train/BatchLoss", "accuracy": "Train/BatchAcc", "gradient_norm": "Train/GradientNorm"}
EPOCH_SCALARS = {"loss": "Loss", "accuracy": "Acc"}
_SECOND = re.compile(r"events\.out\.tfevents\.(\d{1,12})\.")
_WAITED_S = 2


class TensorBoard:
    """Writes scalars by optimizer step. What an earlier process wrote is not written again: a resumed training repeats it."""

    def __init__(self, folder: Path) -> None:
        """Raises: HeadstartError if TensorBoard is not installed, the folder cannot be written or holds what is no file of it."""
        _require_plain(folder)
        try:
            from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
            from torch.utils.tensorboard import SummaryWriter
        except ImportError:
            raise HeadstartError("--tensorboard needs TensorBoard. Install it: pip install 'headstart[tensorboard]'") from None
        self._written: dict[str, int] = {}
        try:
            if folder.is_dir():
                before = EventAccumulator(str(folder), size_guidance={"scalars": 0, "images": 0})
                before.Reload()
                tags = before.Tags()
                self._written = {tag: before.Scalars(tag)[-1].step for tag in tags["scalars"]}
                self._written |= {tag: before.Images(tag)[-1].step for tag in tags["images"]}
            _wait_for_a_later_name(folder)
            self._writer: Any = SummaryWriter(str(folder))
        except OSError as error:
            raise HeadstartError(f"TensorBoard cannot write {folder}: {error.strerror or error}") from None

    def began(self, step: int, steps: int) -> None:
        """Nothing to write."""

    def stepped(self, taken: Taken) -> None:
        for name, value in taken.numbers.items():
            self._scalar(BATCH_SCALARS.get(name, f"Train/{name}"), value, taken.step)

    def judged(self, entry: Mapping[str, Any], loop: Loop) -> None:
        step = entry["step"]
        for split, word in (("train", "Train"), ("val", "Val")):
            for name, value in entry[split].items():
                if value is not None:
                    self._scalar(f"Epoch/{word}{EPOCH_SCALARS.get(name, f'/{name}')}", value, step)
        self._scalar("Epoch/LearningRate", entry["learning_rate"], step)
        pixels = confusion_due(loop)
        if pixels is not None and self._is_new(CONFUSION, step):
            self._writer.add_image(CONFUSION, pixels, step, dataformats="HW")

    def saving(self, step: int) -> None:
        self._writer.flush()  # it holds numbers back for seconds, and those that a kill took would never come again

    def saved(self, step: int) -> None:
        """Nothing is held back."""

    def ended(self, folder: Path) -> None:
        self._writer.close()

    def _scalar(self, tag: str, value: float, step: int) -> None:
        if self._is_new(tag, step):
            self._writer.add_scalar(tag, value, step)

    def _is_new(self, tag: str, step: int) -> bool:
        if step <= self._written.get(tag, -1):
            return False
        self._written[tag] = step
        return True


def _wait_for_a_later_name(folder: Path) -> None:
    """TensorBoard reads files in the order of their names, which begin with a second: those of one second in any order."""
    names = [_SECOND.match(name) for name in paths.names(folder)] if folder.is_dir() else []
    newest = max((int(name[1]) for name in names if name is not None), default=0)
    while newest - _WAITED_S <= int(time.time()) <= newest:  # a clock that was set back further holds nobody up
        time.sleep(0.01)


def _require_plain(folder: Path) -> None:
    """TensorBoard opens by name whatever lies there: a link would lead it out of the workspace, a pipe would keep it waiting."""
    with contextlib.suppress(FileNotFoundError):
        try:
            for path in paths.walk(folder):
                facts = paths.stat(path)
                if not stat.S_ISDIR(facts.st_mode):
                    reading.require_file(facts, path)
        except HeadstartError as error:
            raise HeadstartError(f"TensorBoard cannot write {folder}: {error}") from None
