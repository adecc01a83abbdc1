"""One Python call does what each command does: with the same answers, and the same files."""

import pytest

import headstart
from headstart.experiments.config import default_ablation
from headstart.experiments.heads.presets import choose_heads
from headstart.experiments.runs.removal import plan_removal
from headstart.pipeline.errors import HeadstartError

from .calling import call


def test_the_same_heads_by_a_call_are_the_experiment_of_the_command(own):
    heard = []
    again = headstart.train_heads(default_ablation(), own, options=headstart.TrainingOptions(epochs=3), report=heard.append)
    assert again.is_finished
    assert again.experiment.folder.name == "exp_0001_ablation"
    assert any("is finished" in line for line in heard)


def test_a_new_head_is_trained_listed_and_evaluated_by_calls(own):
    trained = headstart.train_heads(workspace=own.root, options=headstart.TrainingOptions(epochs=1), name="one")
    assert trained.is_finished
    assert (trained.experiment.number, [head.name for head in trained.experiment.heads]) == (2, ["linear"])
    lines = headstart.list_runs(own.root)
    assert [line.run.run for line in lines] == list(range(1, 13))  # heads and baselines of two experiments
    evaluation = headstart.evaluate_run(8, own)
    assert evaluation.metrics["accuracy"] == lines[7].test
    assert evaluation.as_json() == call("evaluate", "8", "--json", "-w", own.root).json


def test_predictions_by_a_call_are_those_of_the_command(trained, pictures):
    answers = headstart.predict([pictures], trained, run=2)
    rows = call("predict", pictures, "--run", "2", "--json", "-w", trained.root).json["predictions"]
    assert len(answers.images) == len(rows) == 90
    for answer, row in zip(answers, rows, strict=True):
        assert answer.name == row["path"]
        assert answers.names[answer.answer.argmax()] == row["label"]


def test_columns_beside_an_image_are_given_as_numbers(measured):
    picture = measured.root.parent / "data" / "000.png"
    [answer] = headstart.predict([picture], measured, run=1, auxiliary={"=size": 1, "age": 0.2})
    words = ["--aux", "=size=1", "--aux", "age=0.2", "--json", "-w", measured.root]
    [row] = call("predict", picture, *words, "--run", "1").json["predictions"]
    assert list(answer.answer) == list(row["values"].values())
    with pytest.raises(HeadstartError, match="expected a number"):
        headstart.predict([picture], measured, run=1, auxiliary={"=size": float("nan"), "age": 0.2})


def test_an_export_by_a_call_has_the_bytes_of_the_command(trained, tmp_path):
    written = headstart.export_run(2, trained, output=tmp_path / "ours.onnx")
    assert written.is_new
    assert call("export", "--run", "2", "-o", tmp_path / "theirs.onnx", "-w", trained.root).status == 0
    assert (tmp_path / "ours.onnx").read_bytes() == (tmp_path / "theirs.onnx").read_bytes()
    assert not headstart.export_run(2, trained, output=tmp_path / "ours.onnx").is_new


def test_an_unknown_format_is_refused_in_one_line(trained, tmp_path):
    with pytest.raises(HeadstartError, match="format is 'pickle', expected one of onnx, torchscript, pt2"):
        headstart.export_run(2, trained, form="pickle", output=tmp_path / "head.pickle")


def test_runs_are_shown_and_compared_by_calls(trained):
    assert headstart.show_run(2, trained).record == call("runs", "show", "2", "--json", "-w", trained.root).json
    compared = headstart.compare_runs(1, "best", trained.root)
    assert compared.as_json() == call("runs", "compare", "1", "best", "--json", "-w", trained.root).json
    assert [result["metric"] for result in compared.results] == ["accuracy"]


@pytest.mark.parametrize(
    ("choice", "says"),
    [
        pytest.param({"ablation": "default", "preset": "mlp"}, "--ablation and --preset", id="ablation and preset"),
        pytest.param({"ablation": "default", "changes": {"hidden": (8,)}}, "compares shapes", id="ablation and one shape"),
        pytest.param({"preset": "cubic"}, "expected one of linear, mlp, quality", id="an unknown preset"),
        pytest.param({"seeds": 1001}, "1,001 heads", id="too many seeds"),
    ],
)
def test_a_choice_of_heads_that_cannot_be_meant_is_refused_in_one_line(choice, says):
    with pytest.raises(HeadstartError, match=says):
        choose_heads(**choice)


def test_without_a_word_one_linear_head_is_chosen():
    assert [(head.name, head.hidden) for head in choose_heads()] == [("linear", ())]


def test_a_kind_that_cannot_be_removed_is_refused_in_one_line(trained):
    with pytest.raises(
        HeadstartError, match="kind is 'folder', expected one of run, experiment, encoder, activations, made, patches, data"
    ):
        plan_removal(trained, "folder", "1")
