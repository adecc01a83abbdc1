"""The exported graph of an encoder, `encoder.onnx`, and `encoder.onnx.json`, which says what it is. Derived: both may be deleted.

Finding a graph needs no torch; making one does, and `graph_export` does it.
"""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from headstart.pipeline.files import environment_faults

GRAPH_NAME = "encoder.onnx"
FACTS_NAME = "encoder.onnx.json"
RECIPE = 1  # counts the ways in which graphs were ever exported; one of another way is made anew


@dataclass(frozen=True)
class GraphFacts:
    """What `encoder.onnx.json` says.

    Attributes:
        fingerprint: of the encoder that was exported.
        sha256: of the graph; '' if the encoder has none.
        refused: one line: why the encoder has no graph; '' if it has one.
        is_batch_invariant: whether an image gave the same bits alone and among others.
        check: how the graph differs from torch on a few images, see graph_export.
        versions: what exported it.
    """

    fingerprint: str
    sha256: str
    refused: str
    is_batch_invariant: bool
    check: Mapping[str, float]
    versions: Mapping[str, str]
    recipe: int = RECIPE

    def to_json(self) -> bytes:
        return (json.dumps(asdict(self), indent=1) + "\n").encode()


def find_graph(folder: Path, fingerprint: str) -> GraphFacts | None:
    """What is known of the graph in `folder`; None if it is missing, damaged, or of another encoder, way or version.

    With `refused` there is no graph, and trying again would give none. Raises: TryLaterError if the disk fails.
    """
    facts = _read_facts(folder / FACTS_NAME)
    if facts is None or facts.fingerprint != fingerprint or facts.recipe != RECIPE:
        return None
    if facts.refused:
        return facts
    path = folder / GRAPH_NAME
    try:
        with environment_faults(f"cannot read {path}"), path.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
    except (FileNotFoundError, IsADirectoryError):
        return None
    return facts if digest == facts.sha256 else None


def _read_facts(path: Path) -> GraphFacts | None:
    try:
        with environment_faults(f"cannot read {path}"):
            facts: dict[str, Any] = json.loads(path.read_bytes())
        found = GraphFacts(**facts)
    except (FileNotFoundError, IsADirectoryError, ValueError, TypeError):
        return None
    return found if isinstance(found.versions, dict) and isinstance(found.check, dict) else None
