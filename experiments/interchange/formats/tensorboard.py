"""A folder for TensorBoard's projector: `tensorboard --logdir FOLDER`, tab Projector. Nothing of it is needed here."""

from __future__ import annotations

import io

import numpy as np

from headstart.experiments.interchange.table import FeatureTable
from headstart.pipeline.text import escape

IS_FOLDER = True
SUFFIX = ""
NEEDS = ("numpy", "")
_SHOWN = ("path", "label", "split")
_CONFIG = 'embeddings {\n  tensor_name: "features"\n  tensor_path: "features.tsv"\n  metadata_path: "metadata.tsv"\n}\n'


def files(table: FeatureTable) -> dict[str, bytes]:
    buffer = io.BytesIO()
    np.savetxt(buffer, np.asarray(table.features, np.float32), fmt="%.6g", delimiter="\t")
    rows = zip(*(table.texts[name] for name in _SHOWN), strict=True)
    lines = ["\t".join(_SHOWN), *("\t".join(map(escape, row)) for row in rows)]
    return {
        "features.tsv": buffer.getvalue(),
        "metadata.tsv": ("\n".join(lines) + "\n").encode(),
        "projector_config.pbtxt": _CONFIG.encode(),
    }
