"""What a recipe shows stands on the page, all of it, however large the pictures are."""

import base64
import io
import re

import numpy as np
from PIL import Image

from headstart.experiments.report.recipe_page import _shown


def test_two_dozen_large_pictures_all_stand_on_the_page_smaller_and_a_broken_one_is_named(tmp_path):
    draw = np.random.default_rng(0)
    for number in range(24):
        Image.fromarray(draw.integers(0, 256, (90, 120, 3), np.uint8)).resize((960, 720)).save(tmp_path / f"{number:02}.png")
    assert min(path.stat().st_size for path in tmp_path.iterdir()) > 400_000
    Image.new("RGB", (8, 8)).save(tmp_path / "small.png")
    (tmp_path / "torn.png").write_bytes((tmp_path / "00.png").read_bytes()[:200_000])
    section = _shown(tmp_path, "")
    assert section is not None
    pictures = re.findall(r"data:(image/\w+);base64,([A-Za-z0-9+/=]+)", section.content)
    assert [kind for kind, _ in pictures] == ["image/jpeg"] * 24 + ["image/png"]
    assert {Image.open(io.BytesIO(base64.b64decode(data))).size for _, data in pictures} == {(960, 720), (8, 8)}
    assert len(section.content) < 8_000_000
    assert "torn.png" in section.how
