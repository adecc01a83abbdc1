from dataclasses import replace

import numpy as np
import pytest
import torch

from headstart.experiments.configurations import HeadConfig, TrainingOptions, default_ablation, quality_head
from headstart.experiments.heads import create_classifier_head, read_head
from headstart.experiments.lanes import Lane, Task, split_into_lanes
from headstart.experiments.source import ArrayFeatures
from headstart.experiments.targets import Targets, value_targets
from headstart.experiments.trainer import Trainer
from headstart.experiments.training import TrainingData, train, train_head_only
from headstart.pipeline.errors import HeadstartError

from .reference import plain_training, standardized
from .samples import clouds, line

OPTIONS = TrainingOptions(epochs=3, batch_size=32)


def data_of(made) -> TrainingData:
    return TrainingData(made.source, made.targets, made.train, made.val)


def unit_line(**options):
    """A regression whose targets a sigmoid can reach."""
    made = line(**options)
    values = made.targets.values[:, :1]
    values = (values - values.min()) / np.ptp(values)
    return made._replace(targets=Targets("regression", ("score",), np.empty(0, np.int64), values))


CLASSES, NUMBERS, SCORE = data_of(clouds()), data_of(line()), data_of(unit_line())

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


@pytest.mark.parametrize("optimizer", ["adamw", "sgd"])
def test_a_step_is_that_of_torch_optim_to_1e_6(optimizer):
    heads = [
        HeadConfig(name=str(i), hidden=(5,), optimizer=optimizer, learning_rate=0.01 * (i + 1), weight_decay=0.1 * i)
        for i in range(3)
    ]
    lane = Lane(heads, Task("classification", 7, 3, ()))
    found = lane.parameters
    plain = [[view.clone().requires_grad_() for view in found.views(found.values, head)] for head in range(3)]
    kinds = {"adamw": torch.optim.AdamW, "sgd": torch.optim.SGD}
    extra = {"momentum": 0.9} if optimizer == "sgd" else {}
    theirs = [
        kinds[optimizer](tensors, lr=head.learning_rate, weight_decay=head.weight_decay, **extra)
        for head, tensors in zip(heads, plain, strict=True)
    ]
    random = torch.Generator().manual_seed(0)
    for number in range(1, 20):
        found.gradients.normal_(generator=random)
        for head, tensors in enumerate(plain):
            for tensor, gradient in zip(tensors, found.views(found.gradients, head), strict=True):
                tensor.grad = gradient.clone()
            theirs[head].step()
        found.step(number, 1.0)
    for head, tensors in enumerate(plain):
        for tensor, view in zip(tensors, found.views(found.values, head), strict=True):
            assert (tensor - view).abs().max() <= 1e-6


MIXED = [
    HeadConfig(name="linear"),
    HeadConfig(name="fast", learning_rate=0.01),
    HeadConfig(name="smooth", label_smoothing=0.1, seed=7),
    HeadConfig(name="mixed", mixup=0.4),
    HeadConfig(name="noisy", noise=0.5),
    HeadConfig(name="mlp", hidden=(24,)),
    HeadConfig(name="dropped", hidden=(24,), dropout=0.5),
    HeadConfig(name="dropped otherwise", hidden=(24,), dropout=0.2, seed=3, clip_norm=0.1, class_weights="balanced"),
    HeadConfig(name="wide", hidden=(40,), dropout=0.5, noise=0.1, mixup=0.2),
    HeadConfig(name="normed", hidden=(24, 12), batch_norm=True, dropout=(0.3, 0.1)),
    HeadConfig(name="normed too", hidden=(24, 12), batch_norm=True, dropout=(0.0, 0.2), learning_rate=0.01),
]


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


def test_a_head_takes_raw_features_and_says_what_it_said_on_standardized_ones():
    for data, head in (
        (CLASSES, MIXED[9]),
        (NUMBERS, HeadConfig(hidden=(8,))),
        (SCORE, HeadConfig(hidden=(8,), output="sigmoid")),
    ):
        trainer = Trainer(data, [head], OPTIONS)
        trainer.run(None, lambda: None, lambda *_: None)
        trained = trainer.outcomes()[0].head
        wanted = trainer.lanes[0].scores(standardized(data, data.val), best=True)[0].T.numpy()
        if data is SCORE:
            wanted = 1 / (1 + np.exp(-wanted))
        wanted = wanted * trainer.scaling.target_scale + trainer.scaling.target_mean
        found = trained.scores(data.source, data.val)
        assert np.abs(found - wanted).max() < 1e-4 * np.abs(wanted).max()


def test_the_head_that_is_kept_is_the_one_of_the_best_epoch():
    data = data_of(clouds(120, spread=3.0))
    outcome = train(data, [HeadConfig(hidden=(256,), learning_rate=0.02)], replace(OPTIONS, epochs=12))[0]
    scores = [entry["val_score"] for entry in outcome.history]
    assert outcome.best_epoch < 11
    assert scores[outcome.best_epoch] == max(scores) == outcome.best_score
    said = outcome.head.scores(data.source, data.val).argmax(axis=1)
    assert (said == data.targets.codes[data.val]).mean() == pytest.approx(outcome.best_score)


def test_patience_stops_a_head_alone_and_the_others_go_on():
    data = data_of(clouds(120, spread=3.0))
    heads = [HeadConfig(name="stops", hidden=(256,), learning_rate=0.02), HeadConfig(name="crawls", learning_rate=1e-5)]
    options = replace(OPTIONS, epochs=12, patience=2, monitor="loss")
    stops, crawls = train(data, heads, options)
    assert stops.is_stopped_early
    assert len(stops.history) == stops.best_epoch + 3
    assert not crawls.is_stopped_early
    assert len(crawls.history) == 12


def test_a_stopped_head_costs_no_further_epochs_when_it_was_the_last():
    data = data_of(clouds(120, spread=3.0))
    epochs = []
    head = HeadConfig(hidden=(256,), learning_rate=0.02)
    train(data, [head], replace(OPTIONS, epochs=50, patience=2, monitor="loss"), report=lambda epoch, _: epochs.append(epoch))
    assert epochs == list(range(len(epochs)))
    assert len(epochs) < 49


def test_the_default_ablation_learns_and_beats_chance():
    heads = [replace(head, learning_rate=0.02) for head in default_ablation()]
    outcomes = train(CLASSES, heads, replace(OPTIONS, epochs=8))
    assert [outcome.head.config.name for outcome in outcomes] == ["linear", "mlp-512", "mlp-512-augmented"]
    assert min(outcome.best_score for outcome in outcomes) > 0.6


def test_the_quality_preset_takes_auxiliary_columns_and_is_judged_by_pearson():
    made = unit_line()
    hidden = np.random.default_rng(5).standard_normal((400, 2)).astype(np.float32) * 50 + 1000
    values = 1 / (1 + np.exp(-(hidden[:, :1] - 1000) / 20))
    targets = Targets("regression", ("score",), np.empty(0, np.int64), values.astype(np.float32))
    data = TrainingData(made.source, targets, made.train, made.val, hidden)
    config = replace(quality_head(), learning_rate=3e-3)
    outcome = train(data, [config], TrainingOptions(epochs=10, batch_size=32, monitor="pearson"))[0]
    found = outcome.head.scores(made.source, made.val, hidden)
    assert np.corrcoef(found[:, 0], values[made.val, 0])[0, 1] == pytest.approx(outcome.best_score, abs=1e-4)
    assert outcome.best_score > 0.9
    assert ((found > 0) & (found < 1)).all()
    without = train(replace(data, auxiliary=None), [config], TrainingOptions(epochs=10, batch_size=32, monitor="pearson"))[0]
    assert without.best_score < 0.5


def test_auxiliary_columns_are_scaled_on_the_training_rows_only():
    columns = np.random.default_rng(0).standard_normal((400, 1)).astype(np.float32)
    changed = columns.copy()
    changed[CLASSES.val] += 100
    scalings = [Trainer(replace(CLASSES, auxiliary=found), [HeadConfig()], OPTIONS).scaling.mean for found in (columns, changed)]
    assert np.array_equal(*scalings)


NOTHING = np.empty(0, np.int64)
REFUSED = {
    "no validation": (lambda: TrainingData(CLASSES.source, CLASSES.targets, CLASSES.train, NOTHING), "validation split has no"),
    "no training": (lambda: TrainingData(CLASSES.source, CLASSES.targets, NOTHING, CLASSES.val), "training split has 0 rows"),
    "auxiliary with a hole": (lambda: replace(CLASSES, auxiliary=np.full((400, 1), np.nan, np.float32)), "without a number"),
    "a name twice": (lambda: train(CLASSES, [HeadConfig(), HeadConfig()], OPTIONS), "'linear' names 2 of them"),
    "no heads": (lambda: train(CLASSES, [], OPTIONS), "there are none"),
    "softmax of numbers": (lambda: train(NUMBERS, [HeadConfig(output="softmax")], OPTIONS), "does not fit regression"),
    "sigmoid of large numbers": (lambda: train(NUMBERS, [HeadConfig(output="sigmoid")], OPTIONS), "only from 0 to 1"),
    "two scales": (
        lambda: train(SCORE, [HeadConfig(), HeadConfig(name="b", output="sigmoid")], OPTIONS), "Train them in two runs",
    ),
    "pearson of classes": (lambda: train(CLASSES, [HeadConfig()], replace(OPTIONS, monitor="pearson")), "needs numbers"),
    "accuracy of numbers": (lambda: train(NUMBERS, [HeadConfig()], replace(OPTIONS, monitor="accuracy")), "needs classes"),
    "divergence": (
        lambda: train(NUMBERS, [HeadConfig(hidden=(8,), optimizer="sgd", learning_rate=1e30)], OPTIONS), "rate is too high",
    ),
}  # fmt: skip


@pytest.mark.parametrize(("action", "says"), REFUSED.values(), ids=REFUSED)
def test_what_cannot_be_trained_is_refused_in_one_line(action, says):
    with pytest.raises(HeadstartError, match=says) as caught:
        action()
    assert "\n" not in str(caught.value)


def test_one_head_that_diverges_harms_no_other():
    broken = HeadConfig(name="broken", optimizer="sgd", learning_rate=1e30, hidden=(8,))
    fine, lost = train(NUMBERS, [HeadConfig(hidden=(8,)), broken], OPTIONS)
    assert lost.best_epoch == -1
    assert np.isfinite(fine.best_score)


def test_lanes_do_not_depend_on_the_machine_and_share_a_shape():
    heads = [HeadConfig(name=str(i), learning_rate=1e-3 * (i + 1)) for i in range(30)]
    assert [len(lane) for lane in split_into_lanes(heads, 10)] == [15, 15]
    assert split_into_lanes(MIXED[:4], 10) == [[0, 1, 2, 3]]
    assert split_into_lanes([HeadConfig(), HeadConfig(name="m", hidden=(8,))], 10) == [[0], [1]]


def test_a_saved_head_is_read_back_and_its_module_is_the_head(tmp_path):
    head = train(CLASSES, [MIXED[9]], OPTIONS)[0].head
    (tmp_path / "head.pt").write_bytes(head.encode())
    again = read_head(tmp_path / "head.pt")
    assert again.digest == head.digest
    assert (again.config, again.names, again.task) == (head.config, head.names, head.task)
    rows = CLASSES.source.features[:5].astype(np.float32)
    assert np.array_equal(again.module()(torch.from_numpy(rows)).detach().numpy(), head.apply(rows))
    assert head.encode() == again.encode()


@pytest.mark.parametrize(
    "harm", [lambda d: d[:-40], lambda d: b"", lambda d: b"PK" + d[2:9]], ids=["cut off", "empty", "rubbish"]
)
def test_a_harmed_head_is_refused_in_one_line(tmp_path, harm):
    path = tmp_path / "head.pt"
    path.write_bytes(harm(train(CLASSES, [HeadConfig()], replace(OPTIONS, epochs=1))[0].head.encode()))
    with pytest.raises(HeadstartError, match="Train it again") as caught:
        read_head(path)
    assert "\n" not in str(caught.value)


def test_a_missing_head_is_refused(tmp_path):
    with pytest.raises(HeadstartError, match="does not exist"):
        read_head(tmp_path / "head.pt")


def test_notebooks_train_from_matrices():
    made = clouds()
    splits = np.array(["train"] * 240 + ["val"] * 160)
    labels = [made.targets.names[code] for code in made.targets.codes]
    outcome = train_head_only(made.source.features, HeadConfig(learning_rate=0.05), labels, splits, OPTIONS)
    assert outcome.best_score > 0.5
    numbers = line().targets.values[:, 0].astype(np.float64)
    assert train_head_only(line().source.features, HeadConfig(), numbers, splits, OPTIONS).head.task == "regression"


def test_an_untrained_classifier_head_has_the_layers_that_were_asked_for():
    module = create_classifier_head(12, 3, hidden=(8, 4), dropout=0.1, batch_norm=True)
    kinds = ["Linear", "BatchNorm1d", "ReLU", "Dropout"] * 2 + ["Linear"]
    assert [type(layer).__name__ for layer in module] == kinds
    assert module(torch.zeros(5, 12)).shape == (5, 3)


def test_a_constant_channel_does_not_disturb():
    made = clouds()
    features = made.source.features.copy()
    features[:, 3] = 7
    data = data_of(made._replace(source=ArrayFeatures(features)))
    head = train(data, [HeadConfig(hidden=(8,))], OPTIONS)[0].head
    assert np.isfinite(head.scores(data.source, data.val)).all()


def test_rows_without_a_number_are_left_out():
    made = line()
    values = made.targets.values.astype(np.float64).copy()
    values[::3] = np.nan
    targets = value_targets(["a", "b"], list(values.T), made.train)
    data = TrainingData(made.source, targets, made.train, made.val)
    assert len(data.train) == 160
    assert np.isfinite(train(data, [HeadConfig()], OPTIONS)[0].best_score)


def gradient_of(head, rows, targets, place=(0, 0)):
    lane = Lane([head], Task("classification", rows.shape[1], targets.shape[0], ()))
    lane.batch(rows, targets, place, 1.0, True)
    return lane


def test_mixup_mixes_rows_and_their_targets_alike():
    rows, targets = torch.randn(16, 7), torch.eye(3)[:, torch.arange(16) % 3]
    lane = gradient_of(HeadConfig(mixup=0.8), rows, targets)
    portion = float(lane._portions((0, 0)))
    assert 0 < portion < 1
    mixed_rows = portion * rows + (1 - portion) * rows.roll(1, 0)
    mixed_targets = portion * targets + (1 - portion) * targets.roll(1, 1)
    plain = gradient_of(HeadConfig(), mixed_rows, mixed_targets)
    assert (lane.parameters.gradients - plain.parameters.gradients).abs().max() < 1e-6


def test_dropout_noise_and_mixup_are_functions_of_the_place_and_of_nothing_else():
    lane = Lane([HeadConfig(hidden=(50,), dropout=0.4, noise=0.5, mixup=0.5)], Task("classification", 7, 3, ()))
    drawn = {
        "dropout": lambda place: lane._dropped(torch.ones(1, 50, 200), 0, place),
        "noise": lambda place: lane._normal((200, 7), place),
        "mixup": lane._portions,
    }
    for draw in drawn.values():
        first = draw((1, 2))
        assert not torch.equal(draw((1, 3)), first)
        assert not torch.equal(draw((2, 2)), first)
        assert torch.equal(draw((1, 2)), first)
    kept = drawn["dropout"]((0, 0))
    assert sorted(set(kept.flatten().tolist())) == pytest.approx([0, 1 / 0.6])
    assert float(kept.mean()) == pytest.approx(1, abs=0.05)
    assert float(drawn["noise"]((0, 0)).std()) == pytest.approx(1, abs=0.1)


def test_heads_with_other_seeds_do_not_share_their_noise():
    heads = [HeadConfig(noise=0.5), HeadConfig(name="other", noise=0.5, seed=1), HeadConfig(name="same", noise=0.5)]
    assert split_into_lanes(heads, 3) == [[0, 2], [1]]
