"""The last audit of an encoder's features on disk, for the report: derived, and never trusted blindly."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from headstart.pipeline.doors.records import Record, read_record, seal
from headstart.pipeline.errors import ExplainedError
from headstart.pipeline.workspace import Workspace

from .clean_score import CleanScore
from .doubts import PARTS, AuditedImage, CopyPair, DataAudit, OddImage
from .label_errors import LabelAudit, SuspectLabel

FORMAT = 1
_FILE = "audit.json"
_MOST = 2000  # of each kind of doubt


def write_audit(workspace: Workspace, encoder_folder: Path, audit: DataAudit) -> None:
    """Replaces the one before. Raises: what the disk says."""
    facts = asdict(audit)
    for name in ("copies", "outliers"):
        facts[name] = facts[name][:_MOST]
    if audit.labels is not None:
        facts["labels"]["suspects"] = facts["labels"]["suspects"][:_MOST]
    data = seal({"format": FORMAT, **facts}, indent=None)
    replace(workspace.files, fsync=False).replace(encoder_folder / _FILE, data)


def read_audit(encoder_folder: Path) -> DataAudit | None:
    """None if there is none, or it cannot be read: the next audit writes it anew."""
    with contextlib.suppress(OSError, ExplainedError):
        facts = read_record(encoder_folder / _FILE, FORMAT)
        return DataAudit(
            digest=facts.text("digest"),
            images=facts.integer("images"),
            parts=tuple(part for part in facts.texts("parts") if part in PARTS),
            labels=_labels(facts.record("labels")) if facts.get("labels") is not None else None,
            copies=tuple(map(_pair, facts.records("copies"))),
            unread=facts.integer("unread"),
            outliers=tuple(OddImage(_image(odd.record("image")), odd.number("oddness")) for odd in facts.records("outliers")),
            scores=tuple(CleanScore(s.text("without"), s.integer("images"), s.integer("right")) for s in facts.records("scores")),
        )
    return None


def _labels(facts: Record) -> LabelAudit:
    suspects = tuple(
        SuspectLabel(
            **_texts(each, "path", "split", "label", "suggested", "dataset"),
            confidence=each.number("confidence"),
            suggested_confidence=each.number("suggested_confidence"),
            row=each.integer("row"),
        )
        for each in facts.records("suspects")
    )
    return LabelAudit(facts.integer("images"), facts.number("right"), suspects)


def _pair(facts: Record) -> CopyPair:
    cosine = facts.number("cosine") if facts.get("cosine") is not None else None
    first, second = _image(facts.record("first")), _image(facts.record("second"))
    return CopyPair(first, second, cosine, facts.number("likeness"), facts.text("how"))


def _image(facts: Record) -> AuditedImage:
    return AuditedImage(row=facts.integer("row"), **_texts(facts, "dataset", "path", "split", "label"))


def _texts(facts: Record, *names: str) -> Mapping[str, Any]:
    return {name: facts.text(name) for name in names}
