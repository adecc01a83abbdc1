"""What the tests of training train: three small data sets, short options and heads of every kind."""

import numpy as np

from headstart.experiments.config import HeadConfig, TrainingOptions
from headstart.experiments.data.targets import Targets
from headstart.experiments.data.training_data import TrainingData

from .samples import clouds, line

OPTIONS = TrainingOptions(epochs=3, batch_size=32, float32=True)  # tests compare digits


def data_of(made) -> TrainingData:
    return TrainingData(made.source, made.targets, made.train, made.val)


def unit_line(**options):
    """A regression whose targets a sigmoid can reach."""
    made = line(**options)
    values = made.targets.values[:, :1]
    values = (values - values.min()) / np.ptp(values)
    return made._replace(targets=Targets("regression", ("score",), np.empty(0, np.int64), values))


CLASSES, NUMBERS, SCORE = data_of(clouds()), data_of(line()), data_of(unit_line())


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
