"""Real images without a network: the handwritten digits that come with scikit-learn, one a file or several in a scene."""

from pathlib import Path

from headstart.pipeline.output_files import write_output


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


def write_digit_scenes(folder: Path, count: int = 72, size: tuple[int, int] = (160, 224)) -> Path:
    """Writes PNG files of digits on a dark ground, beside each its mask, and `table.csv` of both; returns the table.

    A mask has 0 for the ground and 1 to 10 for the strokes of a 0 to a 9. No digit is in two splits.

    Args:
        count: of scenes; two thirds are to train on.
        size: (height, width) of each, in multiples of 32.
    """
    import numpy as np
    from PIL import Image
    from sklearn.datasets import load_digits

    digits, draw = load_digits(), np.random.default_rng(0)
    folder.mkdir(parents=True, exist_ok=True)
    lines = ["path,split,mask"]
    splits = ("train", "train", "train", "train", "val", "test")
    for number in range(count):
        split = splits[number % len(splits)]
        pixels, mask = draw.integers(0, 40, size), np.zeros(size, np.uint8)
        for top in range(0, size[0], 32):
            for left in range(0, size[1], 32):
                if draw.random() < 0.5:
                    chosen = len(splits) * draw.integers(len(digits.target) // len(splits)) + number % len(splits)
                    large = np.kron(digits.images[chosen], np.ones((4, 4)))
                    pixels[top : top + 32, left : left + 32] += (large * 200 / 16).astype(int)
                    mask[top : top + 32, left : left + 32][large > 4] = 1 + digits.target[chosen]
        Image.fromarray(pixels.astype(np.uint8)).convert("RGB").save(folder / f"{number:03d}.png")
        Image.fromarray(mask).save(folder / f"{number:03d}_mask.png")
        lines.append(f"{number:03d}.png,{split},{number:03d}_mask.png")
    table = folder / "table.csv"
    write_output(table, ("\n".join(lines) + "\n").encode(), remedy="Choose another folder")
    return table
