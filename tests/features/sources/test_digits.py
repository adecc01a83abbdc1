"""Scenes of digits: masks that say which digit is drawn where, and no digit in two splits."""

import csv

import numpy as np
from PIL import Image

from headstart.features.sources.digits import write_digit_scenes


def test_a_mask_has_the_strokes_of_its_scene_and_the_same_call_changes_nothing(tmp_path):
    table = write_digit_scenes(tmp_path / "scenes", 6, (64, 96))
    with table.open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["split"] for row in rows] == ["train"] * 4 + ["val", "test"]
    seen = set()
    for row in rows:
        pixels, mask = (np.asarray(Image.open(table.parent / row[name])) for name in ("path", "mask"))
        assert pixels.shape == (64, 96, 3)
        assert mask.shape == (64, 96)
        assert pixels[mask > 0].min() > 50 > 40 > pixels[mask == 0].min()
        seen |= set(np.unique(mask).tolist())
    assert {0} < seen <= set(range(11))
    before = table.read_bytes()
    assert write_digit_scenes(tmp_path / "scenes", 6, (64, 96)).read_bytes() == before
