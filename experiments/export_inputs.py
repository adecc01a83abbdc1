"""What an exported file says about itself, and the rows and images that it is compared with torch on."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from headstart.features import shards
from headstart.features.encoder_spec import EncoderSpec
from headstart.features.load import finished_markers
from headstart.pipeline.workspace import Workspace

from .choosing import Chosen
from .experiment import Experiment
from .heads import TrainedHead

FORMAT = 1
_ROWS = 64
_IMAGES = 4


def export_facts(chosen: Chosen, head: TrainedHead, spec: EncoderSpec, logits: bool) -> dict[str, Any]:
    """For the file's metadata: nothing of this machine, and no time."""
    return {
        "format": FORMAT,
        "experiment": chosen.run.experiment,
        "head": chosen.run.head,
        "head_sha256": head.digest,
        "task": head.task,
        "names": list(head.names),
        "output": "logits" if logits else head.config.output_for(head.task),
        "auxiliary": list(chosen.experiment.auxiliary),
        "encoder": {
            "model": spec.model,
            "fingerprint": spec.fingerprint,
            "weights_sha256": spec.weights_sha256,
            "transform": spec.transform.facts(),
            "pooling": spec.pooling,
            "embed_dim": spec.embed_dim,
        },
    }


def check_rows(workspace: Workspace, experiment: Experiment, inputs: int) -> NDArray[np.float32]:
    """(m, inputs): features of real images where there are some, noise for auxiliary columns and where there are none."""
    rows = np.random.default_rng(0).standard_normal((_ROWS, inputs)).astype(np.float32)
    for marker in finished_markers(workspace, experiment.encoder):
        if marker.ok:
            found = shards.read(marker.payload, marker.arrays)["global_pool"][:_ROWS]
            rows = rows[: len(found)]
            rows[:, : found.shape[1]] = found
            break
    return rows


def check_images(spec: EncoderSpec) -> NDArray[np.uint8]:
    """(m, h, w, 3): a gradient under more and more noise."""
    height, width = spec.transform.image_size
    noise = np.random.default_rng(0).integers(0, 256, (_IMAGES, height, width, 3))
    ramp = np.linspace(0, 255, width).astype(np.int64)[None, None, :, None]
    share = np.linspace(0, 1, _IMAGES)[:, None, None, None]
    return np.asarray(noise * share + ramp * (1 - share)).astype(np.uint8)
