"""Takes back a run, an experiment, features, what was made, a data set. Whole, or not at all, whenever it is killed.

What is to go is first written down (an intent in `.removed/`), then withdrawn from the queue, then let go of by every worker, and
only then moved out of sight and deleted. Whoever removes or cleans next finishes what was written down.
"""

from __future__ import annotations

import contextlib
import os
import re
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict, dataclass, replace
from itertools import groupby
from pathlib import Path

from headstart.features.manifest.patch_versions import list_versions
from headstart.pipeline import paths
from headstart.pipeline.claims import seems_held
from headstart.pipeline.doors import reading
from headstart.pipeline.doors.records import read_record, seal
from headstart.pipeline.enqueue import queue_lock
from headstart.pipeline.errors import HeadstartError, TryLaterError
from headstart.pipeline.files import environment_faults
from headstart.pipeline.job import Job, group_of
from headstart.pipeline.kinds import known_kinds
from headstart.pipeline.next_job import read_listing
from headstart.pipeline.quarantine import NO_HISTORY
from headstart.pipeline.queue import Reader
from headstart.pipeline.retire import REMOVED, withdraw
from headstart.pipeline.text import printable
from headstart.pipeline.workspace import Workspace

from .catalog import choose_run, read_runs
from .experiment import DESCRIPTION, experiment_folders, name_of, number_of
from .head_experiment import REMOVED_HEADS, best_head_path, head_path, read_head_experiment, removed_heads

KINDS = ("run", "experiment", "encoder", "activations", "made", "patches", "data")
WAIT_S = 30.0
_POLL_S = 0.2
_INTENT = ".json"
# What a removal may name: an intent may come from somebody else.
_COMPONENT = r"(?!\.)[^/\\\x00-\x1f]{1,255}"
_TREE = re.compile(
    rf"experiments/exp_{_COMPONENT}|features/encoder_{_COMPONENT}(/cache)?|features/(activations|made|patches)_{_COMPONENT}|features/manifests/{_COMPONENT}"
)
_FILE = re.compile(
    rf"experiments/exp_{_COMPONENT}/checkpoints/{_COMPONENT}"
    r"|features/patches/patch_manifest\.v\d{3,6}\.csv"
    rf"|(features|experiments)/{_COMPONENT}/(done|shards|claims)/\d{{4,9}}/job_\d{_COMPONENT}"
)


@dataclass(frozen=True)
class Removal:
    """What is to go; paths are relative to the workspace.

    Attributes:
        what: for people, such as `experiment exp_0001_linear`.
        folder, source: of the jobs to withdraw: those of this folder, or those whose source is or lies in this one. None: none.
        trees: folders that go as a whole; files: single ones.
        head: (experiment's folder, name) of a run that leaves its experiment standing, else None.
        through: number of the last job that is meant: what was queued later under the same name stays.
    """

    what: str
    through: int = -1
    folder: str | None = None
    source: str | None = None
    trees: tuple[str, ...] = ()
    files: tuple[str, ...] = ()
    head: tuple[str, str] | None = None

    def concerns(self, job: Job) -> bool:
        """Whether a job works for what is to go, or for what has the same name by now."""
        if self.folder is not None and job.folder == self.folder:
            return True
        return self.source is not None and (job.source == self.source or job.source.startswith(f"{self.source}/"))


@dataclass(frozen=True)
class RemovalPlan:
    """A removal, and what it means.

    Attributes:
        jobs: rows of the queue that are withdrawn.
        size_bytes: that become free.
        consequences: what else changes for the user, a line each.
    """

    removal: Removal
    jobs: tuple[Job, ...]
    size_bytes: int
    consequences: tuple[str, ...] = ()


def plan_removal(workspace: Workspace, kind: str, asked: str) -> RemovalPlan:
    """What `headstart remove KIND NAME` would take back; nothing is changed yet, see `perform`.

    Args:
        kind: one of `KINDS`.
        asked: which one; of runs the number or 'best', see `choose_run`, of others see the function of that kind.

    Raises: HeadstartError if there is no such thing, or several.
    """
    if kind == "experiment":
        return plan_experiment(workspace, asked)
    if kind == "encoder":
        return plan_encoder(workspace, asked)
    if kind in ("activations", "made", "patches"):
        return plan_derived(workspace, kind, asked)
    if kind == "data":
        return plan_data(workspace, asked)
    if kind != "run":
        raise HeadstartError(f"kind is '{kind}', expected one of {', '.join(KINDS)}")
    run = choose_run(workspace, asked).run
    others = sum(other.experiment == run.experiment and other.run != run.run for other, _ in read_runs(workspace))
    return plan_run(workspace, run.experiment, run.head, others)


def plan_run(workspace: Workspace, experiment: str, head: str, others: int) -> RemovalPlan:
    """Args: experiment: name of its folder; others: runs of it that stay, without which the whole experiment goes."""
    if not others:
        return plan_experiment(workspace, experiment)
    read = read_head_experiment(workspace, workspace.experiments / experiment)
    files = [head_path(read, head)]
    if _has_same_bytes(best_head_path(read), files[0]):
        files.append(best_head_path(read))
    removal = Removal(
        f"run {head} of {experiment}",
        files=tuple(workspace.relative(path) for path in files),
        head=(experiment, head),
    )
    return _planned(workspace, removal)


def plan_experiment(workspace: Workspace, asked: str) -> RemovalPlan:
    """Args: asked: a folder's name, a number, or the name that the experiment was given, if only one has it."""
    wanted = Path(asked).name or "/"  # which is in no name
    folders = experiment_folders(workspace)
    matches = [path for path in folders if wanted in (path.name, name_of(path), str(int(path.name.split("_")[1])))]
    folder = _only(matches, f"experiment {printable(asked)!r}", [path.name for path in folders], "headstart runs")
    relative = workspace.relative(folder)
    return _planned(workspace, Removal(f"experiment {folder.name}", folder=relative, trees=(relative,)))


def plan_encoder(workspace: Workspace, asked: str) -> RemovalPlan:
    """Args: asked: a folder's name, or a part that only one has."""
    folder = _folder_named(asked, "encoder", paths.folders(workspace.features, "encoder_*"))
    _refuse_if_cut(workspace, encoder=folder.name)
    relative = workspace.relative(folder)
    users = [name for name, (encoder, _) in _experiments(workspace).items() if encoder == relative]
    consequences = [f"{_listed(users)} cannot be evaluated, used or finished without its features"] if users else []
    return _planned(workspace, Removal(f"encoder {folder.name}", folder=relative, trees=(relative,)), consequences)


def plan_derived(workspace: Workspace, kind: str, asked: str) -> RemovalPlan:
    """What the same command makes again.

    Args: kind: activations, made or patches; asked: a folder's name, or a part that only one has.
    """
    folder = _folder_named(asked, kind, paths.folders(workspace.features, f"{kind}_*"))
    relative = workspace.relative(folder)
    lines = [one.source for one in list_versions(workspace) if one.folder == folder] if kind == "patches" else []
    return _planned(workspace, Removal(f"{kind} {folder.name}", folder=relative, trees=(relative,), files=tuple(lines)))


def _refuse_if_cut(workspace: Workspace, encoder: str = "", dataset: str = "") -> None:
    """Raises: HeadstartError if there are patches of it, which would be left without it."""
    for one in list_versions(workspace):
        if one.setting.encoder == encoder or one.setting.dataset == dataset:
            raise HeadstartError(
                f"patches {one.name} are of {encoder or dataset}. They go first: headstart remove patches {one.folder.name}"
            )


def plan_data(workspace: Workspace, asked: str) -> RemovalPlan:
    """Args: asked: a folder in `features/manifests`, or a part that only one has."""
    folder = _folder_named(asked, "data", paths.folders(workspace.manifests))
    _refuse_if_cut(workspace, dataset=folder.name)
    relative = workspace.relative(folder)
    jobs = [job for job in Reader(workspace, known_kinds()) if job.source.startswith(f"{relative}/")]
    encoders = sorted({job.folder for job in jobs})
    files = tuple(workspace.relative(path) for path in job_files(workspace, jobs))
    caches = tuple(path for encoder in encoders if paths.is_folder(workspace.root / (path := f"{encoder}/cache")))
    users = [name for name, (encoder, _) in _experiments(workspace).items() if encoder in encoders]
    consequences = []
    if users:
        consequences.append(f"{_listed(users)} may have learnt from it: their heads stay, what needs its rows will refuse")
    removal = Removal(f"data {folder.name}", source=relative, trees=(relative, *caches), files=files)
    return _planned(workspace, removal, consequences)


def perform(
    workspace: Workspace,
    removal: Removal,
    wait_s: float = WAIT_S,
    reached: Callable[[str], None] = lambda point: None,
) -> None:
    """Removes; killed anywhere, the same again or `finish_removals` ends it.

    Args:
        wait_s: how long workers have to let go of its jobs.
        reached: called with the name of each point between two steps.

    Raises: TryLaterError if a worker still holds a job: all is withdrawn then, and deleted by whoever cleans next.
    """
    workspace.make_folder(workspace.removed)
    name = removal.what.replace("/", "_").replace(" ", "-")[:150]
    intent = workspace.removed / f"{name}.{os.urandom(4).hex()}{_INTENT}"
    workspace.files.publish(intent, seal({"format": 1, **asdict(removal)}))
    reached("written down")
    _carry_out(workspace, removal, intent, wait_s, reached)


def finish_removals(workspace: Workspace, wait_s: float = 0.0, reached: Callable[[str], None] = lambda point: None) -> list[str]:
    """Ends what was begun and killed; returns what it was. Raises as `perform`."""
    finished = []
    for intent in paths.matching(workspace.removed, f"*{_INTENT}"):
        removal = _read_intent(intent)
        if removal is None:
            continue
        _carry_out(workspace, removal, intent, wait_s, reached)
        finished.append(removal.what)
    for path in _leftovers(workspace):
        _delete(path)
    return finished


def unfinished_removals(workspace: Workspace) -> list[str]:
    """What was begun, and waits for `finish_removals`."""
    intents = (_read_intent(path) for path in paths.matching(workspace.removed, f"*{_INTENT}"))
    return [removal.what for removal in intents if removal is not None]


def leftover_bytes(workspace: Workspace) -> int:
    """Of what was moved out of sight and not deleted yet."""
    return sum(map(paths.tree_bytes, _leftovers(workspace)))


def _carry_out(workspace: Workspace, removal: Removal, intent: Path, wait_s: float, reached: Callable[[str], None]) -> None:
    with queue_lock(workspace):
        jobs = _concerned(workspace, removal)
        meant = [job for job in jobs if job.number <= removal.through]
        withdraw(workspace, meant, REMOVED, removal.what)
        is_made_anew = len(meant) < len(jobs)
    reached("withdrawn")
    if removal.head is not None:
        folder = workspace.experiments / removal.head[0]
        if paths.exists(folder / DESCRIPTION):
            heads = sorted(removed_heads(folder) | {removal.head[1]})
            workspace.files.replace(folder / REMOVED_HEADS, seal({"heads": heads}, indent=None))
        reached("noted")
    _wait_for_workers(workspace, removal, wait_s)
    for tree in removal.trees:
        path = workspace.root / tree
        if is_made_anew or not paths.is_folder(path):
            continue
        with environment_faults(f"cannot remove {path}"), contextlib.suppress(FileNotFoundError):
            paths.rename(path, workspace.removed / f"{path.name}.{os.urandom(4).hex()}")
            workspace.files.sync_folder(path.parent)
        reached("moved")
    for file in removal.files:
        with environment_faults(f"cannot remove {file}"), contextlib.suppress(FileNotFoundError):
            paths.remove(workspace.root / file)
    reached("unlinked")
    for path in _leftovers(workspace):
        _delete(path)
    reached("deleted")
    with contextlib.suppress(FileNotFoundError):
        paths.remove(intent)
    with contextlib.suppress(OSError):
        paths.remove_folder(workspace.removed)


def _concerned(workspace: Workspace, removal: Removal) -> list[Job]:
    return [job for job in Reader(workspace, known_kinds()) if removal.concerns(job)]


def _wait_for_workers(workspace: Workspace, removal: Removal, wait_s: float) -> None:
    reader = Reader(workspace, known_kinds())
    for _ in reader:
        pass
    mine = [job for job, _ in reader.withdrawn if removal.concerns(job) and job.number <= removal.through]
    limit = time.monotonic() + wait_s
    while True:
        held = next(_held(workspace, mine), None)
        if held is None:
            return
        if time.monotonic() >= limit:
            raise TryLaterError(
                f"{removal.what} is withdrawn, and a worker still holds {held.job_id} of it. Its files go with the next: "
                "headstart clean"
            )
        time.sleep(_POLL_S)


def _held(workspace: Workspace, jobs: Iterable[Job]) -> Iterator[Job]:
    for _, group in groupby(jobs, key=lambda job: (job.folder, job.group)):
        members = list(group)
        histories = read_listing(workspace, members[0]).histories
        yield from (job for job in members if seems_held(workspace, job, histories.get(job.job_id, NO_HISTORY)))


def job_files(workspace: Workspace, jobs: Iterable[Job]) -> Iterator[Path]:
    """What jobs left: markers, retired ones too, payloads and claims."""
    by_group: dict[tuple[str, str], set[str]] = {}
    for job in jobs:
        by_group.setdefault((job.folder, group_of(job.number)), set()).add(job.job_id)
    for (folder, group), ids in sorted(by_group.items()):
        for place in ("done", "shards", "claims"):
            for path in paths.matching(workspace.root / folder / place / group, "*"):
                if path.name.split(".")[0] in ids:
                    yield path


def _planned(workspace: Workspace, removal: Removal, consequences: Iterable[str] = ()) -> RemovalPlan:
    jobs = tuple(_concerned(workspace, removal))
    reader = Reader(workspace, known_kinds())
    for _ in reader:
        pass
    removal = replace(removal, through=reader.highest)
    size = sum(paths.tree_bytes(workspace.root / path) for path in (*removal.trees, *removal.files))
    return RemovalPlan(removal, jobs, size, tuple(consequences))


def _experiments(workspace: Workspace) -> dict[str, tuple[str, str | None]]:
    """Encoder and data set of each experiment, whatever it trains, as its description says."""
    result = {}
    for folder in experiment_folders(workspace):
        with contextlib.suppress(OSError, HeadstartError):
            record = read_record(folder / DESCRIPTION, None)
            result[folder.name] = (str(record.get("encoder")), record.get("dataset"))
    return result


def _folder_named(asked: str, kind: str, folders: list[Path]) -> Path:
    wanted = Path(asked).name or "/"  # which is in no name
    matches = [path for path in folders if path.name == wanted] or [path for path in folders if wanted in path.name]
    return _only(matches, f"{kind} {printable(asked)!r}", [path.name for path in folders], "headstart status")


def _only(matches: list[Path], what: str, known: list[str], command: str) -> Path:
    if len(matches) == 1:
        return matches[0]
    if matches:
        raise HeadstartError(f"{what} may be {' or '.join(path.name for path in matches)}. Give the whole name")
    there = f"there are {', '.join(known[:8])}" + (", ..." if len(known) > 8 else "") if known else "there is none"
    raise HeadstartError(f"no {what} in this workspace; {there}. See: {command}")


def _listed(names: list[str]) -> str:
    return ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")


def _read_intent(path: Path) -> Removal | None:
    """None for what is no intent, or another version's, or names what no removal removes."""
    try:
        facts = read_record(path, 1)
        head = None if facts["head"] is None else tuple(facts.texts("head"))
        removal = Removal(
            what=facts.text("what"),
            through=facts.integer("through", -1),
            folder=None if facts["folder"] is None else facts.text("folder"),
            source=None if facts["source"] is None else facts.text("source"),
            trees=tuple(facts.texts("trees")),
            files=tuple(facts.texts("files")),
        )
    except (OSError, HeadstartError, KeyError):
        return None
    is_ours = all(map(_TREE.fullmatch, removal.trees)) and all(map(_FILE.fullmatch, removal.files))
    if not is_ours or (head is not None and (len(head) != 2 or not number_of(Path(head[0])) or "/" in head[0])):
        return None
    return removal if head is None else replace(removal, head=(head[0], head[1]))


def _has_same_bytes(path: Path, other: Path) -> bool:
    try:
        return reading.read(path, reading.HEAD_BYTES) == reading.read(other, reading.HEAD_BYTES)
    except (OSError, HeadstartError):
        return False


def _leftovers(workspace: Workspace) -> list[Path]:
    return paths.folders(workspace.removed)


def _delete(tree: Path) -> None:
    with environment_faults(f"cannot delete {tree}"), contextlib.suppress(FileNotFoundError):
        paths.remove_tree(tree)
