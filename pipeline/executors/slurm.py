"""Workers as tasks of Slurm job arrays: `sbatch` places them, `squeue` counts them by the launch's name, `scancel` ends them.

Nothing is asked of Slurm's accounting (`sacct`), which many clusters do not have: whether a job is done, its marker says.
"""

from __future__ import annotations

import math
import os
import time
from collections import Counter

from headstart.pipeline.doors import programs
from headstart.pipeline.executor import Launch, worker_environment
from headstart.pipeline.workspace import Workspace

_LARGEST_ARRAY = 1000  # Slurm's own MaxArraySize is 1001, and a larger array is refused as a whole
_LEAVING = {"COMPLETING"}  # ended, but Slurm still cleans up behind them: on a node that is lost for minutes
_GONE_S, _POLL_S = 60.0, 0.5
_HINT = "Run it where Slurm's commands are, or take --on local"


def open_executor(workspace: Workspace, launch: Launch) -> SlurmArrays:
    return SlurmArrays(workspace, launch)


class SlurmArrays:
    """Tasks of all arrays of the launch's name. Options of the cluster (account, partition) come from `SBATCH_...` variables."""

    poll_s = 5.0

    def __init__(self, workspace: Workspace, launch: Launch) -> None:
        self.workspace = workspace
        self.launch = launch
        self.script = _script(workspace, launch)
        self._sbatch, self._squeue, self._scancel = (programs.find(name, _HINT) for name in ("sbatch", "squeue", "scancel"))

    def start(self, count: int) -> None:
        environment = {**os.environ, **worker_environment()}
        while count > 0:
            tasks = min(count, _LARGEST_ARRAY)
            array = [self._sbatch, "--parsable", f"--array=0-{tasks - 1}", f"--export={','.join(worker_environment())}"]
            programs.ask(array, self.workspace.root, self.script, environment)
            count -= tasks

    def running(self) -> int:
        states = self._states()
        return states.total() - sum(states[state] for state in _LEAVING)

    def stop(self) -> int:
        end = time.monotonic() + _GONE_S
        while left := self._states().total():
            # Again and again: a controller that was away may bring a task back after it was told.
            programs.ask([self._scancel, f"--name={self.launch.name}"], self.workspace.root)
            if time.monotonic() > end:
                return left
            time.sleep(_POLL_S)
        return 0

    def _states(self) -> Counter[str]:
        listed = [self._squeue, f"--name={self.launch.name}", "--array", "--noheader", "--format=%T"]
        return Counter(programs.ask(listed, self.workspace.root).split())


def _script(workspace: Workspace, launch: Launch) -> str:
    logs = workspace.relative(workspace.launch_folder(launch.on))
    lines = [
        "#!/bin/sh",
        f"#SBATCH --job-name={launch.name}",
        f"#SBATCH --output={logs}/%A_%a.log",
        f"#SBATCH --time={math.ceil(launch.end_s / 60)}",
        *([f"#SBATCH --gres=gpu:{launch.gpus_per_worker}"] if launch.gpus_per_worker else []),
        "#SBATCH --no-requeue",
        "# What each worker runs, in the workspace's folder, where it is submitted.",
        "# A task that dies is replaced by the launch; Slurm's own requeue would make it two.",
        launch.command,
    ]
    return "\n".join(lines) + "\n"
