"""Drawings hold every point, on the page, and no plotter draws while it travels."""

import io
import re
import xml.etree.ElementTree as ElementTree

import numpy as np
import pytest
from PIL import Image

from headstart.experiments.strokes.drawing import FORMS, DrawingPage, PenCommands, as_gcode, as_png, as_svg, drawn_as, laid_out
from headstart.experiments.strokes.line import PenLine
from headstart.pipeline.errors import HeadstartError

from .made import lines


def test_svg_has_one_path_a_stroke_in_millimetres_within_the_margins():
    laid = laid_out(lines(3), DrawingPage(width=100, margin=10))
    paths = paths_of(as_svg(laid))
    assert len(paths) == sum(len(line.strokes) for line in lines(3))
    assert ElementTree.fromstring(as_svg(laid)).get("width") == "100.00mm"
    numbers = np.concatenate(paths)
    assert numbers[:, 0].min() >= 10 - 1e-3
    assert numbers[:, 0].max() <= 90 + 1e-3
    assert numbers[:, 1].min() >= 10 - 1e-3
    assert numbers[:, 1].max() <= laid.height - 10 + 1e-3


def with_a_dot():
    """A line that ends in a stroke of a single point."""
    [line] = lines(1)
    return PenLine(np.append(line.offsets, [[5, 0]], axis=0), np.append(line.ends, True), f"{line.text}.", line.writer)


def paths_of(svg):
    """Points of each path, in millimetres."""
    paths = [element.get("d") for element in ElementTree.fromstring(svg).iter() if element.tag.endswith("path")]
    return [np.array([[float(x) for x in pair.split()] for pair in path[1:].split("L")]) for path in paths]


@pytest.mark.parametrize("letter", [3.0, 0.001], ids=["a dot", "letters smaller than what is rounded"])
def test_every_path_has_a_length(letter):
    laid = laid_out([with_a_dot()], DrawingPage(letter=letter))
    assert all(np.ptp(path, axis=0).max() > 0 for path in paths_of(as_svg(laid)))


def test_vpype_reads_every_path_at_its_place_and_the_size_of_the_page(tmp_path):
    vpype = pytest.importorskip("vpype", reason="needs vpype, of the extra `plotter`")
    laid = laid_out([with_a_dot(), *lines(3)], DrawingPage(width=100, height=150, margin=10))
    (tmp_path / "lines.svg").write_bytes(as_svg(laid))
    read = vpype.read_multilayer_svg(str(tmp_path / "lines.svg"), quantization=0.01)
    one_mm = vpype.convert_length("1mm")
    assert read.page_size == pytest.approx((100 * one_mm, 150 * one_mm))
    paths = [path for layer in read.layers.values() for path in layer]
    assert len(paths) == len(laid.strokes)
    for path, stroke in zip(paths, laid.strokes, strict=True):
        for place in (0, -1):
            assert abs(path[place] / one_mm - complex(*stroke[place])) < 0.02


def simulated(code, pen):
    """What a plotter does: drawn and travelled segments."""
    is_down, place, drawn, travelled = False, (0.0, 0.0), [], []
    for line in code.decode().splitlines():
        if line == pen.down:
            is_down = True
        elif line == pen.up:
            is_down = False
        elif match := re.match(r"(G[01]) X(-?[\d.]+) Y(-?[\d.]+)", line):
            there = float(match[2]), float(match[3])
            assert (match[1] == "G1") == is_down, line
            (drawn if is_down else travelled).append((place, there))
            place = there
    assert not is_down
    return drawn, travelled


def test_a_plotter_draws_every_stroke_and_never_while_it_travels():
    pen, laid = PenCommands("M5", "M3 S40"), laid_out(lines(4), DrawingPage(width=150, height=200))
    drawn, travelled = simulated(as_gcode(laid, pen), pen)
    assert len(drawn) == sum(len(stroke) - 1 for stroke in laid.strokes)
    assert len(travelled) == len(laid.strokes) + 1
    ends = np.array([end for _, end in (*drawn, *travelled)])
    assert ends.min() >= 0
    assert ends[:, 0].max() <= 150
    assert ends[:, 1].max() <= 200


@pytest.mark.parametrize("form", FORMS)
def test_every_form_is_the_same_bytes_for_the_same_lines(form):
    one, again = (drawn_as(form, lines(2), DrawingPage(), PenCommands()) for _ in range(2))
    assert one == again
    assert len(one) > 100


def test_a_picture_has_ink_and_lines_stand_where_they_are_wanted():
    pixels = {}
    for align in ("left", "right"):
        laid = laid_out(lines(2), DrawingPage(width=100, letter=2, align=align))
        pixels[align] = np.asarray(Image.open(io.BytesIO(as_png(laid)))) < 128
    assert pixels["left"].any(axis=0).argmax() < pixels["right"].any(axis=0).argmax()


BAD = {
    "no room between the margins": (DrawingPage(width=20, margin=10), "no room"),
    "a page that is too low": (DrawingPage(height=30), "--height"),
}


@pytest.mark.parametrize(("page", "reason"), BAD.values(), ids=BAD)
def test_a_page_that_is_too_small_says_what_it_takes(page, reason):
    with pytest.raises(HeadstartError, match=reason):
        laid_out(lines(12), page)
