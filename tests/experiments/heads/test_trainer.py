import json
from dataclasses import replace

import numpy as np
import pytest
import torch

from headstart.experiments.config import HeadConfig, TrainingOptions
from headstart.experiments.data.feature_source import ArrayFeatures
from headstart.experiments.heads import pass_plan
from headstart.experiments.heads.trainer import Trainer, train
from headstart.experiments.training.state.checkpoints import Checkpoints
from headstart.pipeline.errors import HeadstartError
from headstart.pipeline.files import FileSystem
from tests.experiments.reference import plain_training, standardized
from tests.experiments.samples import clouds
from tests.experiments.trainings import CLASSES, MIXED, NUMBERS, OPTIONS, SCORE, data_of

AS_PLAIN = {
    "linear": (CLASSES, HeadConfig(), OPTIONS),
    "sgd": (CLASSES, HeadConfig(optimizer="sgd", learning_rate=0.05), OPTIONS),
    "mlp": (CLASSES, HeadConfig(hidden=(24,)), OPTIONS),
    "three hidden layers": (CLASSES, HeadConfig(hidden=(24, 16, 8)), OPTIONS),
    "batch norm": (CLASSES, HeadConfig(hidden=(24, 16), batch_norm=True), OPTIONS),
    "batch norm with a single row left": (CLASSES, HeadConfig(hidden=(24,), batch_norm=True), replace(OPTIONS, batch_size=239)),
    "sigmoid of classes": (CLASSES, HeadConfig(hidden=(24,), output="sigmoid", label_smoothing=0.1), OPTIONS),
    "smoothing": (CLASSES, HeadConfig(label_smoothing=0.2), OPTIONS),
    "class weights": (CLASSES, HeadConfig(class_weights="balanced"), OPTIONS),
    "clipping": (CLASSES, HeadConfig(hidden=(24,), clip_norm=0.05), OPTIONS),
    "clipping with sgd": (CLASSES, HeadConfig(optimizer="sgd", clip_norm=0.05, learning_rate=0.1), OPTIONS),
    "accumulation": (CLASSES, HeadConfig(hidden=(24,)), replace(OPTIONS, accumulation=3)),
    "weight decay": (CLASSES, HeadConfig(weight_decay=5.0, learning_rate=0.01), OPTIONS),
    "no warm-up": (CLASSES, HeadConfig(), replace(OPTIONS, warmup=0.0)),
    "long warm-up": (CLASSES, HeadConfig(), replace(OPTIONS, warmup=0.9)),
    "numbers": (NUMBERS, HeadConfig(hidden=(24,)), OPTIONS),
    "sigmoid of a number": (SCORE, HeadConfig(hidden=(24, 8), batch_norm=True, output="sigmoid"), OPTIONS),
}


@pytest.mark.parametrize(("data", "config", "options"), AS_PLAIN.values(), ids=AS_PLAIN)
def test_it_computes_what_torch_modules_and_optimizers_compute(data, config, options):
    module, history = plain_training(data, config, options)
    trainer = Trainer(data, [config], options)
    trainer.run(None, lambda: None, lambda *_: None)
    ours = trainer.lanes[0].parameters
    for number, (block, parameter) in enumerate(zip(ours.views(ours.values, 0), module.parameters(), strict=True)):
        # BatchNorm takes the bias before it away again: its gradient is rounding, which AdamW makes as large as any other.
        if not (config.batch_norm and number % 4 == 1):
            assert (block.view(parameter.shape) - parameter).abs().max() < 2e-5
    assert [entry["train_loss"] for entry in trainer.progress[0].history] == pytest.approx(history, rel=1e-5)
    with torch.no_grad():
        wanted = module(standardized(data, data.val))
    found = trainer.lanes[0].scores(standardized(data, data.val))[0].T
    assert (found - wanted).abs().max() < (1e-3 if config.batch_norm else 1e-4)


@pytest.mark.parametrize("number", range(len(MIXED)), ids=[head.name for head in MIXED])
def test_a_head_alone_ends_as_it_ends_among_others(number, among_others):
    # Not the same bits: how BLAS splits a product depends on its width.
    alone = train(CLASSES, [MIXED[number]], OPTIONS)[0]
    beside = among_others[number]
    assert alone.best_epoch == beside.best_epoch
    for (left, bias), (right, other) in zip(alone.head.layers, beside.head.layers, strict=True):
        assert np.abs(left - right).max() < 1e-5 * np.abs(right).max()
        assert np.abs(bias - other).max() < 1e-5 * max(1, np.abs(other).max())


@pytest.fixture(scope="module")
def among_others():
    return train(CLASSES, MIXED, OPTIONS)


@pytest.mark.parametrize(
    "change",
    [
        {"learning_rate": 2e-3}, {"weight_decay": 1.0},
        {"label_smoothing": 0.1}, {"dropout": 0.2}, {"noise": 0.1}, {"mixup": 0.2},
        {"clip_norm": 0.01}, {"class_weights": "balanced"}, {"seed": 1}, {"activation": "gelu"}, {"batch_norm": True},
        {"output": "sigmoid"}, {"optimizer": "sgd"}, {"hidden": (20,)},
    ],
    ids=lambda change: next(iter(change)),
)  # fmt: skip
def test_every_option_of_a_head_changes_it(change):
    base = HeadConfig(hidden=(24,))
    before, after = train(CLASSES, [base, replace(base, name="changed", **change)], replace(OPTIONS, epochs=1))
    assert before.head.digest != after.head.digest


def test_the_usual_weight_decay_is_that_of_the_optimizer():
    adamw = HeadConfig()
    sgd = replace(adamw, optimizer="sgd")
    given = [replace(head, name="given", weight_decay=head.decay) for head in (adamw, sgd)]
    assert [head.decay for head in (adamw, sgd, replace(sgd, weight_decay=0.0))] == [0.3, 0.01, 0.0]
    for head, same in zip((adamw, sgd), given, strict=True):
        found = train(CLASSES, [head, same], replace(OPTIONS, epochs=1))
        assert found[0].head.digest == found[1].head.digest


@pytest.mark.parametrize(
    "change",
    [{"epochs": 2}, {"batch_size": 31}, {"accumulation": 2}, {"warmup": 0.5}, {"seed": 1}],
    ids=lambda change: next(iter(change)),
)
def test_every_option_of_a_pass_changes_its_heads(change):
    found = [train(CLASSES, [HeadConfig()], options)[0].head.digest for options in (OPTIONS, replace(OPTIONS, **change))]
    assert found[0] != found[1]


def test_shuffling_by_blocks_changes_the_order_and_still_learns():
    data = data_of(clouds(2000))
    rows, blocks = (train(data, [HeadConfig()], replace(OPTIONS, by_blocks=by_blocks))[0] for by_blocks in (False, True))
    assert rows.head.digest != blocks.head.digest
    assert abs(rows.best_score - blocks.best_score) < 0.03


def test_the_same_pass_gives_the_same_bits():
    first, second = (train(CLASSES, MIXED, OPTIONS) for _ in range(2))
    assert [outcome.head.digest for outcome in first] == [outcome.head.digest for outcome in second]


def test_auxiliary_columns_are_scaled_on_the_training_rows_only():
    columns = np.random.default_rng(0).standard_normal((400, 1)).astype(np.float32)
    changed = columns.copy()
    changed[CLASSES.val] += 100
    scalings = [Trainer(replace(CLASSES, auxiliary=found), [HeadConfig()], OPTIONS).scaling.mean for found in (columns, changed)]
    assert np.array_equal(*scalings)


def test_a_constant_channel_does_not_disturb():
    made = clouds()
    features = made.source.features.copy()
    features[:, 3] = 7
    data = data_of(made._replace(source=ArrayFeatures(features)))
    head = train(data, [HeadConfig(hidden=(8,))], OPTIONS)[0].head
    assert np.isfinite(head.scores(data.source, data.val)).all()


def test_momentum_changes_a_head():
    base = HeadConfig(hidden=(24,), optimizer="sgd")
    before, after = train(CLASSES, [base, replace(base, name="changed", momentum=0.5)], replace(OPTIONS, epochs=1))
    assert before.head.digest != after.head.digest


def test_bfloat16_changes_a_head_and_it_still_learns():
    head = HeadConfig(hidden=(24,), learning_rate=0.01)
    plain, rough = (train(CLASSES, [head], replace(OPTIONS, amp=amp, float32=not amp))[0] for amp in (False, True))
    assert plain.head.digest != rough.head.digest
    assert abs(plain.best_score - rough.best_score) < 0.05


def test_linear_heads_and_logits_are_never_rounded():
    """A linear head is what its gradient makes it to the last digit; a hidden layer stands more."""
    heads = [HeadConfig(), HeadConfig(name="deep", hidden=(24,))]
    plain, short = (train(CLASSES, heads, replace(OPTIONS, amp=amp, float32=not amp)) for amp in (False, True))
    assert plain[0].head.digest == short[0].head.digest
    assert plain[1].head.digest != short[1].head.digest


HIDDEN = [HeadConfig(hidden=(24,), dropout=0.2)]
UNSAID = replace(OPTIONS, float32=False)
SHORT = {
    "classes, instructions": (UNSAID, "classification", True, True),
    "no instructions": (UNSAID, "classification", False, False),
    "numbers": (UNSAID, "regression", True, False),
    "a GPU": (replace(UNSAID, device="cuda"), "classification", True, False),
    "refused": (OPTIONS, "classification", True, False),
    "asked for": (replace(UNSAID, amp=True), "regression", False, True),
}


@pytest.mark.parametrize(("options", "task", "has_bfloat16", "is_short"), SHORT.values(), ids=SHORT)
def test_hidden_layers_multiply_in_bfloat16_where_that_is_faster_and_enough(monkeypatch, options, task, has_bfloat16, is_short):
    monkeypatch.setattr(pass_plan, "has_bfloat16", lambda: has_bfloat16)
    assert pass_plan.has_short_products(options, task) is is_short


def test_both_precisions_at_once_are_refused():
    with pytest.raises(HeadstartError, match="Ask for one of them"):
        TrainingOptions(amp=True, float32=True)


def test_a_training_in_bfloat16_that_was_asked_for_is_another_one():
    asked = [replace(UNSAID, amp=True), OPTIONS, UNSAID]
    assert len({pass_plan.plan_pass(CLASSES, HIDDEN, options).identity for options in asked}) == 3


class Left(Exception):
    """Half-way."""


@pytest.mark.parametrize("begins_with", [True, False], ids=["with instructions", "without"])
def test_the_machine_that_begins_decides_and_another_goes_on_in_the_same_numbers(monkeypatch, tmp_path, begins_with):
    def on(machine):
        monkeypatch.setattr(pass_plan, "has_bfloat16", lambda: machine)

    on(begins_with)
    asked = replace(UNSAID, amp=not begins_with, float32=begins_with)
    whole, other = (train(CLASSES, HIDDEN, options)[0] for options in (UNSAID, asked))
    assert (whole.is_short, other.is_short) == (begins_with, not begins_with)
    assert whole.head.digest != other.head.digest
    keeper, calls = Checkpoints(tmp_path, FileSystem()), []

    def leave():
        calls.append(0)
        if len(calls) == 3:
            raise Left

    with pytest.raises(Left):
        train(CLASSES, HIDDEN, UNSAID, keeper, leave)
    on(not begins_with)
    again = train(CLASSES, HIDDEN, UNSAID, keeper)[0]
    assert (again.head.digest, again.history, again.is_short) == (whole.head.digest, whole.history, begins_with)


def test_what_was_begun_before_there_was_a_choice_goes_on_in_float32(monkeypatch):
    monkeypatch.setattr(pass_plan, "has_bfloat16", lambda: True)
    state = Trainer(CLASSES, HIDDEN, UNSAID).state()
    facts = json.loads(state["facts"])
    assert facts.pop("amp") is True
    assert Trainer(CLASSES, HIDDEN, UNSAID, state={**state, "facts": json.dumps(facts)}).is_short is False
