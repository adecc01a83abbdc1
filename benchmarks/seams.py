"""What windows change: masks of four windows beside one of the whole image, and of an image that is shifted by a window's step.

python -m benchmarks.seams FOLDER [--run conv-0] [--images 101]

FOLDER: of `benchmarks.camvid`. Windows of 192 x 256 pixels that overlap by 24 make the 360 x 480 of an image; the weights and
the head are those that learned on whole images. The shifted image is a mosaic of nine.
"""

import argparse
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from headstart.experiments.runs.recipe_experiment import list_recipe_experiments
from headstart.experiments.serving.predict_masks import MapsOf, _Seen, _strips
from headstart.experiments.serving.recipe_run import Trained, open_trained
from headstart.experiments.training.state.kept_parts import NoParts
from headstart.features.encoders.saved import read_network
from headstart.features.encoders.spec import read_encoder
from headstart.features.encoders.torch_encoder import TorchEncoder
from headstart.pipeline.workspace import open_workspace

WINDOW, OVERLAP = (192, 256), 24
STEP = tuple(edge - OVERLAP for edge in WINDOW)
NEAR = (0, 8, 16, 32)  # pixels from where a window ends


def mask_of(trained: Trained, maps_of: MapsOf, pixels: np.ndarray) -> np.ndarray:
    seen = _Seen(*pixels.shape[:2], lambda top, bottom: pixels[top:bottom])
    with torch.inference_mode():
        return np.concatenate(list(_strips(trained, maps_of, seen, OVERLAP, NoParts())))


def distance_from_inner_borders(size: tuple[int, int]) -> np.ndarray:
    """Of each pixel to the nearest line along which one of the four windows ends inside the image, in pixels."""
    axes = []
    for length, window in zip(size, WINDOW, strict=True):
        ends = [window, length - window]
        axes.append(np.min([np.abs(np.arange(length) + 0.5 - end) for end in ends], axis=0))
    return np.minimum(axes[0][:, None], axes[1][None])


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--run", default="conv-0", help="name of the training")
    parser.add_argument("--images", type=int, default=101)
    options = parser.parse_args()
    workspace = open_workspace((options.folder / "whole").absolute())
    [experiment] = [one for one in list_recipe_experiments(workspace) if one.name == options.run]
    trained = open_trained(experiment)
    folder = workspace.features / trained.about.encoder
    spec = read_encoder(folder)
    assert spec.spatial is not None
    stride = spec.spatial.strides[0]
    small = replace(
        spec,
        transform=replace(spec.transform, image_size=WINDOW),
        spatial=replace(spec.spatial, shape=(spec.spatial.shape[0], WINDOW[0] // stride, WINDOW[1] // stride)),
    )
    whole, windows = (MapsOf.of(folder, TorchEncoder(one, read_network(folder, spec), "cpu")) for one in (spec, small))
    images = sorted((options.folder / "val").iterdir())[: options.images]
    photos = [np.asarray(Image.open(path).convert("RGB")) for path in images]
    agrees = np.zeros(photos[0].shape[:2])
    for pixels in photos:
        agrees += mask_of(trained, whole, pixels) == mask_of(trained, windows, pixels)
    away, share = distance_from_inner_borders(agrees.shape), agrees / len(photos)
    for least in NEAR:
        print(f"four windows agree with one in {share[away >= least].mean():.2%} of pixels at least {least} from a window's end")
    differing = 1 - share
    print(f"of the pixels that differ {differing[away < NEAR[-1]].sum() / differing.sum():.1%} lie nearer than {NEAR[-1]}")
    mosaic = np.concatenate([np.concatenate(photos[row : row + 3], 1) for row in (0, 3, 6)])
    one, other = mask_of(trained, windows, mosaic), mask_of(trained, windows, mosaic[STEP[0] :, STEP[1] :])
    inside = tuple(slice(edge, length - 2 * edge) for edge, length in zip(WINDOW, other.shape, strict=True))
    same = np.array_equal(one[STEP[0] :, STEP[1] :][inside], other[inside])
    print(f"shifted by a step, {other[inside].size:,} pixels inside are {'the same to the bit' if same else 'NOT the same'}")


if __name__ == "__main__":
    main()
