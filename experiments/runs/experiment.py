"""An experiment's folder: `experiments/exp_0001_<name>/` with an immutable description, the rows it learns from and its heads."""

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from headstart.experiments.config import (
    USUAL_BASELINES,
    BaselineOptions,
    HeadConfig,
    TrainingOptions,
    as_facts,
    flaw_of_head_names,
    head_config,
)
from headstart.pipeline.errors import HeadstartError
from headstart.pipeline.files import environment_faults
from headstart.pipeline.workspace import Workspace

FORMAT = 1
DESCRIPTION = "experiment.json"
ROWS = "rows.bin"
METRICS = "metrics.json"
_FOLDER = re.compile(r"exp_(\d{4,9})_([A-Za-z0-9][A-Za-z0-9._-]{0,59})")


@dataclass(frozen=True)
class Experiment:
    """What `experiment.json` says; it is written once, before the training begins, and never changed.

    Attributes:
        folder: absolute; `exp_<number>_<name>`.
        encoder: folder of the encoder, absolute.
        fingerprint: of that encoder.
        task: classification or regression.
        heads, options: everything that decides the training.
        targets: columns to predict; () means the label.
        auxiliary: columns that stand after the features, in this order.
        val_part: of the training rows that is set aside for validation; 0 where the data has a validation split.
        data: digest of the rows that it learns from and is judged on.
        baselines: those beyond the ones that every experiment has.
        dataset: the data set whose rows alone were asked for, relative to the workspace; None: whatever there was.
        rows_sha256: of the file `rows.bin`.
        counts: rows in train, val and test, with a target; and `images`, how many the data set has.
    """

    folder: Path
    number: int
    name: str
    encoder: Path
    fingerprint: str
    task: str
    heads: tuple[HeadConfig, ...]
    options: TrainingOptions
    targets: tuple[str, ...]
    auxiliary: tuple[str, ...]
    val_part: float
    data: str
    rows_sha256: str
    counts: Mapping[str, int]
    baselines: BaselineOptions = USUAL_BASELINES
    dataset: str | None = None

    @property
    def configuration(self) -> str:
        """sha256 (hex) of all that decides the result but the rows: equal for the same command on the same encoder."""
        facts = self._facts()
        del facts["data"]
        return _digest({**facts, "dataset": self.dataset})

    @property
    def identity(self) -> str:
        """sha256 (hex) of all that decides the result."""
        return _digest(self._facts())

    @property
    def source(self) -> str:
        """The encoder's folder relative to the workspace."""
        return self.encoder.relative_to(self.folder.parent.parent).as_posix()

    def encode(self) -> bytes:
        """The bytes of `experiment.json`."""
        record = {
            "format": FORMAT,
            "name": self.name,
            "encoder": self.source,
            **self._facts(),
            "dataset": self.dataset,
            "rows_sha256": self.rows_sha256,
            "counts": dict(self.counts),
            "identity": self.identity,
        }
        return (json.dumps(record, indent=1) + "\n").encode()

    def _facts(self) -> dict[str, Any]:
        options = as_facts(self.options)
        del options["checkpoint_s"]  # decides when, not what
        more = {} if self.baselines == USUAL_BASELINES else {"baselines": as_facts(self.baselines)}
        return {
            "fingerprint": self.fingerprint,
            "data": self.data,
            "task": self.task,
            "targets": list(self.targets),
            "auxiliary": list(self.auxiliary),
            "val_part": self.val_part,
            "heads": [as_facts(head) for head in self.heads],
            "options": options,
            **more,  # left out where there are none: a description from before there were any keeps its identity
        }


def read_experiment(workspace: Workspace, folder: Path) -> Experiment:
    """The experiment in `folder`. Raises: HeadstartError if there is none, it was changed, or a newer version wrote it."""
    path = folder / DESCRIPTION
    match = _FOLDER.fullmatch(folder.name)
    try:
        with environment_faults(f"cannot read {path}"):
            facts: dict[str, Any] = json.loads(path.read_bytes())
        if facts["format"] > FORMAT:
            raise HeadstartError(
                f"{path} has format {facts['format']}, this version reads up to {FORMAT}. Upgrade: pip install -U headstart"
            )
        if match is None:
            raise ValueError(f"a folder named {folder.name}")
        heads = tuple(head_config(head) for head in facts["heads"])
        flaw = flaw_of_head_names(heads)
        if flaw:
            raise ValueError(flaw)
        found = Experiment(
            folder=folder,
            number=int(match[1]),
            name=str(facts["name"]),
            encoder=_inside(workspace, str(facts["encoder"])),
            fingerprint=str(facts["fingerprint"]),
            task=str(facts["task"]),
            heads=heads,
            options=TrainingOptions(**facts["options"]),
            targets=tuple(facts["targets"]),
            auxiliary=tuple(facts["auxiliary"]),
            val_part=float(facts["val_part"]),
            data=str(facts["data"]),
            rows_sha256=str(facts["rows_sha256"]),
            counts=dict(facts["counts"]),
            baselines=BaselineOptions(**facts.get("baselines", {})),
            dataset=facts.get("dataset"),
        )
    except FileNotFoundError:
        raise HeadstartError(f"{folder} is no experiment: {DESCRIPTION} is missing. Make one: headstart train-head") from None
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise HeadstartError(
            f"{path} is damaged ({error!r}). Restore it from a copy, or train anew: headstart train-head --name NEW"
        ) from None
    if found.identity != facts["identity"]:
        raise HeadstartError(
            f"{path} was changed after it was written. Undo that, or train anew: headstart train-head --name NEW"
        )
    return found


def list_experiments(workspace: Workspace) -> list[Experiment]:
    """All experiments by number; folders that hold none, or a damaged one, are passed over."""
    found = []
    for folder in experiment_folders(workspace):
        try:
            found.append(read_experiment(workspace, folder))
        except HeadstartError:
            continue
    return found


def experiment_folders(workspace: Workspace) -> list[Path]:
    """Folders with an experiment's name, by number."""
    found = [path for path in workspace.experiments.glob("exp_*") if _FOLDER.fullmatch(path.name) and path.is_dir()]
    return sorted(found, key=lambda path: (number_of(path), path.name))


def number_of(folder: Path) -> int:
    match = _FOLDER.fullmatch(folder.name)
    return int(match[1]) if match else 0


def placed(experiment: Experiment, workspace: Workspace, number: int) -> Experiment:
    """The same under a number."""
    return replace(experiment, number=number, folder=workspace.experiments / f"exp_{number:04d}_{experiment.name}")


def head_path(experiment: Experiment, head_name: str) -> Path:
    """Where the trained head of that configuration lies."""
    return experiment.folder / "checkpoints" / f"{head_name}.pt"


def best_head_path(experiment: Experiment) -> Path:
    """Where the head that validation chose lies."""
    return experiment.folder / "checkpoints" / "best_head.pt"


def is_finished(experiment: Experiment) -> bool:
    """Whether its numbers are there; the job's marker is what proves that it is done."""
    return (experiment.folder / METRICS).exists()


def refuse_bad_name(name: str) -> None:
    """Raises: HeadstartError if an experiment cannot be called that."""
    if not _FOLDER.fullmatch(f"exp_0001_{name}"):
        raise HeadstartError(
            f"--name is {name!r}, expected up to 60 letters, digits, '.', '_' or '-', the first a letter or digit, "
            "because a folder is named after it"
        )


def _inside(workspace: Workspace, relative: str) -> Path:
    parts = relative.split("/")
    if len(parts) != 2 or parts[0] != "features" or parts[1] in ("", ".", "..") or "\\" in relative:
        raise ValueError(f"encoder {relative!r}")
    return workspace.root / relative


def _digest(facts: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()


def read_notes(experiment: Experiment) -> dict[str, Any]:
    """The content, {} if it is gone. Raises: HeadstartError if it is damaged."""
    path = experiment.folder / METRICS
    try:
        with environment_faults(f"cannot read {path}"):
            found = json.loads(path.read_bytes())
        if not isinstance(found, dict):
            raise ValueError
    except FileNotFoundError:
        return {}
    except ValueError:
        raise HeadstartError(f"{path} is damaged. The same headstart train-head command writes it again") from None
    return found
