"""A Slurm cluster on this one machine: a controller and three nodes, each a `slurmd -N` of its own.

What is missing is installed where that can be done (root, apt); else `missing()` says what.
"""

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import time
from pathlib import Path

PROGRAMS = ("munged", "slurmctld", "slurmd", "sbatch", "squeue", "scancel", "scontrol")
NODES = 3
_INSTALL = "apt-get install -y --no-install-recommends slurmctld slurmd slurm-client munge"
_STARTED_S = 60.0


def missing() -> str:
    """Why there can be no cluster here, '' if there can."""
    if os.geteuid() != 0:
        return "slurmctld and munged of a test need root"
    if not _absent():
        return ""
    if shutil.which("apt-get") is None:
        return f"no {_absent()[0]}, and no apt-get to install it with"
    for command in (["apt-get", "update"], _INSTALL.split()):
        # Debian starts its services at once where it can; none is wanted here.
        done = subprocess.run(command, capture_output=True, check=False, env={**os.environ, "DEBIAN_FRONTEND": "noninteractive"})
        if done.returncode:
            return f"{' '.join(command[:2])} failed, so there is no {_absent()[0]}"
    return f"{_absent()[0]} is not there after it was installed" if _absent() else ""


def _absent() -> list[str]:
    return [program for program in PROGRAMS if shutil.which(program, path=f"{os.environ['PATH']}:/usr/sbin:/sbin") is None]


def _free_ports(count: int) -> list[int]:
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        return [each.getsockname()[1] for each in sockets]


class Cluster:
    """A context manager. Every file of it lies in `folder`, every process is known by its number."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.conf = folder / "slurm.conf"
        self.daemons: dict[str, subprocess.Popen] = {}

    def __enter__(self):
        host = socket.gethostname().split(".")[0]
        ports = _free_ports(NODES + 1)
        key = self.folder / "munge.key"
        key.write_bytes(os.urandom(128))
        key.chmod(0o400)
        for name in ("state", "spool", "munge"):
            (self.folder / name).mkdir()
        self.folder.chmod(0o755)
        lines = [
            "ClusterName=headstart",
            f"SlurmctldHost={host}(127.0.0.1)",
            f"SlurmctldPort={ports[0]}",
            "SlurmUser=root",
            "AuthType=auth/munge",
            f"AuthInfo=socket={self.folder}/munge/socket,cred_expire=5",
            "CredType=cred/munge",
            f"StateSaveLocation={self.folder}/state",
            f"SlurmdSpoolDir={self.folder}/spool/%n",
            f"SlurmctldPidFile={self.folder}/slurmctld.pid",
            f"SlurmdPidFile={self.folder}/slurmd.%n.pid",
            "ProctrackType=proctrack/pgid",
            "TaskPlugin=task/none",
            "MpiDefault=none",
            "SelectType=select/cons_tres",
            "SelectTypeParameters=CR_Core",
            "SlurmdTimeout=5",
            "MessageTimeout=3",
            "SlurmctldTimeout=5",
            "KillWait=5",
            "InactiveLimit=0",
            "ReturnToService=2",
            "MaxArraySize=1001",
            "MinJobAge=5",
            "JobRequeue=0",
            "SchedulerParameters=sched_interval=1,sched_min_interval=0,batch_sched_delay=0",
            *(
                f"NodeName=n{number} NodeHostname={host} NodeAddr=127.0.0.1 Port={ports[number + 1]} CPUs=2 RealMemory=500"
                for number in range(NODES)
            ),
            f"PartitionName=all Nodes=n[0-{NODES - 1}] Default=YES MaxTime=INFINITE State=UP",
        ]
        self.conf.write_text("\n".join(lines) + "\n")
        os.environ["SLURM_CONF"] = str(self.conf)
        munge = ["munged", "--foreground", "--force", f"--key-file={key}", f"--socket={self.folder}/munge/socket"]
        munge += [f"--{name}-file={self.folder}/munge/{name}" for name in ("pid", "seed", "log")]
        self._run("munged", munge)
        self._wait((self.folder / "munge/socket").exists, "munged")
        self.start_controller()
        for number in range(NODES):
            self.start_node(number)
        self._wait(lambda: self.ask("sinfo", "-h", "-o", "%t %D").strip() == f"idle {NODES}", "the nodes")
        return self

    def __exit__(self, *_):
        if "slurmctld" in self.daemons:
            subprocess.run(["scancel", "--user=root"], capture_output=True, timeout=10, check=False)
        for name in list(self.daemons):
            self.kill(name)
        for pid in self.steps():
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        os.environ.pop("SLURM_CONF", None)

    def start_controller(self) -> None:
        self._run("slurmctld", ["slurmctld", "-D", "-f", str(self.conf), "-L", str(self.folder / "slurmctld.log")])

    def start_node(self, number: int) -> None:
        log = self.folder / f"n{number}.log"
        self._run(f"n{number}", ["slurmd", "-D", "-N", f"n{number}", "-f", str(self.conf), "-L", str(log)])

    def kill(self, name: str) -> None:
        """A daemon, at once."""
        process = self.daemons.pop(name)
        process.kill()
        process.wait()

    def kill_node(self, number: int) -> None:
        """All of a node, as a power cut does it: its daemon, and what it started."""
        self.kill(f"n{number}")
        for pid in self.steps(number):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)

    def steps(self, number: int | None = None) -> list[int]:
        """Processes of this cluster's tasks, on one node or all, with the `slurmstepd` above each."""
        import psutil

        found: set[int] = set()
        for process in psutil.process_iter():
            with contextlib.suppress(psutil.Error, OSError):
                environment = process.environ()
                node = environment.get("SLURMD_NODENAME")
                if environment.get("SLURM_CONF") != str(self.conf) or node is None or number not in (None, int(node[1:])):
                    continue
                found.add(process.pid)
                found |= {above.pid for above in process.parents() if "slurmstepd" in " ".join([above.name(), *above.cmdline()])}
        return sorted(found)

    def ask(self, *command: str) -> str:
        return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False).stdout

    def queue(self) -> list[str]:
        """Tasks that the controller still knows of, with their states."""
        return self.ask("squeue", "--array", "-h", "-o", "%i %T %j").splitlines()

    def _run(self, name: str, command: list[str]) -> None:
        path = f"{os.environ['PATH']}:/usr/sbin:/sbin"
        program = shutil.which(command[0], path=path)
        with (self.folder / f"{name}.out").open("ab") as out:
            self.daemons[name] = subprocess.Popen([program, *command[1:]], stdout=out, stderr=out, stdin=subprocess.DEVNULL)

    def _wait(self, is_there, what: str) -> None:
        end = time.monotonic() + _STARTED_S
        while not is_there():
            if time.monotonic() > end:
                said = "".join(path.read_text(errors="replace")[-600:] for path in self.folder.glob("*.out"))
                raise TimeoutError(f"{what} did not come up: {said}")
            time.sleep(0.1)
