"""A training's parameters, numbers and files in MLflow, by its own client; a resumed training goes on with the same run."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from headstart.pipeline import paths
from headstart.pipeline.errors import HeadstartError

from .confusion import CONFUSION, confusion_due

if TYPE_CHECKING:
    from headstart.experiments.training.loop import Loop, Taken

EXPERIMENT = "headstart"
_TAG = "headstart.identity"
_TIMEOUT_S = "10"
_LONGEST_PARAMETER = 500


class MLflow:
    """One run, known by the identity of the training."""

    def __init__(self, place: str, name: str, identity: str, parameters: Mapping[str, Any]) -> None:
        """Args: place: of the server or the database, as MLflow's tracking URI.

        Raises: HeadstartError if MLflow is not installed, or the server does not answer.
        """
        import os

        # Before the import: by default a server that is gone is asked for minutes.
        os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", _TIMEOUT_S)
        os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "1")
        try:
            from mlflow.tracking import MlflowClient
        except ImportError:
            raise HeadstartError("--mlflow needs MLflow. Install it: pip install 'headstart[mlflow]'") from None
        try:
            self._client: Any = MlflowClient(place)
            there = self._client.get_experiment_by_name(EXPERIMENT)
            experiment = there.experiment_id if there is not None else self._client.create_experiment(EXPERIMENT)
            mine = self._client.search_runs([experiment], f"tags.`{_TAG}` = '{identity}'")
            run = mine[0] if mine else self._client.create_run(experiment, run_name=name, tags={_TAG: identity})
            self._run = run.info.run_id
            if not mine:
                for key, value in parameters.items():
                    self._client.log_param(self._run, key, str(value)[:_LONGEST_PARAMETER])
        except Exception as error:  # its client raises what its backend raises
            reason = next((line.strip() for line in str(error).splitlines() if line.strip()), "")[:200]
            raise HeadstartError(
                f"MLflow at {place} does not answer ({type(error).__name__}: {reason}). Give the URI of a server, "
                "http://HOST:5000, or of a database, sqlite:///mlflow.db, which needs more of MLflow: pip install mlflow"
            ) from None
        self._written: dict[str, int] = {}

    def began(self, step: int, steps: int) -> None:
        """The run was found or made before."""

    def stepped(self, taken: Taken) -> None:
        """Numbers go there with each evaluation."""

    def judged(self, entry: Mapping[str, Any], loop: Loop) -> None:
        for split in ("train", "val"):
            for name, value in entry[split].items():
                if value is not None:
                    self._metric(f"{split}_{name}", value, entry["step"])
        self._metric("learning_rate", entry["learning_rate"], entry["step"])
        pixels = confusion_due(loop)
        if pixels is not None:  # the same picture again after a kill takes its own place
            self._client.log_image(self._run, pixels, artifact_file=f"{CONFUSION}/step_{entry['step']:010}.png")

    def saving(self, step: int) -> None:
        """Nothing is held back."""

    def saved(self, step: int) -> None:
        """States stay in the workspace; the best weights go there at the end."""

    def ended(self, folder: Path) -> None:
        for name in (
            "checkpoints/final.safetensors",
            "metrics.json",
            "training_history.json",
            "test_results.json",
            "classification_report.txt",
        ):
            if paths.is_file(folder / name):
                self._client.log_artifact(self._run, str(folder / name))
        for place in ("figures", "shown"):
            for path in filter(paths.is_file, paths.matching(folder / place, "*")):
                self._client.log_artifact(self._run, str(path), place)
        self._client.set_terminated(self._run)

    def _metric(self, name: str, value: float, step: int) -> None:
        if name not in self._written:
            history = self._client.get_metric_history(self._run, name)
            self._written[name] = max((metric.step for metric in history), default=-1)
        if step > self._written[name]:
            self._client.log_metric(self._run, name, value, step=step)
            self._written[name] = step
