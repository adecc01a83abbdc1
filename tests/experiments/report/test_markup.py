"""What came from data is read, and does nothing else."""

import json
from html.parser import HTMLParser
from xml.etree import ElementTree

import pytest

from headstart.experiments.report.figures.svg import Drawing
from headstart.experiments.report.markup import embedded_json, plain, tag, text

HOSTILE = {
    "an element": "<script>alert(1)</script>",
    "the end of the data": "</script><img src=x onerror=alert(1)>",
    "a comment": "<!-- <script>",
    "quotes": '"\' onmouseover="alert(1)',
    "an entity": "&lt;script&gt; &amp;",
    "line breaks": "a\nb\r\nc\u2028d",
    "right to left": "photo\u202egpj.exe",
    "a byte that is no text": "caf\udce9.jpg",
    "a null": "a\0b",
    "5,000 characters": "x" * 5000,
}


class Texts(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.elements: list[str] = []
        self.attributes: list[tuple[str, str | None]] = []
        self.texts: list[str] = []

    def handle_starttag(self, tag, attrs):
        self.elements.append(tag)
        self.attributes += attrs

    def handle_data(self, data):
        self.texts.append(data)


@pytest.mark.parametrize("value", HOSTILE.values(), ids=HOSTILE)
def test_text_is_one_text_in_an_element_and_in_an_attribute(value):
    parsed = Texts()
    parsed.feed(f'<p title="{text(value)}">{text(value)}</p>')
    assert parsed.elements == ["p"]
    assert parsed.attributes == [("title", plain(value))]
    assert "".join(parsed.texts) == plain(value)


@pytest.mark.parametrize("value", HOSTILE.values(), ids=HOSTILE)
def test_json_in_a_page_ends_no_element_and_means_the_same(value):
    parsed = Texts()
    parsed.feed(f'<script type="application/json">{embedded_json({"name": value})}</script><p>after</p>')
    assert parsed.elements == ["script", "p"]
    assert json.loads(parsed.texts[0]) == {"name": value}


@pytest.mark.parametrize("value", HOSTILE.values(), ids=HOSTILE)
def test_a_drawing_with_such_names_is_well_formed(value):
    drawing = Drawing(100, 50, value)
    drawing.text(10, 10, value)
    drawing.circle(10, 10, 3, "dot", note=value)
    root = ElementTree.fromstring(drawing.file())
    assert [element.tag.rpartition("}")[2] for element in root.iter()] == ["svg", "style", "text", "circle", "title"]


@pytest.mark.parametrize("value", ["photo\u202egpj.exe", "a\u200fb", "\u2066x\u2069", "\ufeffx"])
def test_marks_that_turn_text_around_are_spelled_out(value):
    assert all(ord(letter) < 128 for letter in plain(value))


def test_a_long_name_keeps_its_beginning_and_its_end():
    shown = plain("begin" + "x" * 5000 + "end.jpg")
    assert len(shown) == 120
    assert shown.startswith("begin")
    assert shown.endswith("end.jpg")


def test_attributes_that_are_none_are_left_out():
    assert tag("rect", {"x": 1, "rx": None}) == '<rect x="1"></rect>'
