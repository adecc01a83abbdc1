"""What users would write instead: a DataLoader over PIL and timm's transform around a timm model.

python -m benchmarks.plain_loop FOLDER MODEL WEIGHTS WORKERS OUTPUT.npy; WEIGHTS is a safetensors file or '' for random ones.
"""

import sys
from pathlib import Path

import numpy as np
import timm
import torch
from PIL import Image
from safetensors.torch import load_file
from timm.data import create_transform, resolve_data_config

BATCH = 32


class Photos(torch.utils.data.Dataset):
    def __init__(self, folder, transform):
        self.paths = sorted(path for path in Path(folder).rglob("*") if path.is_file())
        self.transform = transform

    def __len__(self):
        return len(self.paths)

    def __getitem__(self, i):
        return self.transform(Image.open(self.paths[i]).convert("RGB"))


def main():
    folder, model, weights, workers, output = sys.argv[1:]
    torch.manual_seed(0)
    network = timm.create_model(model, num_classes=0).eval()
    if weights:
        network.load_state_dict(load_file(weights), strict=False)
    transform = create_transform(**resolve_data_config({}, model=network), is_training=False)
    loader = torch.utils.data.DataLoader(Photos(folder, transform), BATCH, num_workers=int(workers))
    with torch.inference_mode():
        features = [network(images).numpy().astype(np.float16) for images in loader]
    np.save(output, np.concatenate(features))


if __name__ == "__main__":
    main()
