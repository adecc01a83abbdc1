import pytest

from tests.fake_gpu import fake_gpu

from .training import run

MISTAKES = {
    "an unknown encoder": (("--encoder", "resnet"), "--encoder resnet has no features"),
    "unknown data": (("--data", "nowhere"), "has no features in"),
    "an unknown column": (("--target", "scroe"), "Did you mean 'score'"),
    "a word as an auxiliary number": (("--aux", "label"), "expected a number"),
    "ablation and preset": (("--ablation", "--preset", "mlp"), "give one of them"),
    "ablation and one shape": (("--hidden", "16", "--ablation"), "put it into the grid file"),
    "sigmoid for numbers beyond 1": (
        ("--target", "size", "--task", "regression", "--output", "sigmoid"),
        "a sigmoid output only from 0 to 1",
    ),
    "a validation part where there is a split": (("--val-part", "0.2"), "leave --val-part out"),
    "dropouts that do not fit": (("--hidden", "16", "--dropout", "0.1,0.2"), "expected one part"),
    "logistic regression of numbers": (("--logistic", "--target", "score"), "--logistic needs classes"),
    "more folds than groups": (("--folds", "400"), "360 groups cannot make 400 folds"),
    "one fold": (("--folds", "1"), "x>=2"),
    "no widths": (("--hidden", "wide"), "no list of widths"),
    "no grid": (("--ablation", "nowhere.yaml"), "No such file"),
}


@pytest.mark.parametrize(("words", "said"), MISTAKES.values(), ids=MISTAKES)
def test_a_mistake_is_said_before_anything_is_written(root, words, said):
    error = run(root, *words).exception
    assert error is not None
    assert said in str(getattr(error, "message", error))
    assert not (root / "experiments").exists()


IDLE = {
    "dropout of a linear head": (("--dropout", "0.9"), ["dropout does nothing for linear"]),
    "two settings of hidden layers": (
        ("--batch-norm", "--dropout", "0.2"),
        ["batch_norm does nothing for linear", "dropout does nothing for linear"],
    ),
    "an activation of a linear head": (("--activation", "gelu"), ["activation does nothing for linear"]),
    "momentum of adamw": (("--momentum", "0.5"), ["momentum does nothing for linear"]),
    "label smoothing of numbers": (("--target", "score", "--label-smoothing", "0.1"), ["label_smoothing does nothing"]),
    "class weights of numbers": (("--target", "score", "--class-weights", "balanced"), ["class_weights does nothing"]),
    "nothing of a head with a layer": (("--hidden", "8", "--dropout", "0.2", "--batch-norm", "--activation", "gelu"), []),
    "momentum of sgd": (("--optimizer", "sgd", "--momentum", "0.5"), []),
    "an ablation passes dropout by its linear head": (("--ablation", "--dropout", "0.1"), []),
}


@pytest.mark.parametrize(("words", "said"), IDLE.values(), ids=IDLE)
def test_an_option_that_does_nothing_for_a_head_is_noted(root, words, said):
    done = run(root, *words, "--no-logistic")
    assert done.exception is None, done.exception
    notes = [line for line in done.stderr.splitlines() if "does nothing" in line]
    assert len(notes) == len(said)
    for line, start in zip(notes, said, strict=True):
        assert line.startswith(f"note: {start}")


def test_heads_that_are_asked_for_on_a_gpu_of_apple_s_are_trained_on_the_cpu_and_that_is_noted(root, monkeypatch):
    with fake_gpu(monkeypatch, "mps") as gpu:
        done = run(root, "--device", "mps", "--no-logistic")
        assert gpu.held_bytes() == 0
    assert done.exception is None, done.exception
    [note] = [line for line in done.stderr.splitlines() if "mps" in line]
    assert note == "note: heads are trained on the CPU: by several threads, and nothing says that these may share mps"
