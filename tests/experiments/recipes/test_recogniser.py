"""The recipe recogniser on made-up lines: trained, killed, resumed to the same bits."""

import json
import signal

import pytest

from headstart.experiments.strokes.sources import as_json_lines
from tests.commands.calling import call
from tests.experiments.strokes.made import lines
from tests.support import spawn_python

from .on_fake_gpu import ends_as_on_the_cpu
from .test_handwriting import KILLED

QUICK = ("--rnn-size", 12, "--layers", 2, "--epochs", 20, "--batch-size", 8, "--learning-rate", 0.02)


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    path = tmp_path_factory.mktemp("lines") / "lines.jsonl"
    path.write_text("".join(f"{one}\n" for one in as_json_lines(lines(60, writers=30))))
    return path


@pytest.fixture(scope="module")
def trained(source, tmp_path_factory):
    root = tmp_path_factory.mktemp("recogniser") / "workspace"
    done = call("train", "recogniser", "--lines", source, *QUICK, "-w", root)
    assert done.status == 0, done.errors
    return root / "experiments" / "exp_0001_recogniser"


def test_it_learns_and_says_how_much_it_reads(trained):
    entries = json.loads((trained / "training_history.json").read_text())["entries"]
    losses = [entry["train"]["loss"] for entry in entries]
    assert losses[-1] < 0.8 * losses[0]
    judged = json.loads((trained / "metrics.json").read_text())
    assert judged["judged_by"]["metric"] == "character_error_rate"
    assert judged["test"]["character_error_rate_interval"]
    assert {one["text"] for one in judged["test"]["read"]} <= {"ab", "ba cab", "abc", "c ab a", "bac cab"}


@pytest.fixture(scope="module")
def writing(trained, source):
    """A run of handwriting in the same workspace, on the same lines; numbers of runs by recipe."""
    root = trained.parents[1]
    quick = ("--rnn-size", 8, "--layers", 1, "--mixtures", 2, "--epochs", 1)
    for more in ((), ("--seed", 1, "--name", "other")):
        assert call("train", "handwriting", "--lines", source, *quick, *more, "-w", root).status == 0
    runs = {run["experiment"]: run["run"] for run in json.loads(call("runs", "--json", "-w", root).output)["runs"]}
    return root, runs["exp_0002_handwriting"], runs["exp_0003_other"], runs["exp_0001_recogniser"]


def test_what_a_network_writes_is_read_beside_what_people_wrote(writing):
    root, writer, _, reader = writing
    done = call("evaluate", writer, "--reader", reader, "--json", "-w", root)
    assert done.status == 0, done.errors
    said = json.loads(done.output)
    assert list(said["numbers"]) == ["real", "bias 0", "bias 0.5", "bias 1", "bias 2", "primed"]
    judged = json.loads((root / "experiments" / "exp_0001_recogniser" / "metrics.json").read_text())["test"]
    assert said["numbers"]["real"]["character_error_rate"] == pytest.approx(judged["character_error_rate"])
    assert call("evaluate", writer, "--reader", reader, "--json", "-w", root).output == done.output
    shown = call("evaluate", writer, "--reader", reader, "-w", root).output
    assert "written by people and by exp_0002_handwriting, read by exp_0001_recogniser" in shown
    assert "characters wrong" in shown
    for name, one in said["numbers"].items():
        assert one["slant_r"] is None or -1 <= one["slant_r"] <= 1, name
    assert said["numbers"]["primed"]["slant_r"] != said["numbers"]["bias 1"]["slant_r"]


def test_who_cannot_judge_is_said(writing):
    root, writer, other, reader = writing
    done = call("evaluate", other, "--reader", reader, "-w", root)
    assert done.status == 1
    assert "so it cannot judge by it. Train both on the same lines with the same --seed" in done.errors
    done = call("evaluate", reader, "--reader", writer, "-w", root)
    assert done.status == 1
    assert f"run {reader} is no finished training that writes, such as one of handwriting" in done.errors


def test_a_kill_in_the_middle_changes_no_bit(trained, source, tmp_path, monkeypatch):
    root = tmp_path / "workspace"
    arguments = ("train", "recogniser", "--lines", source, *QUICK, "--save-every", 1, "-w", root)
    for step in (2, 9):
        monkeypatch.setenv("KILL_AT", str(step))
        process = spawn_python(KILLED, *map(str, arguments))
        assert process.wait(300) == -signal.SIGKILL
    assert call(*arguments).status == 0
    weights = root / "experiments" / "exp_0001_recogniser" / "checkpoints" / "final.safetensors"
    assert weights.read_bytes() == (trained / "checkpoints" / "final.safetensors").read_bytes()


def test_a_gpu_of_apple_s_is_asked_for_nothing_that_it_lacks(source, tmp_path, monkeypatch):
    ends_as_on_the_cpu(("recogniser", "--lines", source, *QUICK), tmp_path / "w", monkeypatch)
