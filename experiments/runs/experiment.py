"""An experiment's folder: `experiments/exp_0001_<name>/` with an immutable description of one training, whatever it trains.

A kind of training adds its own fields: `head_experiment.HeadExperiment` is one.
"""

import abc
import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar, Self, TypeVar

from headstart.pipeline import paths
from headstart.pipeline.doors import reading, records
from headstart.pipeline.doors.records import DamagedError, encode, read_record
from headstart.pipeline.errors import HeadstartError
from headstart.pipeline.files import environment_faults
from headstart.pipeline.text import printable
from headstart.pipeline.workspace import Workspace

FORMAT = 1
DESCRIPTION = "experiment.json"
ROWS = "rows.bin"
SOURCE = "recipe"  # folder of the source of what is trained, where that is a file of code
INPUTS = "inputs"  # folder of the user's files among its options
METRICS = "metrics.json"
REPORT = "classification_report.txt"
_UNNAMED_KIND = "train_head"  # descriptions were written before there was a second kind of training: these name none
_HIGHEST = 99_999_999  # one beyond is none of ours: after it there would soon be no number left
_FOLDER = re.compile(r"exp_(\d{4,9})_([A-Za-z0-9][A-Za-z0-9._-]{0,59})")


@dataclass(frozen=True)
class Experiment(abc.ABC):
    """What every training has. `experiment.json` says it once, before the training begins, and never changes.

    Attributes:
        folder: absolute; `exp_<number>_<name>`.
        data: digest of the rows that it learns from and is judged on.
        counts: rows in each split, by its name.
        KIND: of the job that trains it.
        COMMAND: that begins one, for messages.
        ROWS_ARE: what people call its rows.
    """

    folder: Path
    number: int
    name: str
    data: str
    counts: Mapping[str, int]

    KIND: ClassVar[str]
    COMMAND: ClassVar[str]
    ROWS_ARE: ClassVar[str] = "rows"

    @classmethod
    @abc.abstractmethod
    def from_record(cls, workspace: Workspace, folder: Path, number: int, record: Mapping[str, Any]) -> Self:
        """What `record()` said. Raises: ValueError, KeyError, TypeError or AttributeError if it says it wrongly."""

    @abc.abstractmethod
    def record(self) -> dict[str, Any]:
        """All that the description says besides format, kind, name and identity, ready for JSON; `facts()` is among it."""

    @abc.abstractmethod
    def facts(self) -> dict[str, Any]:
        """All that decides the result, ready for JSON, with the rows under `data`; equal facts mean equal bits."""

    @abc.abstractmethod
    def settings(self) -> dict[str, Any]:
        """What can be set, by what people call it: for a message about two experiments that differ."""

    @property
    @abc.abstractmethod
    def source(self) -> str:
        """What the job reads, relative to the workspace."""

    @property
    def identity(self) -> str:
        """sha256 (hex) of all that decides the result."""
        return facts_digest(self.facts())

    @property
    def configuration(self) -> str:
        """sha256 (hex) of all that decides the result but the rows: equal for the same command."""
        facts = self.facts()
        del facts["data"]
        return facts_digest(facts)

    def on_any_machine(self) -> Self:
        """The same training, without what an earlier version noted of the machine that began it: for comparisons alone."""
        return self

    @property
    def checkpoints(self) -> Path:
        """The folder of its states and of what it trained."""
        return self.folder / "checkpoints"

    def encode(self) -> bytes:
        """The bytes of `experiment.json`."""
        kind = {} if self.KIND == _UNNAMED_KIND else {"kind": self.KIND}
        record = {"format": FORMAT, **kind, "name": self.name, **self.record(), "identity": self.identity}
        return encode(record)

    def difference(self, other: "Experiment") -> str:
        """The first thing in which a later one differs, for people."""
        if self.data != other.data and self.configuration == other.configuration:
            return f"it learnt from {self.counts['train']:,} training {self.ROWS_ARE} as they were then, there are others now"
        before, now = self.settings(), other.settings()
        differing = next((key for key in before | now if before.get(key) != now.get(key)), None)
        return "its rows" if differing is None else f"its {differing} is {before.get(differing)}, now {now.get(differing)}"


AnyExperiment = TypeVar("AnyExperiment", bound=Experiment)


def read_experiment(workspace: Workspace, folder: Path, kind: type[AnyExperiment], *others: type[AnyExperiment]) -> AnyExperiment:
    """The experiment in `folder`, of that kind or one of the others.

    Raises: HeadstartError if there is none, it trains something else, it was changed, or a newer version wrote it.
    """
    path = folder / DESCRIPTION
    match = _FOLDER.fullmatch(folder.name)
    hint = f"Restore it from a copy, or train anew: {kind.COMMAND} --name NEW"
    try:
        with environment_faults(f"cannot read {path}"):
            record = read_record(path, FORMAT, hint)
    except FileNotFoundError:
        raise HeadstartError(f"{folder} is no experiment: {DESCRIPTION} is missing. Make one: {kind.COMMAND}") from None
    if match is None:
        raise DamagedError(path, f"a folder named {folder.name}", hint)
    its_kind = _kind_in(record)
    kind = next((each for each in (kind, *others) if its_kind == each.KIND), kind)
    if its_kind != kind.KIND:
        raise HeadstartError(f"{folder} is a training of kind {printable(its_kind)}, expected {kind.KIND}. See: headstart runs")
    with records.taken_apart(path, hint):
        experiment = kind.from_record(workspace, folder, int(match[1]), record)
    if experiment.identity != record.text("identity"):
        raise HeadstartError(f"{path} was changed after it was written. Undo that, or train anew: {kind.COMMAND} --name NEW")
    return experiment


def list_experiments(workspace: Workspace, kind: type[AnyExperiment]) -> list[AnyExperiment]:
    """All experiments of a kind by number; folders that hold none, another kind or a damaged one are passed over."""
    experiments = []
    for folder in experiment_folders(workspace):
        try:
            experiments.append(read_experiment(workspace, folder, kind))
        except HeadstartError:
            continue
    return experiments


def experiment_folders(workspace: Workspace) -> list[Path]:
    """Folders with an experiment's name, by number, whatever they train."""
    folders = [path for path in paths.matching(workspace.experiments, "exp_*") if number_of(path) and paths.is_folder(path)]
    return sorted(folders, key=lambda path: (number_of(path), path.name))


def number_of(folder: Path) -> int:
    """From the folder's name; 0 if it is not that of an experiment."""
    match = _FOLDER.fullmatch(folder.name)
    return int(match[1]) if match and int(match[1]) <= _HIGHEST else 0


def name_of(folder: Path) -> str | None:
    """What the experiment was called, from its folder's name; None if it is not that of an experiment."""
    match = _FOLDER.fullmatch(folder.name)
    return match[2] if match else None


def kind_of(folder: Path) -> str | None:
    """What the experiment in `folder` trains: its kind of job; None if its description is missing or cannot be read."""
    path = folder / DESCRIPTION
    try:
        with environment_faults(f"cannot read {path}"):
            return _kind_in(read_record(path, None))
    except (FileNotFoundError, DamagedError):
        return None


def _kind_in(record: Mapping[str, Any]) -> str:
    return str(record.get("kind", _UNNAMED_KIND))


def nowhere(workspace: Workspace) -> Path:
    """The folder of an experiment that has none yet."""
    return workspace.experiments / "exp_0000_none"


def placed(experiment: AnyExperiment, workspace: Workspace, number: int) -> AnyExperiment:
    """The same under a number."""
    return replace(experiment, number=number, folder=workspace.experiments / f"exp_{number:04d}_{experiment.name}")


def is_finished(experiment: Experiment) -> bool:
    """Whether its numbers are there; the job's marker is what proves that it is done."""
    return is_finished_folder(experiment.folder)


def is_finished_folder(folder: Path) -> bool:
    """`is_finished` of the experiment in `folder`, whatever it trains."""
    return paths.exists(folder / METRICS)


def read_metrics(experiment: Experiment) -> dict[str, Any]:
    """What `metrics.json` says, {} if it is gone. Raises: HeadstartError if it is damaged."""
    path = experiment.folder / METRICS
    try:
        with environment_faults(f"cannot read {path}"):
            metrics: dict[str, Any] = dict(records.parse_record(reading.read(path), path, None, is_finite=False))
    except FileNotFoundError:
        return {}
    except (records.DamagedError, reading.UnreadableError):
        raise HeadstartError(f"{path} is damaged. The same {experiment.COMMAND} command writes it again") from None
    return metrics


def description_digest(folder: Path) -> str:
    """sha256 (hex) of `experiment.json`: what was measured notes it, so that what was described cannot change unseen."""
    path = folder / DESCRIPTION
    with environment_faults(f"cannot read {path}"):
        return hashlib.sha256(reading.read(path)).hexdigest()


def refuse_bad_name(name: str) -> None:
    """Raises: HeadstartError if an experiment cannot be called that."""
    if not _FOLDER.fullmatch(f"exp_0001_{name}") or name.endswith("."):  # Windows leaves a last dot out
        raise HeadstartError(
            f"--name is {name!r}, expected up to 60 letters, digits, '.', '_' or '-', the first a letter or digit, the last no "
            "dot, because a folder is named after it"
        )


def facts_digest(facts: Mapping[str, Any]) -> str:
    """sha256 (hex) of facts that are ready for JSON, whatever their order."""
    return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()
