"""Features as `work` commits them, beside timm's evaluation transform and network in float32, and beside the torch path.

python -m benchmarks.fidelity PHOTOS [--encoder NAME=FILE|random:0|embedded …] [--count 250]

If FILE holds the classifier too, and the k-th photo in sorted order is of class k * CLASS_STEP, its top-1 answers are counted.
"""

import argparse
import tempfile
from pathlib import Path

import numpy as np
import timm
import torch
from PIL import Image
from safetensors.torch import load_file
from timm.data import create_transform

from headstart.features.encoders.spec import WEIGHTS_NAME, read_encoder
from headstart.features.encoders.torch_encoder import open_torch
from headstart.features.images.decode import decode
from headstart.features.store.load import load_features

from .photos import enqueue, headstart, repeat

ENCODERS = ("resnet10t=embedded", "efficientnet_b0=random:0", "vit_tiny_patch16_224=random:0")


def timm_features(folder, paths):
    """What timm alone gives in float32, (n, d)."""
    spec = read_encoder(folder)
    network = timm.create_model(spec.model, num_classes=0, **spec.model_args).eval()
    tensors = {name: tensor.float() for name, tensor in load_file(folder / WEIGHTS_NAME).items()}
    lacking = network.load_state_dict(tensors, strict=False).missing_keys
    assert all(name.endswith("num_batches_tracked") for name in lacking), lacking
    facts = spec.transform
    transform = create_transform(
        input_size=(3, *facts.image_size),
        interpolation=facts.interpolation,
        mean=facts.mean,
        std=facts.std,
        crop_pct=facts.crop_pct,
        crop_mode=facts.crop_mode,
        is_training=False,
    )
    with torch.inference_mode():
        return np.concatenate([network(transform(Image.open(path).convert("RGB"))[None]).numpy() for path in paths])


def torch_features(folder, paths):
    """What this project's torch path gives on the CPU, (n, d)."""
    encoder = open_torch(folder, "cpu")
    return np.concatenate([encoder.encode(decode(path.read_bytes(), encoder.spec.transform)[None]) for path in paths])


def cosines(left, right):
    left, right = left.astype(np.float64), right.astype(np.float64)
    return (left * right).sum(1) / np.linalg.norm(left, axis=1) / np.linalg.norm(right, axis=1)


def right_answers(features, weights, classes):
    tensors = load_file(weights)
    logits = (
        features.astype(np.float32) @ tensors["classifier.weight"].float().numpy().T + tensors["classifier.bias"].float().numpy()
    )
    return int((logits.argmax(1) == classes).sum())


def measure(photos, workspace, encoder, weights, step):
    folder = enqueue(photos, workspace, encoder, weights)
    headstart("work", "--device", "cpu", "-w", workspace)
    data = load_features(folder)
    order = np.argsort(data.paths)
    ours, paths = data.features[order], [photos / data.paths[i] for i in order]
    plain = timm_features(folder, paths)
    of_timm, of_torch = cosines(ours, plain), cosines(ours, torch_features(folder, paths))
    line = f"{encoder:24} {len(ours)} photos  to timm: mean {of_timm.mean():.8f} worst {of_timm.min():.8f}"
    line += f"  to the torch path: mean {of_torch.mean():.8f} worst {of_torch.min():.8f}"
    if step and Path(weights).is_file():
        classes = np.arange(len(ours)) * step
        line += f"  top-1: timm {right_answers(plain, weights, classes)}, ours {right_answers(ours, weights, classes)}"
    return line


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("photos", type=Path)
    parser.add_argument("--encoder", action="append", help="NAME=WEIGHTS, several times")
    parser.add_argument("--count", type=int, default=250)
    parser.add_argument("--class-step", type=int, default=0)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        photos = repeat(options.photos, Path(scratch) / "photos", options.count)
        for number, choice in enumerate(options.encoder or ENCODERS):
            encoder, _, weights = choice.partition("=")
            print(measure(photos, Path(scratch) / f"workspace{number}", encoder, weights, options.class_step), flush=True)


if __name__ == "__main__":
    main()
