from dataclasses import replace

import numpy as np
import pytest
import torch

from headstart.experiments.config import HeadConfig
from headstart.experiments.heads.trained_head import create_classifier_head, read_head
from headstart.experiments.heads.trainer import Trainer, train
from headstart.pipeline.errors import HeadstartError
from tests.experiments.reference import standardized
from tests.experiments.trainings import CLASSES, MIXED, NUMBERS, OPTIONS, SCORE


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


def test_an_untrained_classifier_head_has_the_layers_that_were_asked_for():
    module = create_classifier_head(12, 3, hidden=(8, 4), dropout=0.1, batch_norm=True)
    kinds = ["Linear", "BatchNorm1d", "ReLU", "Dropout"] * 2 + ["Linear"]
    assert [type(layer).__name__ for layer in module] == kinds
    assert module(torch.zeros(5, 12)).shape == (5, 3)
