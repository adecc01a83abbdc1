"""What a workspace takes on disk, and what of it can go without loss. Imports no numpy."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from headstart.pipeline import paths
from headstart.pipeline.claims import live_workers
from headstart.pipeline.errors import HeadstartError
from headstart.pipeline.files import environment_faults
from headstart.pipeline.kinds import Fingerprints, known_kinds
from headstart.pipeline.markers import NotDone, read_marker
from headstart.pipeline.queue import Reader
from headstart.pipeline.retire import REMOVED
from headstart.pipeline.verify import sweep, verify
from headstart.pipeline.workspace import Workspace

from .experiment import experiment_folders
from .removal import finish_removals, job_files, leftover_bytes, unfinished_removals


@dataclass(frozen=True)
class Usage:
    """Bytes of one thing; `derived_bytes` of them come back by themselves when they are needed."""

    what: str
    total_bytes: int
    derived_bytes: int = 0


@dataclass(frozen=True)
class Spent:
    """What can go.

    Attributes:
        checkpoints: states of trainings that are finished.
        caches: packed features, none while a worker is alive: it may be reading them.
        leftovers: files that nobody needs.
        removals: begun and not ended.
    """

    checkpoints: tuple[Path, ...]
    caches: tuple[Path, ...]
    leftovers: tuple[Path, ...]
    removals: tuple[str, ...]
    leftover_bytes: int

    @property
    def parts(self) -> dict[str, int]:
        """Bytes of each sort."""
        return {
            "states of finished trainings": sum(map(paths.tree_bytes, self.checkpoints)),
            "packed features": sum(map(paths.tree_bytes, self.caches)),
            "leftovers": sum(map(paths.tree_bytes, self.leftovers)) + self.leftover_bytes,
        }

    @property
    def size_bytes(self) -> int:
        return sum(self.parts.values())

    @property
    def is_nothing(self) -> bool:
        return not self.removals and not self.size_bytes


def usage(workspace: Workspace) -> list[Usage]:
    """The largest first."""
    parts = []
    for encoder in paths.folders(workspace.features, "encoder_*"):
        parts.append(Usage(workspace.relative(encoder), paths.tree_bytes(encoder), paths.tree_bytes(workspace.cache(encoder))))
    for folder in [one for name in ("activations", "made", "patches") for one in paths.folders(workspace.features, f"{name}_*")]:
        parts.append(Usage(workspace.relative(folder), paths.tree_bytes(folder)))
    spent = {path: paths.tree_bytes(path) for path in spent_checkpoints(workspace)}
    for folder in experiment_folders(workspace):
        states = sum(size for path, size in spent.items() if path.is_relative_to(folder))
        parts.append(Usage(workspace.relative(folder), paths.tree_bytes(folder), states))
    for folder in paths.matching(workspace.manifests, "*"):
        parts.append(Usage(workspace.relative(folder), paths.tree_bytes(folder)))
    parts.append(Usage("experiments.db", sum(map(paths.tree_bytes, paths.matching(workspace.experiments, "experiments.db*")))))
    parts.append(Usage("removed, not deleted yet", leftover_bytes(workspace)))
    known = sum(part.total_bytes for part in parts)
    parts.append(Usage("queue and everything else", max(0, paths.tree_bytes(workspace.root) - known)))
    return sorted((part for part in parts if part.total_bytes), key=lambda part: -part.total_bytes)


def spent_checkpoints(workspace: Workspace) -> list[Path]:
    """States of finished trainings: what evaluates, reports or predicts needs the heads alone."""
    spent_states: list[Path] = []
    fingerprints = Fingerprints(workspace)
    for job in Reader(workspace, known_kinds()):
        folder = workspace.folder(job)
        states = list(paths.matching(folder, "checkpoints/step_*.pt")) if folder.parent == workspace.experiments else []
        if states:
            with contextlib.suppress(NotDone, HeadstartError):
                read_marker(workspace, job, fingerprints.of(job))
                spent_states += states
    return spent_states


def spent(workspace: Workspace, keep_caches: bool = False) -> Spent:
    """Looks, and changes nothing. Args: keep_caches: packed features stay."""
    is_kept = keep_caches or bool(live_workers(workspace))
    caches = () if is_kept else tuple(paths.folders(workspace.features, "encoder_*/cache"))
    return Spent(
        checkpoints=tuple(spent_checkpoints(workspace)),
        caches=caches,
        leftovers=tuple({*verify(workspace).orphans, *_of_removed_jobs(workspace), *_strips(workspace)}),
        removals=tuple(unfinished_removals(workspace)),
        leftover_bytes=leftover_bytes(workspace),
    )


def clean(workspace: Workspace, can_go: Spent) -> None:
    """Deletes it; killed anywhere, the next one goes on. Raises: TryLaterError if a worker holds what is to be removed."""
    for path in can_go.checkpoints:
        _unlink(path)
    for cache in can_go.caches:
        for part in paths.matching(cache, "part_*.h5"):  # the lock stays: whoever waits for it must not get another one
            _unlink(part)
    sweep(list(can_go.leftovers))
    finish_removals(workspace)


def _of_removed_jobs(workspace: Workspace) -> Iterator[Path]:
    """What a worker committed in the moment of its removal."""
    reader = Reader(workspace, known_kinds())
    for _ in reader:
        pass
    return job_files(workspace, [job for job, withdrawal in reader.withdrawn if withdrawal.state == REMOVED])


def _strips(workspace: Workspace) -> Iterator[Path]:
    """Of large images whose masks were never finished."""
    return paths.matching(workspace.experiments, "*/strips/*/part_*.npy")


def _unlink(path: Path) -> None:
    with environment_faults(f"cannot delete {path}"), contextlib.suppress(FileNotFoundError):
        paths.remove(path)
