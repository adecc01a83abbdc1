"""Whether what was committed stayed as it was, and each image has its features once: what `headstart demo` proves."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from headstart.pipeline import paths
from headstart.pipeline.workspace import Workspace

from .load import load_features
from .shards import read_bytes


@dataclass(frozen=True)
class Kept:
    """The features of one encoder, compared with an earlier look.

    Attributes:
        encoder: its folder.
        is_kept: whether every payload of the earlier look has its bytes.
        images: rows of features; is_once: whether no image has two.
        embed_dim: features of each.
    """

    encoder: Path
    is_kept: bool
    images: int
    is_once: bool
    embed_dim: int


def payload_digests(workspace: Workspace) -> dict[str, str]:
    """sha256 (hex) of each payload that has a marker, by its name."""
    return {
        payload.name: hashlib.sha256(read_bytes(payload)).hexdigest()
        for marker in paths.matching(workspace.features, "encoder_*/done/*/*.done")
        for payload in paths.matching(marker.parent.parent.parent, f"shards/{marker.parent.name}/{marker.stem}.*")
    }


def compare_kept(workspace: Workspace, before: Mapping[str, str]) -> Kept:
    """Args: before: `payload_digests` of the earlier look. The workspace must have one encoder."""
    after = payload_digests(workspace)
    [encoder] = paths.folders(workspace.features, "encoder_*")
    finished = load_features(encoder)
    return Kept(
        encoder,
        is_kept=all(after.get(name) == digest for name, digest in before.items()),
        images=len(finished.paths),
        is_once=len(finished.paths) == len(set(finished.paths)),
        embed_dim=finished.features.shape[1],
    )
