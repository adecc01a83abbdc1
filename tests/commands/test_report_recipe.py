"""`headstart report` of a recipe's training: finished, still going, and with whatever it chose to show."""

import json
import re

import pytest

from headstart.experiments.report.write_report import write_report

from .calling import call
from .test_report import HOSTILE, Elements
from .test_train import MINE, begun_and_left, configuration, mine, train

FIXTURES = (configuration, mine)  # of that module, used here, too
SHOW = """

def show(model, batches):
    from PIL import Image
    yield "a picture", Image.new("RGB", (4, 4))
    yield "drawn.svg", b"<svg xmlns='http://www.w3.org/2000/svg'><script>alert(1)</script></svg>"
    yield "words", "HOSTILE\\n" + "x" * 9000
    yield "model.bin", b"\\x00"
"""


@pytest.fixture
def shown(mine, tmp_path):
    mine.write_text(mine.read_text() + SHOW.replace("HOSTILE", HOSTILE))
    done = train(tmp_path, mine, "--name", "line")
    assert done.status == 0, done.errors
    return tmp_path / "workspace"


def test_the_page_has_the_number_the_curves_and_what_the_recipe_shows(shown):
    written = write_report("line", shown)
    content = written.path.read_text()
    assert "error on 20 validation items" in content
    assert "There is no test split" in content
    assert "What it makes" in content
    assert "How error went" in content
    assert {path.name for path in written.figures} >= {"course_error.svg", "course_error.json"}
    assert "data:image/png;base64," in content
    assert "data:image/svg+xml;base64," in content  # as an image, in which no script runs
    assert "model.bin" in content
    assert write_report("line", shown).path.read_text() == content


def page_that_shows(folder, show):
    """The page of a training of a small recipe that ends with the function `show`."""
    recipe = folder / "mine.py"
    recipe.write_text(MINE + show)
    (folder / "neighbour.py").write_text("OFFSET = 0.5\n")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HEADSTART_CONFIG", str(folder / "configuration"))
        done = train(folder, recipe, "--name", "line")
    assert done.status == 0, done.errors
    return write_report("line", folder / "workspace").path


LINE = {"text": "</script>", "bias": "1", "hand": "any", "strokes": [[[0, 0], [1, 2]]]}
DAMAGED_STROKES = {
    "no JSON": b"{",
    "a list": b"[]",
    "no lines": {"lines": []},
    "a line without text": {"lines": [{**LINE, "text": None, "strokes": []}]},
    "points that are no pairs": {"lines": [{**LINE, "strokes": [[[1, 2, 3]]]}]},
    "text for a number": {"lines": [{**LINE, "strokes": [[["a", 2]]]}]},
    "numbers that are none": b'{"lines": [{"text": "a", "bias": "1", "hand": "b", "strokes": [[[1e999, 1]]]}]}',
}


def test_lines_that_were_written_beforehand_are_on_the_page_and_their_text_is_no_markup(tmp_path):
    content = page_that_shows(tmp_path, show_strokes({"lines": [LINE]})).read_text()
    assert "How it writes" in content
    assert content.count("</script>") == 2  # of the lines and of the page's own


@pytest.mark.parametrize("said", DAMAGED_STROKES.values(), ids=DAMAGED_STROKES)
def test_strokes_that_are_none_are_shown_as_any_text(said, tmp_path):
    content = page_that_shows(tmp_path, show_strokes(said)).read_text()
    assert "How it writes" not in content
    assert "<figcaption>strokes</figcaption>" in content


def show_strokes(said):
    data = said if isinstance(said, bytes) else json.dumps(said).encode()
    return f"\n\ndef show(model, batches):\n    yield 'strokes.json', {data!r}\n"


def test_nothing_that_a_recipe_shows_is_markup(shown):
    elements = Elements(write_report("line", shown).path.read_text())
    assert [kind for kind, attributes in elements.all if kind == "script" and "type" not in attributes] == ["script"]
    assert not [kind for kind, _ in elements.all if kind == "svg" and "onload" in _]
    assert "xxxx…" in "".join(elements.inside.values()) or "…" in "".join(elements.inside.values())


def test_by_its_number_by_its_name_and_as_the_best_where_no_heads_are(shown):
    pages = {call("report", what, "--json", "-w", shown).json["page"] for what in ("1", "line", "exp_0001_line", "best")}
    assert len(pages) == 1


def test_one_that_still_goes_says_where_it_is_and_promises_nothing(mine, tmp_path):
    experiment = begun_and_left(mine, tmp_path)
    written = write_report(experiment.folder.name, tmp_path / "workspace")
    content = written.path.read_text()
    assert "It is not finished" in written.verdict
    assert re.search(r'<p class="big">(\d+%|begun)</p>', content)
    assert "95 %" not in content
