"""Every path of a workspace: no other module knows a file's name."""

import contextlib
import os
import stat
import sys
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path

from . import paths
from .doors.records import encode, read_record
from .errors import HeadstartError, TryLaterError
from .files import FileSystem, environment_faults, probe
from .job import Job

FORMAT = 1
WORKSPACE_FILE = "workspace.json"
BLOCKS = "blocks"  # folder among the claims of a group
SUMMARIES = "summaries"  # folder beside those of markers, payloads and claims
_MEND = "Delete that one file; the next enqueue writes it anew and keeps all features"


@dataclass(frozen=True)
class Workspace:
    """A folder that holds the queue, the features and the experiments of one user.

    Attributes:
        root: absolute path.
        id: random hex, so that two workspaces are never taken for one another.
        files: how this file system wants to be written to.
    """

    root: Path
    id: str
    files: FileSystem
    _durable: set[Path] = field(default_factory=set, compare=False, repr=False)

    @property
    def features(self) -> Path:
        return self.root / "features"

    @property
    def queue(self) -> Path:
        return self.features / "jobs_queue.csv"

    @property
    def queue_lock(self) -> Path:
        return self.features / "jobs_queue.lock"

    @property
    def withdrawn(self) -> Path:
        """Which jobs were paused, cancelled or removed."""
        return self.features / "jobs_withdrawn.csv"

    @property
    def removed(self) -> Path:
        """Where what was removed waits for its deletion: nobody looks for anything there."""
        return self.root / ".removed"

    @property
    def manifests(self) -> Path:
        return self.features / "manifests"

    @property
    def workers(self) -> Path:
        """One file a live worker: who it is; its modification time is the heartbeat."""
        return self.root / "workers"

    def launch_folder(self, on: str) -> Path:
        """What there is of the launch on one executor: its record, the script its workers run, their logs."""
        return self.root / "launches" / on

    def launch_record(self, on: str) -> Path:
        return self.launch_folder(on) / "launch.json"

    def launch_script(self, on: str) -> Path:
        """A copy to read: what runs is never taken from here."""
        return self.launch_folder(on) / "worker.sh"

    @property
    def experiments(self) -> Path:
        return self.root / "experiments"

    @property
    def database(self) -> Path:
        return self.experiments / "experiments.db"

    def cache(self, encoder_folder: Path) -> Path:
        """Packed features of one encoder: derived, may be deleted at any time."""
        return encoder_folder / "cache"

    def require(self) -> None:
        """Raises TryLaterError if the workspace is gone: nothing may be written where a mount was, and no job is to blame."""
        if not has_workspace(self.root):
            raise TryLaterError(
                f"{self.root / WORKSPACE_FILE} is gone. Check the disk or mount, then run the same command again."
            )

    def make_folder(self, folder: Path) -> None:
        """Creates `folder` and its parents below the root, never the root itself; all their names are durable then."""
        self.require()
        with environment_faults(f"cannot make {folder}"):
            if folder not in self._durable or not paths.is_folder(folder):
                self.files.make_folder(folder, below=self.root)
                self._durable.add(folder)

    def folder(self, job: Job) -> Path:
        return self.root / job.folder

    def relative(self, path: Path) -> str:
        """`path` as the queue writes it: relative to the workspace, with forward slashes."""
        return path.relative_to(self.root).as_posix()

    def marker(self, job: Job) -> Path:
        return self.root.joinpath(job.folder, "done", job.group, f"{job.job_id}.done")  # one join: for each of a million jobs

    def summary(self, job: Job) -> Path:
        """What is remembered of the finished jobs of its group: derived, may be deleted at any time."""
        return self.root.joinpath(job.folder, SUMMARIES, f"{job.group}.json")

    def summaries(self) -> Iterator[Path]:
        """Every such file of what lies below `features`, folder by folder; a training is one job and has none."""
        return paths.matching(self.features, f"*/{SUMMARIES}/*.json")

    def payloads(self, job: Job) -> Path:
        return self.root.joinpath(job.folder, "shards", job.group)

    def payload(self, job: Job, sha256: str, suffix: str) -> Path:
        """The name carries the digest, so other bytes for the same job are another file."""
        return self.payloads(job) / f"{job.job_id}.{sha256[:16]}{suffix}"

    def claims(self, job: Job) -> Path:
        return self.root.joinpath(job.folder, "claims", job.group)

    def blocks(self, job: Job) -> Path:
        """Where claims on many jobs of a group at once lie."""
        return self.root.joinpath(job.folder, "claims", job.group, BLOCKS)

    def claim(self, job: Job, name: str) -> Path:
        """A file among the claims of its group."""
        return self.root.joinpath(job.folder, "claims", job.group, name)


def has_workspace(folder: Path) -> bool:
    """Whether a workspace is there that this user can reach; one behind a dead mount or a closed folder is not."""
    return os.path.exists(folder / WORKSPACE_FILE)  # noqa: PTH110 - Path.exists raises where the folder may not be entered


def named_root(given: Path | str | None) -> Path | None:
    """-w DIR, else $HEADSTART_WORKSPACE; None if the user named neither."""
    chosen = given or os.environ.get("HEADSTART_WORKSPACE")
    return Path(chosen).absolute() if chosen else None


def find_root(given: Path | str | None) -> Path:
    """-w DIR, else $HEADSTART_WORKSPACE, else the nearest parent that has one, else ./workspace.

    No parent of $HEADSTART_CEILING is searched, as git does it with GIT_CEILING_DIRECTORIES.
    """
    if root := named_root(given):
        return root
    here = Path.cwd()
    ceiling = os.environ.get("HEADSTART_CEILING")
    top = Path(ceiling).resolve() if ceiling else None
    for parent in (here, *here.parents):
        for candidate in (parent, parent / "workspace"):
            if has_workspace(candidate):
                _refuse_others(candidate)
                return candidate
        if parent == top:
            break
    return here / "workspace"


def _refuse_others(root: Path) -> None:
    """Raises: HeadstartError if a workspace that nobody named belongs to another user, who may have put it there for others."""
    if sys.platform == "win32":  # whose files have no owner's number
        return
    mine = {os.geteuid()}
    if os.geteuid() == 0 and os.environ.get("SUDO_UID", "").isdecimal():
        mine.add(int(os.environ["SUDO_UID"]))  # who called sudo is who is meant
    for path in (root, root / WORKSPACE_FILE):
        owner = path.stat().st_uid
        if owner not in mine:
            raise HeadstartError(f"{root} belongs to {_user(owner)}, not to you. If you trust it, name it: -w {root}")


def _user(number: int) -> str:
    if sys.platform == "win32":
        return f"user {number}"
    import pwd

    try:
        return f"user {pwd.getpwuid(number).pw_name}"
    except KeyError:
        return f"user {number}"


def open_workspace(root: Path) -> Workspace:
    """The existing workspace at `root`.

    Raises: HeadstartError if there is none, it is damaged or newer; TryLaterError if it cannot be read now (a mount that
    is gone must never look like an empty workspace).
    """
    path = root / WORKSPACE_FILE
    paths.enter(root)
    try:
        with environment_faults(f"cannot read {path}"):
            facts = read_record(path, FORMAT, _MEND)
    except FileNotFoundError:
        if os.path.isfile(root):  # noqa: PTH113 - Path.is_file raises where the folder may not be entered
            raise HeadstartError(f"{root} is no folder. Choose one with -w DIR") from None
        raise HeadstartError(f"no workspace at {root}. Make one: headstart enqueue DATA -w {root}") from None
    _share(root)
    able = facts.record("file_system")
    return Workspace(root, facts.text("id"), FileSystem(hard_links=able.flag("hard_links"), fsync=able.flag("fsync")))


def _share(root: Path) -> None:
    """What this process makes from now on may be used by the workspace's group as the workspace may, whatever its own umask."""
    with contextlib.suppress(OSError):
        mode = root.stat().st_mode
        if os.name == "posix" and mode & stat.S_IWGRP:
            os.umask(os.umask(0) & ~(mode & 0o070))


def as_workspace(given: Workspace | Path | str | None) -> Workspace:
    """`given` itself, or the existing workspace at that folder; None: see `find_root`. Raises as `open_workspace`."""
    return given if isinstance(given, Workspace) else open_workspace(find_root(given))


def open_or_create_workspace(root: Path) -> Workspace:
    """The workspace at `root`, made if absent. Raises as `open_workspace`; HeadstartError if `root` is no place for data."""
    if has_workspace(root):
        return open_workspace(root)
    try:
        _refuse_code(root)
        made = [folder for folder in root.parents if not folder.exists()]
        root.mkdir(parents=True, exist_ok=True)
        paths.enter(root)
        with environment_faults(f"cannot make a workspace at {root}"):
            files = probe(root)
        # Before anything is published in it: a power cut could otherwise take the folder from under what was.
        for folder in (root, *made):
            with contextlib.suppress(PermissionError):  # a parent that may be passed but not read was there before
                files.sync_folder(folder.parent)
        facts = {"format": FORMAT, "id": os.urandom(8).hex(), "file_system": asdict(files)}
        files.publish(root / WORKSPACE_FILE, encode(facts))
    except (PermissionError, FileExistsError, NotADirectoryError) as error:
        raise HeadstartError(
            f"cannot make a workspace at {root}: {error.strerror}. Choose a writable folder with -w DIR"
        ) from error
    # Read back: another process may have made it at the same moment.
    return open_workspace(root)


def _refuse_code(root: Path) -> None:
    if (root / "cli.py").is_file() and (root / "pipeline").is_dir():
        raise HeadstartError(f"{root} is Headstart's source checkout; data lives elsewhere: pass -w {root / 'workspace'}")
    for folder in (root, *root.parents):
        if (folder / "__init__.py").is_file():
            raise HeadstartError(f"{folder} holds Python code; data lives elsewhere: choose another folder with -w DIR")
