"""The plain way to train one head: torch.nn modules, autograd, torch.optim, one configuration after the other."""

import numpy as np
import torch

from headstart.experiments.config import HeadConfig, TrainingOptions
from headstart.experiments.data.statistics import standardization_from
from headstart.experiments.data.training_data import TrainingData, scaling_of
from headstart.experiments.heads.batches import BatchReader
from headstart.experiments.heads.parameters import Parameters
from headstart.experiments.heads.pass_plan import plan_pass
from headstart.experiments.heads.trained_head import create_classifier_head
from headstart.experiments.training.schedule import learning_rate_factor, row_order


def plain_training(data: TrainingData, config: HeadConfig, options: TrainingOptions) -> tuple[torch.nn.Module, list[float]]:
    """The head after all epochs, on standardized rows, and the mean loss of each epoch. No noise, mixup or dropout."""
    torch.manual_seed(0)
    planned = plan_pass(data, [config], options)
    reader = BatchReader(data, scaling_of(data, standardization_from(data.source, data.train), planned.is_scaled), options)
    module = create_classifier_head(data.inputs, data.targets.outputs, config.hidden, 0.0, config.batch_norm).train()
    start = Parameters([config], data.inputs, data.targets.outputs, "cpu")
    with torch.no_grad():
        for parameter, block in zip(module.parameters(), start.views(start.values, 0), strict=True):
            parameter.copy_(block.view(parameter.shape))
    kinds = {"adamw": torch.optim.AdamW, "sgd": torch.optim.SGD}
    extra = {"momentum": config.momentum} if config.optimizer == "sgd" else {}
    optimizer = kinds[config.optimizer](
        module.parameters(), lr=config.learning_rate, weight_decay=config.decay, foreach=False, **extra
    )
    weights = torch.tensor(planned.task.class_weights) if config.class_weights == "balanced" else None
    steps, history, number = options.epochs * reader.steps_per_epoch, [], 0
    for epoch in range(options.epochs):
        order = data.train[row_order(len(data.train), 0, reader.used, options.seed, epoch)]
        batches = [order[i : i + options.batch_size] for i in range(0, len(order), options.batch_size)]
        total = 0.0
        for first in range(0, len(batches), options.accumulation):
            group = batches[first : first + options.accumulation]
            optimizer.zero_grad()
            for positions in group:
                loss = plain_loss(module(reader.rows(positions)), data, reader, positions, config, weights)
                (loss * len(positions) / sum(map(len, group))).backward()
                total += float(loss.detach()) * len(positions)
            if config.clip_norm:
                torch.nn.utils.clip_grad_norm_(module.parameters(), config.clip_norm)
            for settings in optimizer.param_groups:
                settings["lr"] = config.learning_rate * learning_rate_factor(number, steps, round(options.warmup * steps))
            optimizer.step()
            number += 1
        history.append(total / reader.used)
    return module.eval(), history


def plain_loss(logits, data, reader, positions, config, weights):
    functional = torch.nn.functional
    output = config.output_for(data.targets.task)
    if data.targets.task == "regression":
        wanted = reader.targets(positions).T
        return functional.mse_loss(logits.sigmoid() if output == "sigmoid" else logits, wanted)
    codes = torch.from_numpy(data.targets.codes[positions])
    if output == "softmax":
        return functional.cross_entropy(logits, codes, weights, label_smoothing=config.label_smoothing)
    wanted = functional.one_hot(codes, data.targets.outputs).float()
    wanted = wanted * (1 - config.label_smoothing) + config.label_smoothing / 2
    return functional.binary_cross_entropy_with_logits(logits, wanted, weights)


def standardized(data: TrainingData, positions: np.ndarray, is_scaled: bool = False) -> torch.Tensor:
    options = TrainingOptions()
    return BatchReader(data, scaling_of(data, standardization_from(data.source, data.train), is_scaled), options).rows(positions)
