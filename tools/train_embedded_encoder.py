"""Trains the embedded encoder: a small timm ResNet on CIFAR-10's training part, on a CPU, in under an hour.

    python tools/train_embedded_encoder.py --data cifar10.zip --epochs 45 --minutes 38 --out features/networks/embedded

On two cores of an AMD EPYC with AVX-512 BF16, shared with other work: 26 epochs in the 38 minutes (380 to 1,070 images/s) and
88.0 % on the 1,000 images held out; `probe_embedded_encoder.py` then finds 86.3 % on the test part, never read here.
Writes `encoder.safetensors` (float16, backbone only) and `encoder.json`. Killed at any moment, the same command goes on from the
last finished epoch. Another run gives other bits: the minutes have a say in the learning rate.
"""

import argparse
import hashlib
import json
import os
import tempfile
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import timm
import torch
import torch.distributed as dist
import torch.multiprocessing as mp
import torch.nn.functional as F
from cifar_images import TRANSFORM, augment, read_part, resize, split_held_out
from safetensors.torch import save

NAME = "headstart-tiny"
MODEL = "resnet10t"
# The last stage is empty: at 64x64 the third one already works on 4x4, and a fourth on 2x2 would take half of the weights.
MODEL_ARGS: dict[str, Any] = {"channels": [64, 128, 320, 320], "layers": [1, 2, 1, 0], "block_reduce_first": 2, "stem_width": 8}


@dataclass(frozen=True)
class Recipe:
    """What decides the outcome; everything but the data. `batch_size` is for each process, `peak_lr` for all of them."""

    data: Path
    out: Path
    checkpoint: Path
    epochs: int
    minutes: float
    processes: int
    batch_size: int
    peak_lr: float
    seed: int
    weight_decay: float = 5e-4
    label_smoothing: float = 0.1


@dataclass(frozen=True)
class Clock:
    """How far training has come: whole epochs, seconds of training, and the share of the schedule, 0 to 1."""

    epoch: int = 0
    elapsed_s: float = 0.0
    progress: float = 0.0


def average_gradients(model: torch.nn.Module, elapsed_s: float) -> float:
    """Averages all gradients over the processes. Returns process 0's `elapsed_s`, so that all agree on the clock."""
    gradients = [parameter.grad for parameter in model.parameters() if parameter.grad is not None]
    clock = torch.tensor([elapsed_s * dist.get_world_size() if dist.get_rank() == 0 else 0.0])
    message = torch.cat([gradient.flatten() for gradient in gradients] + [clock])
    dist.all_reduce(message)
    message /= dist.get_world_size()
    parts = message.split([gradient.numel() for gradient in gradients] + [1])
    for gradient, part in zip(gradients, parts, strict=False):
        gradient.copy_(part.view_as(gradient))
    return float(parts[-1])


def accuracy(model: torch.nn.Module, images: torch.Tensor, labels: torch.Tensor) -> float:
    """Share of `images` that the model, in float32 and evaluation mode, classifies correctly."""
    model.eval()
    with torch.inference_mode():
        hits = sum(
            int((model(resize(x)).argmax(1) == y).sum()) for x, y in zip(images.split(250), labels.split(250), strict=True)
        )
    model.train()
    return hits / len(labels)


def save_checkpoint(path: Path, state: dict[str, Any]) -> None:
    partial = path.with_suffix(".partial")
    torch.save(state, partial)
    partial.replace(path)


def write_encoder(model: torch.nn.Module, out: Path) -> None:
    """Writes the backbone as float16 safetensors (counters stay int64) and the JSON that says how to build and feed it."""
    out.mkdir(parents=True, exist_ok=True)
    backbone = {name: tensor for name, tensor in model.state_dict().items() if not name.startswith("fc.")}
    halves = {name: (t.half() if t.is_floating_point() else t).contiguous() for name, t in backbone.items()}
    weights = out / "encoder.safetensors"
    weights.write_bytes(save(halves))  # not save_file: its file can only be read by its owner, and a wheel keeps the mode
    facts = {
        "name": NAME,
        "model": MODEL,
        "model_args": MODEL_ARGS,
        "transform": TRANSFORM,
        "embed_dim": int(model.num_features),
        "sha256": hashlib.sha256(weights.read_bytes()).hexdigest(),
    }
    (out / "encoder.json").write_text(json.dumps(facts, indent=2) + "\n")


def build(num_classes: int, recipe: Recipe) -> tuple[torch.nn.Module, torch.optim.SGD]:
    """The network with a classifier, and its optimizer: weights decay, biases and batch norms do not."""
    torch.manual_seed(recipe.seed)
    model = timm.create_model(MODEL, num_classes=num_classes, **MODEL_ARGS).to(memory_format=torch.channels_last).train()
    decayed = [parameter for parameter in model.parameters() if parameter.ndim > 1]
    others = [parameter for parameter in model.parameters() if parameter.ndim <= 1]
    groups = [{"params": decayed, "weight_decay": recipe.weight_decay}, {"params": others, "weight_decay": 0.0}]
    return model, torch.optim.SGD(groups, lr=0.0, momentum=0.9, nesterov=True)


def train_epoch(
    model: torch.nn.Module, optimizer: torch.optim.SGD, data: tuple[torch.Tensor, torch.Tensor], clock: Clock, recipe: Recipe
) -> tuple[Clock, float]:
    """One pass over `data` (images, labels), this process's share of every batch. Returns the clock after it and the mean loss.

    It stops early when the minutes are over: the learning rate has come down to zero by then.
    """
    images, labels = data
    rank, started = dist.get_rank(), time.monotonic()
    random = torch.Generator().manual_seed(recipe.seed + 1000 * (clock.epoch + 1))
    order = torch.randperm(len(labels), generator=random)
    random.manual_seed(recipe.seed + 1000 * (clock.epoch + 1) + rank + 1)
    share = recipe.batch_size * recipe.processes
    steps, progress, losses = len(order) // share, clock.progress, []
    for step in range(steps):
        chosen = order[step * share + rank * recipe.batch_size :][: recipe.batch_size]
        with torch.autocast("cpu", torch.bfloat16):
            logits = model(augment(images[chosen], random))
        loss = F.cross_entropy(logits.float(), labels[chosen], label_smoothing=recipe.label_smoothing)
        optimizer.zero_grad()
        loss.backward()
        elapsed_s = average_gradients(model, clock.elapsed_s + time.monotonic() - started)
        # The schedule ends with the epochs or with the minutes, whichever come first: a slow machine still ends at rate zero.
        progress = max((clock.epoch + step / steps) / recipe.epochs, elapsed_s / (60 * recipe.minutes))
        if progress >= 1:
            break
        for group in optimizer.param_groups:
            group["lr"] = recipe.peak_lr * min(progress / 0.15, (1 - progress) / 0.85)
        optimizer.step()
        losses.append(loss.item())
    return Clock(clock.epoch + 1, clock.elapsed_s + time.monotonic() - started, progress), float(np.mean(losses or [np.nan]))


def train(rank: int, recipe: Recipe, store: str) -> None:
    """One of the processes that train together; the first one reports and writes."""
    # One thread a process: oneDNN's threads wait for each other in a busy loop, which on a shared machine costs a factor of 15.
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{store}", rank=rank, world_size=recipe.processes)
    images, labels = read_part(recipe.data, "train")
    held_out, seen = split_held_out(len(labels), recipe.seed)
    data = images[seen], labels[seen]
    model, optimizer = build(int(labels.max()) + 1, recipe)
    clock = Clock()
    if recipe.checkpoint.exists():
        state = torch.load(recipe.checkpoint, weights_only=True)
        model.load_state_dict(state["model"])
        optimizer.load_state_dict(state["optimizer"])
        clock = Clock(**state["clock"])
    dist.barrier()  # nobody may write a checkpoint that another one has still to read

    while clock.epoch < recipe.epochs and clock.progress < 1:
        before = clock
        clock, loss = train_epoch(model, optimizer, data, clock, recipe)
        if rank == 0:
            speed = len(seen) / (clock.elapsed_s - before.elapsed_s)
            right = accuracy(model, images[held_out], labels[held_out])
            when = f"epoch {clock.epoch}: {clock.elapsed_s / 60:.1f} min, {speed:.0f} images/s"
            print(f"{when}, loss {loss:.3f}, held out {right:.3f}", flush=True)
            save_checkpoint(
                recipe.checkpoint, {"model": model.state_dict(), "optimizer": optimizer.state_dict(), "clock": asdict(clock)}
            )
    if rank == 0:
        write_encoder(model, recipe.out)
    dist.destroy_process_group()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--data", type=Path, required=True, help="zip with train/<class>/*.jpg")
    parser.add_argument("--out", type=Path, required=True, help="folder for encoder.safetensors and encoder.json")
    parser.add_argument(
        "--checkpoint", type=Path, default=Path("build/train_embedded_encoder.pt"), help="where a killed run goes on from"
    )
    parser.add_argument("--epochs", type=int, default=45)
    parser.add_argument("--minutes", type=float, default=42.0, help="the schedule ends here even if epochs are left")
    parser.add_argument("--processes", type=int, default=os.cpu_count())
    parser.add_argument("--batch-size", type=int, default=128, help="of each process")
    parser.add_argument("--peak-lr", type=float, default=0.2)
    parser.add_argument("--seed", type=int, default=0)
    recipe = Recipe(**vars(parser.parse_args()))
    os.environ.setdefault("GLOO_SOCKET_IFNAME", "lo")
    recipe.checkpoint.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as folder:
        mp.spawn(train, (recipe, f"{folder}/store"), nprocs=recipe.processes)


if __name__ == "__main__":
    main()
