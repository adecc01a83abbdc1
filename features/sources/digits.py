"""Real images without a network: the handwritten digits that come with scikit-learn, as a folder of class folders."""

from pathlib import Path


def write_digits(folder: Path) -> int:
    """Writes 1,797 PNG files of 8x8 pixels below `folder`, one folder a digit; returns how many."""
    from PIL import Image
    from sklearn.datasets import load_digits

    digits = load_digits()
    for number, (pixels, label) in enumerate(zip(digits.images, digits.target, strict=True)):
        target = folder / str(label)
        target.mkdir(parents=True, exist_ok=True)
        Image.fromarray((pixels * 255 / 16).round().astype("uint8")).save(target / f"{number:04d}.png")
    return len(digits.target)
