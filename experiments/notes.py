"""What training noted of an experiment: its `metrics.json`."""

import json
from typing import Any

from headstart.pipeline.errors import HeadstartError
from headstart.pipeline.files import environment_faults

from .experiment import METRICS, Experiment


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
