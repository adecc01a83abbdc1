import json

import numpy as np
import pytest
import torch

from headstart.experiments.heads.trained_head import read_head
from headstart.experiments.runs.head_experiment import head_path, read_head_experiment
from headstart.experiments.runs.recipe_experiment import list_recipe_experiments, options_of, recipe_of, splits_of
from headstart.experiments.training.data.batch import Step
from headstart.experiments.training.data.keys import Key
from headstart.experiments.training.state.final_weights import read_final
from headstart.features.encoders.saved import read_weights
from headstart.features.encoders.spec import read_encoder
from headstart.features.networks.architectures import build
from headstart.features.networks.stages import run_chain, split_names
from headstart.pipeline.errors import HeadstartError
from headstart.pipeline.workspace import open_workspace
from tests.commands.calling import call

from .on_fake_gpu import ends_as_on_the_cpu
from .test_classify import photos

ENCODER = ("--encoder", "test_resnet", "--weights", "random:0", "--image-size", 32)
QUICK = ("--epochs", 2, "--batch-size", 16, "--threads", 1, "--learning-rate", 1e-2)


@pytest.fixture(scope="module")
def headed(tmp_path_factory):
    """A workspace with features and a trained head."""
    root = tmp_path_factory.mktemp("finetune")
    data = photos(root / "photos", count=30)
    workspace = root / "workspace"
    assert call("enqueue", data, *ENCODER, "-w", workspace).status == 0
    assert call("work", "--device", "cpu", "-w", workspace).status == 0
    assert call("train-head", "--epochs", 2, "-w", workspace).status == 0
    return open_workspace(workspace)


def finetune(workspace, *arguments):
    return call("train", "finetune", *QUICK, *arguments, "-w", workspace.root)


def finetuned(workspace, name, *arguments):
    done = finetune(workspace, "--name", name, *arguments)
    assert done.status == 0, done.errors
    return next(found for found in list_recipe_experiments(workspace) if found.name == name)


def metrics_of(experiment):
    return json.loads((experiment.folder / "metrics.json").read_text())


@pytest.mark.parametrize("way", ["cut", "images"])
def test_what_lies_before_the_blocks_keeps_every_bit_statistics_included(way, headed):
    experiment = finetuned(headed, f"frozen-{way}", "--way", way)
    folder = next(headed.features.glob("encoder_*"))
    before = read_weights(folder, read_encoder(folder))
    # The last state and not the best one, which may be that of the first step.
    [path] = experiment.checkpoints.glob("step_*.pt")
    state = torch.load(path, weights_only=True)["model"]
    after = {name.removeprefix("network."): tensor for name, tensor in state.items() if name.startswith("network.")}
    back = tuple(read_final(experiment.final_weights).about["back"])
    trained = {name for name in before if not torch.equal(before[name], after[name])}
    assert trained
    assert all(name.startswith(tuple(f"{one}." for one in back)) for name in trained)
    assert any("running_mean" in name for name in trained)


def test_both_ways_are_planned_before_it_begins_and_by_a_dry_run(headed):
    options = ("--blocks", 2, "--seed", 5)
    before = sorted(headed.root.glob("experiments/exp_*"))
    ways = {way["name"]: way for way in finetune(headed, *options, "--dry-run", "--json").json["ways"]}
    assert sorted(headed.root.glob("experiments/exp_*")) == before
    assert [way["is_chosen"] for way in ways.values()] == [True, False]
    assert ways["images"]["disk_bytes"] == ways["images"]["before_s"] == 0 < ways["cut"]["disk_bytes"]
    assert ways["cut"]["step_s"] < ways["images"]["step_s"]
    assert ways["cut"]["steps"] == ways["images"]["steps"]
    said = finetune(headed, *options).errors
    assert "plan: cut:" in said
    assert "plan: images:" in said
    assert "plan:" not in finetune(headed, *options).errors


def test_it_begins_as_the_head_and_says_what_was_gained_on_the_same_rows_in_pairs(headed):
    metrics = metrics_of(finetuned(headed, "gain", "--head", 1))
    head = json.loads((headed.experiments / "exp_0001_linear" / "metrics.json").read_text())["heads"][0]
    assert metrics["start"]["test"]["accuracy"] == head["test"]["accuracy"]
    assert metrics["gain"]["test"]["value"] == metrics["test"]["accuracy"] - metrics["start"]["test"]["accuracy"]
    assert metrics["gain"]["test"]["interval"][0] is not None


def test_before_the_first_step_it_says_to_the_bit_what_the_head_says_and_then_less_surely(headed):
    experiment = finetuned(headed, "softened", "--head", 1, "--softening", 16)
    recipe, options = recipe_of(experiment), options_of(experiment, recipe_of(experiment))
    splits = splits_of(headed, experiment, recipe, options)
    model, batch = recipe.model(options, splits.facts), splits.train.batch(np.arange(8), None)
    recipe.start(model, options, splits.facts, headed)
    features = batch.activations.float()
    with torch.no_grad():
        pooled = model.network.forward_head(run_chain(model.network, model.back, features))
        expected = read_head(head_path(read_head_experiment(headed, headed.experiments / "exp_0001_linear"), "linear")).module()(
            pooled
        )
        before = model.from_cut(features)
        recipe.loss(model, batch, Step(0, 0, options, splits.facts, Key((0,)), "cpu", 8, 0, 8))
        after = model.from_cut(features)
    assert torch.equal(before, expected)
    assert torch.equal(after * 16, before)


def test_a_head_that_no_step_beats_is_kept(headed):
    done = finetune(headed, "--name", "kept", "--learning-rate", 100)
    assert "no step beat what it started from on validation, so that is kept" in done.output
    assert "loss none" not in done.errors  # before the first step there is none
    experiment = next(found for found in list_recipe_experiments(headed) if found.name == "kept")
    assert metrics_of(experiment)["best"]["step"] == 0


def test_the_activations_are_what_the_front_makes_of_image_and_mirror_image(headed):
    finetuned(headed, "activations")
    folder = next(headed.features.glob("activations_*"))
    payload = np.load(sorted(folder.glob("shards/*/*.npz"))[0])
    encoder = next(headed.features.glob("encoder_*"))
    spec = read_encoder(encoder)
    network = build(spec.model, spec.model_args)
    front, back = split_names(network, 2, spec.transform.image_size)
    assert payload["activations"].dtype == np.float16
    assert payload["activations"].shape[1] == 2
    flipped = payload["activations"][:, 1]
    assert not np.array_equal(payload["activations"][:, 0], flipped)
    whole = torch.randn(2, 3, 32, 32)
    with torch.inference_mode():
        assert torch.allclose(
            run_chain(network, back, run_chain(network, front, whole)), network.forward_features(whole), atol=1e-5
        )


def test_both_ways_predict_new_images_and_are_exported(headed, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    finetuned(headed, "served")
    runs = call("runs", "--json", "-w", headed.root).json["runs"]
    number = next(one["run"] for one in runs if one["experiment"].endswith("_served"))
    image = next((headed.root.parent / "photos" / "light").glob("*.png"))
    said = call("predict", image, "--run", number, "--json", "-w", headed.root)
    assert set(said.json["predictions"][0]["probabilities"]) == {"dark", "light"}
    exported = call("export", "--run", number, "--json", "-w", headed.root)
    assert exported.status == 0, exported.errors
    assert call("evaluate", number, "-w", headed.root).status == 0


def test_the_same_command_finds_the_finished_training_although_heads_were_trained_since(headed):
    experiment = finetuned(headed, "again", "--head", 1)
    assert experiment.settled["head"] == "exp_0001_linear/linear"
    assert call("train-head", "--epochs", 1, "--hidden", 8, "-w", headed.root).status == 0
    assert "is finished" in finetune(headed, "--name", "again", "--head", 1).errors


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        pytest.param(("--blocks", 9), "--blocks is 9, expected 1 to 3", id="more blocks than there are"),
        pytest.param(("--head", "77"), "77", id="no such head"),
    ],
)
def test_what_cannot_be_is_one_line(arguments, reason, headed):
    done = finetune(headed, *arguments)
    assert done.status == 1
    assert reason in done.reason


def test_a_network_that_is_no_chain_is_refused():
    with pytest.raises(HeadstartError, match="cannot be cut before its last ones"):
        split_names(build("test_vit", {}), 1, (160, 160))


def test_without_a_head_it_says_which_command_makes_one(tmp_path):
    data = photos(tmp_path / "photos", count=12)
    assert call("enqueue", data, *ENCODER, "-w", tmp_path / "workspace").status == 0
    done = finetune(open_workspace(tmp_path / "workspace"))
    assert done.status == 1
    assert "headstart train-head" in done.reason


@pytest.mark.parametrize("way", ["cut", "images"])
def test_a_gpu_of_apple_s_is_asked_for_nothing_that_it_lacks(way, headed, monkeypatch):
    ends_as_on_the_cpu(("finetune", "--way", way, *QUICK), headed.root, monkeypatch, f"finetune_{way}")
