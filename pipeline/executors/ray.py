"""Workers as actors of a Ray cluster, detached: each runs one `headstart work` and is gone when it ends. Nothing else knows Ray.

Needs the extra: pip install 'headstart[ray]', here and on the nodes.
"""

from __future__ import annotations

import os
import time
from typing import Any

from headstart.pipeline.errors import HeadstartError, TryLaterError
from headstart.pipeline.executor import Launch, worker_environment
from headstart.pipeline.stop import LEAVE_S
from headstart.pipeline.workspace import Workspace

_POLL_S = 0.2
_INSTALL = "Install it, here and on the nodes: pip install 'headstart[ray]'"


def open_executor(workspace: Workspace, launch: Launch) -> RayActors:
    return RayActors(workspace, launch)


class RayActors:
    """Actors in a name space of the launch's name: the cluster keeps their list, and who is dead is not in it."""

    poll_s = 2.0

    def __init__(self, workspace: Workspace, launch: Launch) -> None:
        self.workspace = workspace
        self.launch = launch
        self.script = f"#!/bin/sh\n# What each worker runs, in the workspace's folder.\n{launch.command}\n"
        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # nobody is told that somebody uses it
        try:
            import ray
        except ImportError:
            raise HeadstartError(f"there is no Ray here. {_INSTALL}") from None
        self._ray = ray
        self._connect()

    def start(self, count: int) -> None:
        logs = self.workspace.relative(self.workspace.launch_folder(self.launch.on))
        actor = self._ray.remote(_worker_class())
        for _ in range(count):
            name = f"worker_{os.urandom(4).hex()}"
            options = actor.options(
                name=name, lifetime="detached", num_cpus=1, num_gpus=self.launch.gpus_per_worker, max_restarts=0
            )
            self._answered(
                options.remote, self.launch.command, str(self.workspace.root), worker_environment(), f"{logs}/{name}.log", LEAVE_S
            )

    def running(self) -> int:
        return len(self._names())

    def stop(self) -> int:
        actors = [self._actor(name) for name in self._names()]
        asked = [actor.leave.remote() for actor in actors if actor is not None]
        self._ray.wait(asked, num_returns=len(asked), timeout=LEAVE_S + 5.0) if asked else None
        end = time.monotonic() + LEAVE_S
        while names := self._names():
            for actor in filter(None, map(self._actor, names)):
                self._ray.kill(actor)
            if time.monotonic() > end:
                break
            time.sleep(_POLL_S)
        return len(names)

    def _names(self) -> list[str]:
        listed = self._answered(self._ray.util.list_named_actors)
        return [str(name) for name in listed]

    def _actor(self, name: str) -> Any:
        try:
            return self._ray.get_actor(name)
        except ValueError:  # gone since
            return None

    def _connect(self) -> None:
        if self._ray.is_initialized():
            if self._ray.get_runtime_context().namespace == self.launch.name:
                return
            self._ray.shutdown()
        try:
            self._ray.init(
                address=os.environ.get("RAY_ADDRESS", "auto"),
                namespace=self.launch.name,
                log_to_driver=False,
                configure_logging=False,
            )
        except ConnectionError:
            raise HeadstartError(
                "no Ray cluster answers here. Start one (ray start --head), or name it: RAY_ADDRESS=HOST:6379"
            ) from None

    def _answered(self, call: Any, *arguments: Any) -> Any:
        try:
            return call(*arguments)
        except (self._ray.exceptions.RaySystemError, self._ray.exceptions.RpcError, ConnectionError) as error:
            raise TryLaterError(f"ray: {str(error).splitlines()[0][:200]}") from None


def _worker_class() -> type:
    """Made in a function, so that Ray sends it by value: what it needs from this code, the node's own installation has."""

    class Worker:
        """One worker as a child process that dies with the actor; when it ends by itself, the actor does, too."""

        def __init__(self, command: str, folder: str, environment: dict[str, str], log: str, leave_s: float) -> None:
            import functools
            import os
            import threading
            from pathlib import Path

            from headstart.pipeline.child import follow_parent
            from headstart.pipeline.executor import start_worker

            before = functools.partial(follow_parent, os.getpid(), False)
            self._leave_s = leave_s
            self._process = start_worker(command, Path(folder), environment, Path(folder, log), before)
            threading.Thread(target=self._end, daemon=True).start()

        def leave(self) -> None:
            self._process.terminate()
            self._process.wait(self._leave_s)

        def _end(self) -> None:
            import os

            self._process.wait()
            os._exit(0)

    return Worker
