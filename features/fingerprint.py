"""The fingerprint of an encoder folder and nothing else: `status` asks for it and must not load numpy."""

import json
from pathlib import Path

from headstart.pipeline.errors import HeadstartError
from headstart.pipeline.files import environment_faults

SPEC_NAME = "encoder.json"


def read_fingerprint(folder: Path) -> str:
    """What `encoder.json` says decides the features. Raises: HeadstartError if it is missing or damaged."""
    path = folder / SPEC_NAME
    try:
        with environment_faults(f"cannot read {path}"):
            return str(json.loads(path.read_bytes())["fingerprint"])
    except FileNotFoundError:
        reason = "is missing"
    except (ValueError, KeyError, TypeError):
        reason = "is damaged"
    raise HeadstartError(f"{path} {reason}. Run the same enqueue again: it writes it anew and keeps all features")
