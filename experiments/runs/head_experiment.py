"""An experiment that trains heads: what its description adds to any training's, and where its heads lie."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar, Self

from headstart.experiments.config import (
    USUAL_BASELINES,
    BaselineOptions,
    HeadConfig,
    TrainingOptions,
    as_facts,
    flaw_of_head_names,
    head_config,
)
from headstart.pipeline.doors import records
from headstart.pipeline.errors import HeadstartError
from headstart.pipeline.files import environment_faults
from headstart.pipeline.workspace import Workspace

from .experiment import Experiment, facts_digest, list_experiments, read_experiment

REMOVED_HEADS = "removed.json"


@dataclass(frozen=True)
class HeadExperiment(Experiment):
    """Heads on the features of one encoder.

    Attributes:
        encoder: its folder, absolute.
        fingerprint: of that encoder.
        task: classification or regression.
        heads, options: everything that decides the training.
        targets: columns to predict; () means the label.
        auxiliary: columns that stand after the features, in this order.
        val_part: of the training rows that is set aside for validation; 0 where the data has a validation split.
        rows_sha256: of the file `rows.bin`.
        baselines: those beyond the ones that every experiment has.
        dataset: the data set whose rows alone were asked for, relative to the workspace; None: whatever there was.
        centers: which numbers are counted in units of the training rows, 'targets' and 'auxiliary'; earlier versions: none.
        counts: rows in train, val and test, with a target; and `images`, how many the data set has.
    """

    KIND: ClassVar[str] = "train_head"
    COMMAND: ClassVar[str] = "headstart train-head"
    ROWS_ARE: ClassVar[str] = "images"

    encoder: Path
    fingerprint: str
    task: str
    heads: tuple[HeadConfig, ...]
    options: TrainingOptions
    targets: tuple[str, ...]
    auxiliary: tuple[str, ...]
    val_part: float
    rows_sha256: str
    baselines: BaselineOptions = USUAL_BASELINES
    dataset: str | None = None
    centers: tuple[str, ...] = ()

    @classmethod
    def from_record(cls, workspace: Workspace, folder: Path, number: int, record: Mapping[str, Any]) -> Self:
        heads = tuple(head_config(head) for head in record["heads"])
        flaw = flaw_of_head_names(heads)
        if flaw:
            raise ValueError(flaw)
        return cls(
            folder=folder,
            number=number,
            name=str(record["name"]),
            encoder=_inside(workspace, str(record["encoder"])),
            fingerprint=str(record["fingerprint"]),
            task=str(record["task"]),
            heads=heads,
            options=TrainingOptions(**record["options"]),
            targets=tuple(record["targets"]),
            auxiliary=tuple(record["auxiliary"]),
            val_part=float(record["val_part"]),
            data=str(record["data"]),
            rows_sha256=str(record["rows_sha256"]),
            counts=dict(record["counts"]),
            baselines=BaselineOptions(**record.get("baselines", {})),
            dataset=record.get("dataset"),
            centers=tuple(record.get("centers", ())),
        )

    @property
    def source(self) -> str:
        """The encoder's folder relative to the workspace."""
        return self.encoder.relative_to(self.folder.parent.parent).as_posix()

    @property
    def configuration(self) -> str:
        """Also equal only for the same data set asked for: unlike its rows, that is part of the command."""
        facts = self.facts()
        del facts["data"]
        return facts_digest({**facts, "dataset": self.dataset})

    def on_any_machine(self) -> Self:
        return replace(self, options=replace(self.options, device="cpu"))

    def record(self) -> dict[str, Any]:
        return {
            "encoder": self.source,
            **self.facts(),
            "dataset": self.dataset,
            "rows_sha256": self.rows_sha256,
            "counts": dict(self.counts),
        }

    def facts(self) -> dict[str, Any]:
        options = as_facts(self.options)
        del options["checkpoint_s"]  # decides when, not what
        more: dict[str, Any] = {} if self.baselines == USUAL_BASELINES else {"baselines": as_facts(self.baselines)}
        if self.centers:
            more["centers"] = list(self.centers)
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

    def settings(self) -> dict[str, Any]:
        words = {word: getattr(self, word) for word in ("dataset", "task", "targets", "auxiliary", "val_part")}
        options = as_facts(self.options)
        del options["checkpoint_s"]
        heads = {f"{key} of head '{head.name}'": value for head in self.heads for key, value in as_facts(head).items()}
        fingerprint = f"{self.encoder.name} {self.fingerprint[:8]}"
        options |= as_facts(self.baselines)
        return {"encoder": fingerprint, **words, **options, "number of heads": len(self.heads), **heads}


def read_head_experiment(workspace: Workspace, folder: Path) -> HeadExperiment:
    """As `read_experiment`."""
    return read_experiment(workspace, folder, HeadExperiment)


def list_head_experiments(workspace: Workspace) -> list[HeadExperiment]:
    """As `list_experiments`."""
    return list_experiments(workspace, HeadExperiment)


def head_path(experiment: HeadExperiment, head_name: str) -> Path:
    """Where the trained head of that configuration lies."""
    return experiment.checkpoints / f"{head_name}.pt"


def best_head_path(experiment: HeadExperiment) -> Path:
    """Where the head that validation chose lies."""
    return experiment.checkpoints / "best_head.pt"


def _inside(workspace: Workspace, relative: str) -> Path:
    parts = relative.split("/")
    if len(parts) != 2 or parts[0] != "features" or parts[1] in ("", ".", "..") or "\\" in relative:
        raise ValueError(f"encoder {relative!r}")
    return workspace.root / relative


def removed_heads(folder: Path) -> frozenset[str]:
    """Names of the heads of an experiment that were removed."""
    path = folder / REMOVED_HEADS
    try:
        with environment_faults(f"cannot read {path}"):
            return frozenset(records.read_record(path, None).texts("heads"))
    except (FileNotFoundError, NotADirectoryError):
        return frozenset()
    except (ValueError, KeyError, TypeError):
        raise HeadstartError(f"{path} is damaged. Delete it: the heads whose files are gone are then trained again") from None
