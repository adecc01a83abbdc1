"""Measures the embedded encoder as it is shipped: linear probes on its float16 features, its speed, the cost of float16.

    python tools/probe_embedded_encoder.py --data cifar10.zip --encoder features/networks/embedded

Prints the numbers of its `CARD.md` (86.29 % on CIFAR-10's test part, 97.8 % on the digits) in about five minutes
on two cores. C is chosen on images of the training part that the encoder never saw, never on the test part.
"""

import argparse
import io
import json
import time
from pathlib import Path
from typing import Any

import numpy as np
import timm
import torch
from cifar_images import read_part, split_held_out
from PIL import Image
from safetensors.torch import load_file
from sklearn.datasets import load_digits
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV, StratifiedKFold, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

STRENGTHS = [0.0001, 0.0003, 0.001, 0.003, 0.01, 0.03, 0.1]  # C of the logistic regression


def open_encoder(folder: Path, reference: Path | None = None) -> tuple[torch.nn.Module, Any]:
    """The shipped encoder and timm's evaluation transform for it; `reference`: a checkpoint with float32 weights."""
    facts = json.loads((folder / "encoder.json").read_text())
    model = timm.create_model(facts["model"], num_classes=0, **facts["model_args"]).eval()
    if reference is None:
        weights = load_file(folder / "encoder.safetensors")
    else:
        state = torch.load(reference, weights_only=True)["model"]
        weights = {name: tensor for name, tensor in state.items() if not name.startswith("fc.")}
    model.load_state_dict(weights)
    given = dict(facts["transform"])
    transform = timm.data.create_transform((3, *given.pop("image_size")), **given)
    return model.to(memory_format=torch.channels_last), transform


def encode(model: torch.nn.Module, transform: Any, images: list[Image.Image], batch_size: int = 64) -> tuple[np.ndarray, float]:
    """Returns features (n, d) float16 and images/s of the model alone."""
    rows, seconds = [], 0.0
    with torch.inference_mode():
        for first in range(0, len(images), batch_size):
            batch = torch.stack([transform(image) for image in images[first : first + batch_size]])
            started = time.monotonic()
            rows.append(model(batch.contiguous(memory_format=torch.channels_last)).numpy().astype(np.float16))
            seconds += time.monotonic() - started
    return np.concatenate(rows), len(images) / seconds


def read_images(archive: Path, part: str) -> tuple[list[Image.Image], np.ndarray]:
    pixels, labels = read_part(archive, part)
    return [Image.fromarray(array) for array in pixels.permute(0, 2, 3, 1).numpy()], labels.numpy()


def digits_as_png() -> tuple[list[Image.Image], np.ndarray, np.ndarray]:
    """scikit-learn's digits after a trip through an 8x8 grey 8-bit PNG. Returns images (RGB), raw pixels (n, 64) and labels."""
    digits = load_digits()
    images = []
    for array in digits.images:
        file = io.BytesIO()
        Image.fromarray(np.round(array * (255 / 16)).astype(np.uint8)).save(file, "PNG")
        images.append(Image.open(file).convert("RGB"))
    raw = np.stack([np.asarray(image)[:, :, 0].ravel() for image in images]).astype(np.float32)
    return images, raw, digits.target


def probe(strength: float = 1.0) -> Any:
    return make_pipeline(StandardScaler(), LogisticRegression(C=strength, max_iter=2000, tol=1e-3))


def probe_cifar(
    features: np.ndarray, labels: np.ndarray, test: np.ndarray, test_labels: np.ndarray, seed: int
) -> tuple[float, float]:
    """Returns C, chosen on the images that training held out, and the test accuracy after a refit on the training part."""
    held_out, seen = (part.numpy() for part in split_held_out(len(labels), seed))
    scores = {c: probe(c).fit(features[seen], labels[seen]).score(features[held_out], labels[held_out]) for c in STRENGTHS}
    print("held out, by C:", scores, flush=True)
    best = max(scores, key=scores.__getitem__)
    return best, probe(best).fit(features, labels).score(test, test_labels)


def probe_digits(features: np.ndarray, labels: np.ndarray, seed: int) -> tuple[float, float]:
    """Mean and standard deviation of the accuracy over five folds; C is chosen by three folds inside each training part."""
    grid = {"logisticregression__C": [*STRENGTHS, 0.3, 1.0]}
    inner, outer = (StratifiedKFold(k, shuffle=True, random_state=seed) for k in (3, 5))
    scores = cross_val_score(GridSearchCV(probe(), grid, cv=inner), features, labels, cv=outer)
    return float(scores.mean()), float(scores.std())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--data", type=Path, required=True, help="zip with train/<class>/*.jpg and test/<class>/*.jpg")
    parser.add_argument("--encoder", type=Path, required=True, help="folder with encoder.json and encoder.safetensors")
    parser.add_argument("--reference", type=Path, help="training checkpoint, to compare float16 storage with its float32 weights")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--seed", type=int, default=0, help="the seed of the training, which decided the images held out")
    given = parser.parse_args()
    torch.set_num_threads(given.threads)

    model, transform = open_encoder(given.encoder)
    print(f"parameters: {sum(p.numel() for p in model.parameters()):,}, embed_dim: {model.num_features}")
    print(f"file: {(given.encoder / 'encoder.safetensors').stat().st_size:,} bytes")

    digits, raw, digit_labels = digits_as_png()
    digit_features, _ = encode(model, transform, digits)
    for name, rows in (("encoder", digit_features.astype(np.float32)), ("raw pixels", raw)):
        mean, deviation = probe_digits(rows, digit_labels, given.seed)
        print(f"digits, {name}: {mean:.4f} +- {deviation:.4f}", flush=True)

    images, labels = read_images(given.data, "train")
    features, speed = encode(model, transform, images)
    print(f"inference: {speed:.0f} images/s in batches of 64 on {given.threads} threads, without decoding")
    if given.reference:
        exact = encode(*open_encoder(given.encoder, given.reference), [*digits, *images[::50]])[0].astype(np.float64)
        shipped = np.concatenate([digit_features, features[::50]]).astype(np.float64)
        cosine = (exact * shipped).sum(1) / np.linalg.norm(exact, axis=1) / np.linalg.norm(shipped, axis=1)
        print(f"float16 against float32 weights: cosine {cosine.mean():.7f} on average, {cosine.min():.7f} at worst")
    test_images, test_labels = read_images(given.data, "test")
    test, _ = encode(model, transform, test_images)
    strength, accuracy = probe_cifar(features.astype(np.float32), labels, test.astype(np.float32), test_labels, given.seed)
    print(f"CIFAR-10 test: {accuracy:.4f} (C={strength})")


if __name__ == "__main__":
    main()
