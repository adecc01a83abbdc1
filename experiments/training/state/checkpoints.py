"""Checkpoints of a training: `step_0000001234.<sha16>.pt`, complete when they appear, verified when they are read.

A state is tensors and one string of JSON, loaded with `weights_only=True`: no file here can run code.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import re
import sys
from collections import OrderedDict
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from headstart.features.accelerators import place_again
from headstart.pipeline import paths
from headstart.pipeline.doors import reading
from headstart.pipeline.errors import HeadstartError
from headstart.pipeline.files import TEMPORARY_PREFIX, FileSystem, environment_faults, is_abandoned

_NAME = re.compile(r"step_(\d{10,})\.([0-9a-f]{16})\.pt")
_VERSIONED = re.compile(r"v(\d{1,4})-[0-9a-f]{64}\Z")
_DIGITS = 16
_KEPT = 5
State = dict[str, Any]


@dataclass(frozen=True)
class Checkpoints:
    """The last five states of one training; each also holds every head as it was at its best.

    Attributes:
        folder: made when the first state is kept.
        files: how its file system wants to be written to.
    """

    folder: Path
    files: FileSystem

    def latest(self, identity: str) -> State | None:
        """The newest state whose bytes are those that were written; None if there is none.

        Args:
            identity: of the training that wants to go on; 'v2-<sha256>' also says the version of what is computed.
                States of another version are deleted: nobody can go on with them, and they would take the place of new ones.

        Raises: HeadstartError if the state is of a training with other features, configurations or options.
        """
        for path in sorted(paths.matching(self.folder, "step_*.pt"), reverse=True):
            state = _read(path)
            if state is None:
                continue
            found = state.pop("identity")
            if _version(found) != _version(identity):
                with contextlib.suppress(OSError):
                    paths.remove(path)
                continue
            if found != identity:
                raise HeadstartError(
                    f"{path} is of a training with other features, configurations or options. "
                    "Give the new one another --name, or delete that folder"
                )
            return state
        return None

    def keep(self, step: int, identity: str, state: State) -> None:
        """Keeps `state`, durably, and the four before it; it takes the place of another one of its step.

        Raises: TryLaterError if the disk is full; the old ones stay.
        """
        import torch

        buffer = io.BytesIO()
        torch.save(_one_object_a_text({**state, "identity": identity}), buffer)
        data = buffer.getvalue()
        with environment_faults(f"cannot write {self.folder}"):
            self.files.make_folder(self.folder)
        path = self.folder / f"step_{step:010d}.{_digest(data)}.pt"
        if not self.files.publish(path, data) and _read(path) is None:
            self.files.replace(path, data)  # the same state, damaged since it was written
        for old in self._superfluous(path):
            with contextlib.suppress(OSError):
                paths.remove(old)

    def has_any(self) -> bool:
        """Whether a training was begun."""
        return next(paths.matching(self.folder, "step_*.pt"), None) is not None

    def keep_only_newest(self) -> None:
        """Frees the disk once a training is over; the last state stays, so that it can be judged again without training."""
        for old in sorted(paths.matching(self.folder, "step_*.pt"), reverse=True)[1:]:
            with contextlib.suppress(OSError):
                paths.remove(old)

    def _superfluous(self, newest: Path) -> Iterator[Path]:
        # Of the same step: it was kept before the evaluation that `newest` has. By name neither is the newer one, and whoever
        # went on from it evaluated again: with a time limit shorter than an evaluation, for ever.
        yield from (
            path for path in paths.matching(self.folder, f"{newest.name.partition('.')[0]}.*.pt") if path.name != newest.name
        )
        yield from sorted(paths.matching(self.folder, "step_*.pt"), reverse=True)[_KEPT:]
        # Whoever was killed while writing left up to a whole state.
        yield from (path for path in paths.matching(self.folder, f"{TEMPORARY_PREFIX}*") if is_abandoned(path))


def _version(identity: str) -> int:
    match = _VERSIONED.match(identity)
    return int(match[1]) if match else 1


def _one_object_a_text(value: Any) -> Any:
    """The same state in new containers, in which equal texts are one object and nothing else but tensors is shared.

    A pickle also tells what is one object in memory, and that is not the same after a resume as in one go.
    """
    if isinstance(value, str):
        return sys.intern(str(value))
    if isinstance(value, OrderedDict):
        result = OrderedDict((_one_object_a_text(key), _one_object_a_text(each)) for key, each in value.items())
        vars(result).update(_one_object_a_text(vars(value)))  # a module's versions
        return result
    if isinstance(value, dict):
        return {_one_object_a_text(key): _one_object_a_text(each) for key, each in value.items()}
    if isinstance(value, (list, tuple)):
        return type(value)([_one_object_a_text(each) for each in value])
    return value


def _digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()[:_DIGITS]


def _read(path: Path) -> State | None:
    import torch

    match = _NAME.fullmatch(path.name)
    try:
        with environment_faults(f"cannot read {path}"), reading.opened(path, reading.WEIGHTS_BYTES) as file:
            # In small pieces, and then straight into its tensors: new memory would cost more than to read the file twice.
            if match is None or hashlib.file_digest(file, "sha256").hexdigest()[:_DIGITS] != match[2]:
                return None
            file.seek(0)
            state: State = torch.load(file, weights_only=True, map_location=place_again)
            return state
    except (OSError, HeadstartError):
        return None


class Keeper(Protocol):
    """Where states of a training go; `Checkpoints` is one."""

    def latest(self, identity: str) -> State | None:
        """The last complete state. Raises: HeadstartError if it is of another training."""

    def keep(self, step: int, identity: str, state: State) -> None: ...
