import contextlib
import json
import os
import shutil
import socket
from types import SimpleNamespace

import pytest

from headstart.experiments.tracking.guarded import Guarded
from headstart.experiments.tracking.tensorboard import TensorBoard
from headstart.experiments.training.conduct import Conduct
from headstart.pipeline import paths
from headstart.pipeline.errors import HeadstartError, InterruptedWork
from tests.commands.calling import call
from tests.experiments.training.loops import IDENTITY, begun, keeper, leave_after


@pytest.fixture
def accumulator():
    module = pytest.importorskip(
        "tensorboard.backend.event_processing.event_accumulator",
        reason="TensorBoard is not installed: pip install 'headstart[tensorboard]'",
    )

    def read(folder):
        found = module.EventAccumulator(str(folder), size_guidance={"scalars": 0, "images": 0})
        found.Reload()
        return found

    return read


def left_three_times(name, folder, tracker_of, **options):
    for moment in (5, 9, 14):
        loop = begun(name, folder, Conduct(save_every=3), **options)
        with pytest.raises(InterruptedWork):
            loop.run(None if moment == 14 else keeper(folder), IDENTITY, leave_after(moment), [tracker_of()])
    tracker = tracker_of()
    loop = begun(name, folder, **options)
    loop.run(keeper(folder), IDENTITY, listeners=[tracker])
    tracker.ended(folder)
    return loop


def test_tensorboard_has_every_scalar_once_in_order_after_three_ends(accumulator, tmp_path):
    from headstart.experiments.tracking.tensorboard import TensorBoard

    loop = left_three_times("tiny", tmp_path / "states", lambda: TensorBoard(tmp_path / "events"))
    found = accumulator(tmp_path / "events")
    assert [event.step for event in found.Scalars("Train/BatchLoss")] == list(range(1, loop.steps + 1))
    assert [event.step for event in found.Scalars("Train/GradientNorm")] == list(range(1, loop.steps + 1))
    entries = loop.progress.history
    for tag, split, number in (
        ("Epoch/TrainLoss", "train", "loss"),
        ("Epoch/ValLoss", "val", "loss"),
        ("Epoch/ValAcc", "val", "accuracy"),
    ):
        scalars = found.Scalars(tag)
        assert [event.step for event in scalars] == [entry["step"] for entry in entries]
        assert [event.value for event in scalars] == pytest.approx([entry[split][number] for entry in entries])


def test_the_confusion_matrix_is_a_picture_every_five_evaluations(accumulator, tmp_path):
    from headstart.experiments.tracking.tensorboard import TensorBoard

    begun("tiny", epochs=6).run(None, IDENTITY, listeners=[TensorBoard(tmp_path)])
    found = accumulator(tmp_path)
    assert [picture.step for picture in found.Images("Validation/ConfusionMatrix")] == [5 * 20]


def test_steps_are_in_order_where_a_process_began_in_the_second_of_the_one_before(accumulator, tmp_path, monkeypatch):
    """Names of files end with the process, whose numbers begin again from below."""
    for process, step in ((32_766, 1), (300, 2), (9_999, 3)):
        monkeypatch.setattr(os, "getpid", lambda process=process: process)
        tracker = TensorBoard(tmp_path)
        tracker.stepped(SimpleNamespace(numbers={"loss": 0.5}, step=step))
        tracker.ended(tmp_path)
    assert [event.step for event in accumulator(tmp_path).Scalars("Train/BatchLoss")] == [1, 2, 3]


def test_mlflow_has_every_number_once_in_one_run_after_three_ends(tmp_path, monkeypatch):
    tracking = pytest.importorskip("mlflow.tracking", reason="MLflow is not installed: pip install mlflow")
    # The extra `mlflow` is mlflow-skinny, which talks to servers and has no database of its own.
    pytest.importorskip("mlflow.store.tracking.sqlalchemy_store", reason="mlflow-skinny cannot do sqlite: pip install mlflow")
    from headstart.experiments.tracking.mlflow import MLflow

    place = f"sqlite:///{tmp_path / 'mlflow.db'}"
    folder = tmp_path / "states"
    (folder / "figures").mkdir(parents=True)
    (folder / "figures" / "curves.png").write_bytes(b"a picture")
    monkeypatch.chdir(tmp_path)  # there it keeps its artifacts
    loop = left_three_times("tiny", folder, lambda: MLflow(place, "name", IDENTITY, {"epochs": 3}), epochs=5)
    client = tracking.MlflowClient(place)
    [run] = client.search_runs([client.get_experiment_by_name("headstart").experiment_id])
    assert run.data.params == {"epochs": "3"}
    assert {"val_accuracy", "val_loss", "train_loss", "learning_rate"} <= run.data.metrics.keys()
    for name in run.data.metrics:
        steps = [metric.step for metric in client.get_metric_history(run.info.run_id, name)]
        assert steps == [entry["step"] for entry in loop.progress.history], name
    assert [file.path for file in client.list_artifacts(run.info.run_id, "figures")] == ["figures/curves.png"]
    pictures = client.list_artifacts(run.info.run_id, "Validation/ConfusionMatrix")
    assert [file.path for file in pictures] == ["Validation/ConfusionMatrix/step_0000000100.png"]


class Failing:
    def began(self, step, steps):
        raise OSError(30, "Read-only file system")


def test_a_tracker_that_fails_is_named_once_and_costs_nothing():
    said = []
    loop = begun("tiny", epochs=2)
    loop.run(None, IDENTITY, listeners=[Guarded(Failing, said.append)])
    assert loop.progress.step == loop.steps
    [line] = said
    assert "Read-only file system" in line
    assert "The training goes on without it" in line


@pytest.mark.parametrize("what", ["a file", "a link that leads nowhere", "a folder that must not be written"])
def test_a_folder_of_tensorboard_that_cannot_be_written_is_one_line_and_the_training_is_complete(what, tmp_path, monkeypatch):
    pytest.importorskip("tensorboard", reason="TensorBoard is not installed")
    monkeypatch.setenv("HEADSTART_CONFIG", str(tmp_path / "configuration"))
    workspace = ("-w", tmp_path / "workspace")
    words = ("train", "tiny", "--epochs", 1, "--tensorboard")
    assert call(*words, "--time-limit", "0s", *workspace).status == 10
    place = tmp_path / "workspace" / "experiments" / "exp_0001_tiny" / "tensorboard"
    if place.is_dir():
        shutil.rmtree(place)
    if what == "a file":
        place.write_text("not a folder")
    elif what == "a link that leads nowhere":
        place.symlink_to(tmp_path / "nowhere" / "at all")
    else:
        # A user who may write everything is not stopped by the folder's mode.
        monkeypatch.setattr("torch.utils.tensorboard.SummaryWriter", not_permitted)
    done = call(*words, *workspace)
    assert done.status == 0, done.errors
    [line] = [line for line in done.errors.splitlines() if line.startswith("note: ")]
    assert "TensorBoard cannot write" in line
    assert "The training goes on without it" in line
    assert json.loads((place.parent / "metrics.json").read_text())["steps"] == 20


@pytest.mark.parametrize("what", ["the folder is a link", "a file is a link", "a pipe", "a pipe deeper", "a socket"])
def test_what_is_no_file_of_tensorboard_is_one_line_and_nothing_outside_is_opened(what, tmp_path):
    outside, root = tmp_path / "outside", tmp_path / "w"
    outside.mkdir()
    (outside / "events.out.tfevents.1").write_text("thesis")
    paths.enter(root)
    place = root / "tensorboard"
    (root if what == "the folder is a link" else place / "deeper").mkdir(parents=True)
    events = place / "events.out.tfevents.1"
    if what == "the folder is a link":
        place.symlink_to(outside)
    elif what == "a file is a link":
        events.symlink_to(outside / "events.out.tfevents.1")
    elif what == "a socket":
        with socket.socket(socket.AF_UNIX) as bound, contextlib.chdir(place):
            bound.bind(events.name)
    else:
        os.mkfifo(place / "deeper" / events.name if what == "a pipe deeper" else events)
    with pytest.raises(HeadstartError, match=r"TensorBoard cannot write .* is a "):
        TensorBoard(place)
    assert sorted(os.listdir(outside)) == ["events.out.tfevents.1"]


def not_permitted(folder):
    raise PermissionError(13, "Permission denied", folder)


@pytest.mark.parametrize("option", [("--tensorboard",), ("--mlflow", "http://127.0.0.1:9")])
def test_a_tracker_that_is_not_there_is_one_line_and_the_training_is_complete(option, tmp_path, monkeypatch):
    monkeypatch.setenv("HEADSTART_CONFIG", str(tmp_path / "configuration"))
    folder = tmp_path / "workspace" / "experiments" / "exp_0001_tiny"
    folder.mkdir(parents=True)
    folder.rmdir()
    if option == ("--tensorboard",):
        import sys

        monkeypatch.setitem(sys.modules, "tensorboard.backend.event_processing.event_accumulator", None)
    done = call("train", "tiny", "--epochs", 1, *option, "-w", tmp_path / "workspace")
    assert done.status == 0, done.errors
    [line] = [line for line in done.errors.splitlines() if line.startswith("note: ")]
    assert "The training goes on without it" in line
    assert json.loads((folder / "metrics.json").read_text())["steps"] == 20
