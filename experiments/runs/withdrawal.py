"""Pauses and cancels trainings, and lets them go on."""

from __future__ import annotations

from headstart.pipeline.enqueue import queue_lock
from headstart.pipeline.errors import HeadstartError
from headstart.pipeline.job import Job
from headstart.pipeline.kinds import known_kinds
from headstart.pipeline.queue import Reader
from headstart.pipeline.retire import REMOVED, withdraw
from headstart.pipeline.workspace import Workspace

from .experiment import is_finished_folder
from .removal import plan_experiment


def set_state(workspace: Workspace, asked: str, state: str) -> str:
    """Pauses, cancels or lets go on; returns the folder's name.

    Args:
        asked: as `plan_experiment` has it; state: PAUSED, CANCELLED or LIVE.

    Raises: HeadstartError if there is no such experiment, or it is finished.
    """
    removal = plan_experiment(workspace, asked).removal
    folder = workspace.root / removal.trees[0]
    if is_finished_folder(folder):
        raise HeadstartError(f"{folder.name} is finished, nothing of it waits. Its numbers: headstart runs")
    with queue_lock(workspace):
        withdraw(workspace, _jobs(workspace, removal.trees[0]), state, f"experiment {folder.name}")
    return folder.name


def _jobs(workspace: Workspace, folder: str) -> list[Job]:
    reader = Reader(workspace, known_kinds())
    live = [job for job in reader if job.folder == folder]
    return live + [job for job, withdrawal in reader.withdrawn if job.folder == folder and withdrawal.state != REMOVED]
