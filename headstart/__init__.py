"""Headstart: image features and small heads as resumable micro-jobs on a file-based queue.

In a checkout the rooms of the house stand beside this folder, in a wheel inside it; both answer to `headstart.pipeline`,
`headstart.features` and so on, so no common word such as `jobs` becomes a top-level name of anybody's environment.
"""

import os
from importlib import import_module
from pathlib import Path
from typing import Any

__version__ = "0.1.0"

# Before anything imports ONNX Runtime, whose wheels send telemetry unless told so by then: its own function comes too late.
os.environ["ORT_DISABLE_TELEMETRY"] = "1"
os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")  # likewise what the hub's library tells of the machine
# Before anything imports torch, which reads it then: what Apple's GPUs lack of its operators the CPU computes.
os.environ.setdefault("PYTORCH_ENABLE_MPS_FALLBACK", "1")

_HERE = Path(__file__).resolve().parent
if not (_HERE / "pipeline").is_dir():  # a checkout
    __path__ = [str(_HERE), str(_HERE.parent)]

_PUBLIC = {
    "ingest_results": "headstart.features.sources.results.ingest",
    "enqueue_images": "headstart.features.planning.enqueue",
    "plan": "headstart.features.planning.plan",
    "train_heads": "headstart.experiments.train_heads",
    "train_recipe": "headstart.experiments.train_recipe",
    "make_items": "headstart.experiments.make_items",
    "open_made": "headstart.experiments.making.made_items",
    "list_data": "headstart.features.planning.data_sets",
    "list_runs": "headstart.experiments.runs.catalog",
    "show_run": "headstart.experiments.evaluation.record",
    "compare_runs": "headstart.experiments.evaluation.evaluate_run",
    "evaluate_run": "headstart.experiments.evaluation.evaluate_run",
    "evaluate_abstractor": "headstart.experiments.evaluation.evaluate_abstractor",
    "evaluate_designs": "headstart.experiments.evaluation.evaluate_designs",
    "evaluate_handwriting": "headstart.experiments.evaluation.evaluate_handwriting",
    "predict": "headstart.experiments.serving.predict",
    "export_run": "headstart.experiments.serving.export_run",
    "export_features": "headstart.experiments.interchange.export_features",
    "write_report": "headstart.experiments.report.write_report",
    "audit_data": "headstart.experiments.audit.audit_data",
    "correct_labels": "headstart.features.manifest.corrections",
    "run_job": "headstart.pipeline.worker",
    "load_features": "headstart.features.store.load",
    "open_maps": "headstart.features.store.maps",
    "open_patch_maps": "headstart.features.store.maps",
    "load_cached_features": "headstart.features.store.packing",
    "create_classifier_head": "headstart.experiments.heads.trained_head",
    "train_head_only": "headstart.experiments.heads.trainer",
    "BaselineOptions": "headstart.experiments.config",
    "EncoderRequest": "headstart.features.encoders.resolve",
    "HeadConfig": "headstart.experiments.config",
    "PatchRequest": "headstart.features.planning.patches",
    "TrainingOptions": "headstart.experiments.config",
    "Workspace": "headstart.pipeline.workspace",
}
__all__ = [
    "BaselineOptions",
    "EncoderRequest",
    "HeadConfig",
    "PatchRequest",
    "TrainingOptions",
    "Workspace",
    "__version__",
    "audit_data",
    "compare_runs",
    "correct_labels",
    "create_classifier_head",
    "enqueue_images",
    "evaluate_abstractor",
    "evaluate_designs",
    "evaluate_handwriting",
    "evaluate_run",
    "export_features",
    "export_run",
    "ingest_results",
    "list_data",
    "list_runs",
    "load_cached_features",
    "load_features",
    "make_items",
    "open_made",
    "open_maps",
    "open_patch_maps",
    "plan",
    "predict",
    "run_job",
    "show_run",
    "train_head_only",
    "train_heads",
    "train_recipe",
    "write_report",
]


def __getattr__(name: str) -> Any:
    # Lazy, because `import headstart` also stands at the start of every command, and some commands answer in milliseconds.
    if name in _PUBLIC:
        return getattr(import_module(_PUBLIC[name]), name)
    raise AttributeError(f"module 'headstart' has no attribute {name!r}")
