"""A program of somebody who has the exported file, onnxruntime, numpy and Pillow, and nothing of this project.

python onnx_client.py HEAD.onnx IMAGE...  prints JSON: names of classes, probabilities of each image, what was imported.
"""

import json
import math
import sys

import numpy as np
import onnxruntime
from PIL import Image


def pixels(path: str, transform: dict) -> np.ndarray:
    """(h, w, 3) uint8, as the metadata say: the shorter side scaled, the middle kept."""
    assert transform["crop_mode"] == "center"
    height, width = transform["image_size"]
    image = Image.open(path).convert("RGB")
    edge = math.floor(height / transform["crop_pct"])
    longer = int(edge * max(image.size) / min(image.size))
    scaled = (edge, longer) if image.width <= image.height else (longer, edge)
    image = image.resize(scaled, Image.Resampling[transform["interpolation"].upper()])
    left, top = round((image.width - width) / 2), round((image.height - height) / 2)
    return np.asarray(image.crop((left, top, left + width, top + height)))


def main() -> None:
    model, *paths = sys.argv[1:]
    session = onnxruntime.InferenceSession(model)
    facts = json.loads(session.get_modelmeta().custom_metadata_map["headstart"])
    rows = [session.run(None, {"images": pixels(path, facts["encoder"]["transform"])[None]})[0][0].tolist() for path in paths]
    imported = sorted({name.partition(".")[0] for name in sys.modules})
    print(json.dumps({"names": facts["names"], "probabilities": rows, "imported": imported}))


if __name__ == "__main__":
    main()
