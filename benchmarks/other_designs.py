"""Ten designs that are drawn by other rules than those of `examples/designs`: other fonts, turned text, photos behind it."""

import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

EDGE = 256
_FONTS = ("DejaVuSerif.ttf", "DejaVuSans-Bold.ttf", "DejaVuSansMono.ttf", "STIXGeneral.ttf", "cmr10.ttf")  # of matplotlib
_PHOTOS = ("china.jpg", "flower.jpg")  # of scikit-learn
_MARGIN = 12  # pixels that stay free behind a line
_WORDS = (
    "Autumn Sale",
    "Open Day",
    "How bees find home",
    "Concert tonight",
    "Fresh bread",
    "Learn to sail",
    "New rooms",
    "Join us",
)
_SMALL = "Every week from nine until the last guest has left the house; bring a friend and a good book."


def other_designs(count: int = 10) -> Iterator[tuple[NDArray[np.uint8], NDArray[np.uint8], dict[str, bool]]]:
    """Image (256, 256, 3), masks of text and pictures (2, 256, 256), and what is other in it than a font.

    The box of a line, turned with it, is text, as in the designs that were learnt from; a photo behind all is a picture where no
    text is.
    """
    for number in range(count):
        draw = np.random.default_rng((57, number))
        is_photo, is_turned = number % 2 == 0, number % 3 != 0
        yield *_design(draw, number, is_photo, is_turned), {"photo": is_photo, "turned": is_turned}


def _design(draw: Any, number: int, is_photo: bool, is_turned: bool) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    from PIL import Image

    canvas = Image.new("RGB", (EDGE, EDGE), tuple(draw.integers(190, 256, 3).tolist()))
    picture, text = Image.new("L", (EDGE, EDGE)), Image.new("L", (EDGE, EDGE))
    photo = _photo(draw, number)
    if is_photo:
        canvas.paste(photo)
        picture.paste(255, (0, 0, EDGE, EDGE))
    else:
        left, top, side = (int(draw.integers(low, high)) for low, high in ((16, 110), (96, 130), (80, 120)))
        canvas.paste(photo.resize((side, side)), (left, top))
        picture.paste(255, (left, top, left + side, top + side))
    angle = float(draw.uniform(8, 25) * draw.choice([-1, 1])) if is_turned else 0.0
    font = str(draw.choice(_FONTS))
    is_dark = is_photo and np.asarray(photo.convert("L")).mean() < 128
    ink = (250, 250, 245) if is_dark else tuple(draw.integers(0, 90, 3).tolist())
    _write(canvas, text, str(draw.choice(_WORDS)), font, int(draw.integers(24, 32)), (24, 24), angle, ink)
    for line in range(3):
        words = _SMALL[32 * line : 32 * (line + 1)].strip()
        _write(canvas, text, words, font, 11, (24, 205 + 15 * line) if not is_turned else (30, 190 + 17 * line), angle / 3, ink)
    masks = np.stack([np.asarray(text) > 127, (np.asarray(picture) > 127) & (np.asarray(text) <= 127)])
    return np.asarray(canvas), masks.astype(np.uint8)


def _write(canvas: Any, mask: Any, words: str, font: str, size: int, place: tuple[int, int], angle: float, ink: Any) -> None:
    """Words in a font of matplotlib, turned around their left end, and the box that they fill, turned with them."""
    import matplotlib
    from PIL import Image, ImageDraw, ImageFont

    file = str(Path(matplotlib.get_data_path()) / "fonts" / "ttf" / font)
    while (letters := ImageFont.truetype(file, size)).getlength(words) > EDGE - place[0] - _MARGIN:
        size -= 1
    left, top, right, bottom = letters.getbbox(words)
    line, box = Image.new("L", (EDGE, EDGE)), Image.new("L", (EDGE, EDGE))
    ImageDraw.Draw(line).text((place[0] - left, place[1] - top), words, font=letters, fill=255)
    box.paste(255, (place[0], place[1], math.ceil(place[0] + right - left), math.ceil(place[1] + bottom - top)))
    turned = [one.rotate(angle, Image.Resampling.BICUBIC, center=place) for one in (line, box)]
    canvas.paste(Image.new("RGB", (EDGE, EDGE), ink), (0, 0), turned[0])
    mask.paste(255, (0, 0), turned[1].point(lambda value: 255 if value > 127 else 0))


def _photo(draw: Any, number: int) -> Any:
    from PIL import Image
    from sklearn.datasets import load_sample_image

    pixels = load_sample_image(_PHOTOS[number // 2 % 2])
    side = int(draw.integers(260, min(pixels.shape[:2])))
    top, left = (int(draw.integers(0, edge - side + 1)) for edge in pixels.shape[:2])
    return Image.fromarray(pixels[top : top + side, left : left + side]).resize((EDGE, EDGE))
