"""Real images without a network: the handwritten digits that come with scikit-learn, as a folder of class folders."""

from pathlib import Path


def write_digits(folder: Path, held_out: Path | None = None, apart: int = 0) -> int:
    """Writes PNG files of 8x8 pixels below `folder`, one folder a digit; returns how many.

    Args:
        held_out: where the last `apart` of all 1,797 go instead, into one folder, the digit first in each name.
    """
    from PIL import Image
    from sklearn.datasets import load_digits

    digits = load_digits()
    kept = len(digits.target) - (apart if held_out is not None else 0)
    for number, (pixels, label) in enumerate(zip(digits.images, digits.target, strict=True)):
        is_apart = held_out is not None and number >= kept
        path = held_out / f"{label}_{number:04d}.png" if held_out and is_apart else folder / str(label) / f"{number:04d}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray((pixels * 255 / 16).round().astype("uint8")).save(path)
    return kept
