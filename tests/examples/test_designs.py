"""The example that draws designs: scores on layouts made by hand, structure that fits what is drawn, files there and back."""

import hashlib
import importlib.util
import json
import subprocess
import sys

import numpy as np
import pytest

import headstart
from headstart.experiments.designs.description import CHANNELS, COLOURS, DESIGN_FORMATS, GOALS, SCORES, read_description
from tests.commands.calling import call
from tests.support import ROOT

FOLDER = ROOT / "examples" / "designs"
NAMES = ("grammar", "lettering", "composing", "drawing", "designs")


@pytest.fixture(autouse=True)
def configuration(tmp_path, monkeypatch):
    monkeypatch.setenv("HEADSTART_CONFIG", str(tmp_path / "configuration"))


@pytest.fixture(scope="module")
def world():
    """The example's modules by name; they import each other by their plain names, as they do when they are made from."""
    modules = {}
    for name in NAMES:
        spec = importlib.util.spec_from_file_location(name, FOLDER / f"{name}.py")
        modules[name] = sys.modules[name] = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(modules[name])
    for name in NAMES:
        del sys.modules[name]  # so that `make` has to bring them itself
    return modules


def text(grammar, box, *, size=10, level=2, ink=(0, 0, 0), ground=(255, 255, 255)):
    lines = (grammar.Line("words", box),)
    return grammar.Element("text", box, lines, size, level, grammar.Paint("black", ink), grammar.Paint("white", ground))


@pytest.mark.parametrize(
    ("boxes", "expected"),
    [
        pytest.param([(10, 0, 50, 10), (10, 20, 90, 30)], 1.0, id="left edges meet"),
        pytest.param([(10, 0, 50, 10), (0, 20, 60, 30)], 1.0, id="centres meet"),
        pytest.param([(30, 0, 50, 10), (12, 20, 50, 30)], 1.0, id="right edges meet"),
        pytest.param([(10, 0, 50, 10), (14, 20, 74, 30)], 0.5, id="four pixels beside"),
        pytest.param([(10, 0, 50, 10), (30, 20, 95, 30)], 0.0, id="far beside"),
        pytest.param([(10, 0, 50, 10), (10, 20, 90, 30), (14, 40, 200, 50)], (1 + 0.5 + 0.5) / 3, id="mean over pairs"),
        pytest.param([(0, 0, 40, 10), (43, 20, 80, 30)], 1.0, id="other columns do not count"),
        pytest.param([], 1.0, id="nothing"),
    ],
)
def test_alignment_is_what_its_formula_says(world, boxes, expected):
    assert world["grammar"].alignment(boxes) == pytest.approx(expected)


@pytest.mark.parametrize(
    ("colours", "expected"),
    [
        pytest.param([((0, 0, 0), (255, 255, 255))], 1.0, id="black on white"),
        pytest.param([((80, 80, 80), (80, 80, 80))], 0.0, id="no contrast"),
        pytest.param([((119, 119, 119), (255, 255, 255))], np.log(4.478) / np.log(21), id="grey of 4.48 to 1"),
        pytest.param([((0, 0, 0), (255, 255, 255)), ((9, 9, 9), (9, 9, 9))], 0.5, id="mean over text"),
        pytest.param([], 0.0, id="no text"),
    ],
)
def test_contrast_is_what_its_formula_says(world, colours, expected):
    grammar = world["grammar"]
    elements = tuple(text(grammar, (0, 0, 40, 10), ink=ink, ground=ground) for ink, ground in colours)
    assert grammar.contrast(elements) == pytest.approx(expected, abs=1e-4)


def test_contrast_weighs_text_by_its_area(world):
    grammar = world["grammar"]
    elements = (text(grammar, (0, 0, 90, 10)), text(grammar, (0, 0, 10, 10), ink=(255, 255, 255)))
    assert grammar.contrast(elements) == pytest.approx(0.9)


@pytest.mark.parametrize(
    ("boxes", "expected"),
    [
        pytest.param([(0, 0, 100, 40)], 1.0, id="three fifths empty"),
        pytest.param([(0, 0, 100, 60)], 0.5, id="two fifths empty"),
        pytest.param([(0, 0, 100, 40), (0, 0, 100, 40)], 1.0, id="what overlaps counts once"),
        pytest.param([(0, 0, 100, 100)], 0.0, id="full"),
        pytest.param([], 0.0, id="empty"),
    ],
)
def test_whitespace_is_what_its_formula_says(world, boxes, expected):
    assert world["grammar"].whitespace((0, 0, 100, 100), boxes) == pytest.approx(expected)


@pytest.mark.parametrize(
    ("sizes", "expected"),
    [
        pytest.param({0: [40], 1: [20], 2: [10]}, 1.0, id="each twice the next"),
        pytest.param({0: [40], 1: [10], 2: [10]}, 0.5, id="more than twice counts as twice"),
        pytest.param({0: [20], 2: [14, 14.284271247461902]}, 0.5, id="a level that is missing, and a mean"),
        pytest.param({0: [10], 1: [12]}, 0.0, id="the wrong way round"),
        pytest.param({2: [10]}, 0.0, id="one level"),
    ],
)
def test_hierarchy_is_what_its_formula_says(world, sizes, expected):
    grammar = world["grammar"]
    elements = tuple(text(grammar, (0, 0, 9, 9), size=size, level=level) for level, all_ in sizes.items() for size in all_)
    assert grammar.hierarchy(elements) == pytest.approx(expected, abs=1e-2)


def layouts(world, count):
    return [world["composing"].Composer(np.random.default_rng((3, number))).layout() for number in range(count)]


def test_nothing_stands_off_its_page_or_on_something_else(world):
    for layout in layouts(world, 200):
        assert layout.elements
        left, top, right, bottom = layout.page
        taken = np.zeros((256, 256), bool)
        for element in layout.elements:
            box = element.box
            assert left <= box[0] < box[2] <= right
            assert top <= box[1] < box[3] <= bottom
            assert not taken[box[1] : box[3], box[0] : box[2]].any()
            taken[box[1] : box[3], box[0] : box[2]] = True
            for line in element.lines:
                assert box[0] <= line.box[0] < line.box[2] <= box[2]
                assert line.box[3] - line.box[1] == element.size


def test_letters_are_drawn_where_the_text_mask_is(world):
    """Every pixel that text changes lies in the box of a line, but for the odd swash, and every line has some."""
    for number, layout in enumerate(layouts(world, 20)):
        without = world["grammar"].Layout(
            layout.page, layout.around, layout.paper, layout.accent, layout.band, layout.frame,
            tuple(
                world["grammar"].Element(one.kind, one.box) if one.kind != "text" else one
                for one in layout.elements
                if one.kind != "text"
            ),
        )  # fmt: skip
        pixels = [world["drawing"].drawn(one, np.random.default_rng(number)).astype(int) for one in (layout, without)]
        changed = np.abs(pixels[0] - pixels[1]).max(-1) > 40
        mask = world["drawing"].structure(layout)[0].astype(bool)
        bullets = np.zeros_like(mask)
        for element in layout.elements:
            for line in element.lines:
                box = line.box
                if element.has_bullets:
                    bullets[box[1] : box[3], box[0] - 8 : box[0]] = True
        assert (changed & ~mask & ~bullets).sum() <= 0.03 * max(1, changed.sum())


def test_structure_has_the_ids_and_the_prominence_of_what_is_there(world):
    grammar = world["grammar"]
    paper, accent, ink = (grammar.Paint(name, COLOURS[name]) for name in ("white", "red", "black"))
    title = grammar.Element("text", (20, 20, 60, 40), (grammar.Line("Hi", (20, 20, 60, 40)),), 20, 0, ink, paper)
    picture = grammar.Element("picture", (20, 60, 70, 110))
    layout = grammar.Layout(
        (0, 0, 200, 200), grammar.Paint("around", COLOURS["around"]), paper, accent, (0, 0, 10, 200), None, (title, picture)
    )
    said = world["drawing"].structure(layout)
    assert said.shape == (len(CHANNELS), 256, 256)
    assert (said[0].sum(), said[1].sum()) == (40 * 20, 50 * 50)
    names = list(COLOURS)
    assert [names[said[2][row, column]] for row, column in ((250, 250), (150, 150), (5, 5), (30, 30), (80, 40))] == [
        "around", "white", "red", "black", "picture",
    ]  # fmt: skip
    assert (said[3][30, 30], said[3][80, 40], said[3][150, 150]) == (128, 64, 0)


def test_scores_and_descriptions_are_spread(world):
    composers = [world["composing"].Composer(np.random.default_rng((0, number))) for number in range(300)]
    said = {name: [world["grammar"].scores(composer.layout())[name]] for composer in composers[:1] for name in SCORES}
    for composer in composers[1:]:
        for name, value in world["grammar"].scores(composer.layout()).items():
            said[name].append(value)
    for name, values in said.items():
        assert 0 <= min(values) <= max(values) <= 1
        assert np.std(values) > 0.15, name
    assert {composer.goal for composer in composers} == set(GOALS)
    assert {composer.format for composer in composers} == set(DESIGN_FORMATS)


def test_the_same_seed_gives_the_same_bytes_in_another_process(world):
    program = (
        "import hashlib, designs; one = designs.design(5, 77); "
        "print(hashlib.sha256(one['image'].tobytes() + one['structure'].tobytes() + one['metadata'].encode()).hexdigest())"
    )
    path = {"PYTHONPATH": f"{FOLDER}:{ROOT}", "PYTHONHASHSEED": "7"}
    there = subprocess.run([sys.executable, "-c", program], env=path, capture_output=True, text=True, check=True).stdout.strip()
    one = world["designs"].design(5, 77)
    said = one["image"].tobytes() + one["structure"].tobytes() + one["metadata"].encode()
    assert hashlib.sha256(said).hexdigest() == there
    assert one["metadata"] != world["designs"].design(6, 77)["metadata"]


@pytest.fixture
def files(world, tmp_path):
    """A making of five designs, and its files."""
    done = call("make", FOLDER / "designs.py", "--count", 5, "-w", tmp_path / "w")
    assert done.status == 0, done.errors
    [made] = (tmp_path / "w" / "features").glob("made_designs_*")
    assert world["designs"].main(["--as-files", str(tmp_path / "files"), str(made)]) == 0
    return tmp_path / "files"


def opened(root):
    [made] = (root / "features").glob("made_designs_*")
    return headstart.open_made(made)


def test_designs_become_files_and_files_become_designs(files, tmp_path):
    assert sorted(path.relative_to(files).as_posix() for path in files.rglob("*.*"))[::5] == [
        "f_tensors/000000.npy", "images/000000.npy", "metadata/000000.json",
    ]  # fmt: skip
    done = call("make", FOLDER / "designs.py", "--from-files", files, "-w", tmp_path / "again")
    assert done.status == 0, done.errors
    first, second = opened(tmp_path / "w"), opened(tmp_path / "again")
    assert (first.column("image") == second.column("image")).all()
    assert (first.column("structure") == second.column("structure")).all()
    assert first.column("metadata") == second.column("metadata")
    for text in first.column("metadata"):
        read_description(text, "here")


def changed(**values):
    def change(folder):
        path = folder / "metadata" / "000002.json"
        said = {**json.loads(path.read_text()), **values}
        path.write_text(json.dumps({name: value for name, value in said.items() if value is not None}))

    return change


def score(name, value):
    def change(folder):
        path = folder / "metadata" / "000002.json"
        said = json.loads(path.read_text())
        said["grammar"][name] = value
        path.write_text(json.dumps(said))

    return change


def array(name, value):
    return lambda folder: np.save(folder / name / "000002.npy", value)


@pytest.mark.parametrize(
    ("change", "why"),
    [
        pytest.param(array("f_tensors", np.zeros((3, 256, 256), np.uint8)), "expected uint8 (4, 256, 256)", id="three channels"),
        pytest.param(array("f_tensors", np.zeros((4, 256, 256), np.float32)), "is float32", id="floats"),
        pytest.param(array("images", np.zeros((100, 256, 3), np.uint8)), "of shape (100, 256, 3)", id="another size"),
        pytest.param(lambda folder: (folder / "images" / "000002.npy").unlink(), "000002.npy", id="no image"),
        pytest.param(
            lambda folder: (folder / "metadata" / "000002.json").write_text("[1"), "000002.json is damaged", id="no JSON"
        ),
        pytest.param(lambda folder: (folder / "metadata" / "000002.json").write_text("[1]"), "no JSON object", id="a list"),
        pytest.param(changed(goal="dazzle"), "goal 'dazzle', expected one of sell", id="unknown goal"),
        pytest.param(changed(goal=["sell"]), "expected one of sell", id="goal is a list"),
        pytest.param(changed(format=None), "no 'format'", id="no format"),
        pytest.param(changed(tone=1.2), "tone 1.2, expected a number from 0 to 1", id="tone too loud"),
        pytest.param(changed(tone=True), "tone True", id="tone is no number"),
        pytest.param(changed(grammar=None), "no 'grammar'", id="no scores"),
        pytest.param(score("contrast", float("nan")), "contrast nan", id="score is NaN"),
        pytest.param(score("alignment", -0.1), "alignment -0.1", id="negative score"),
    ],
)
def test_a_design_whose_files_are_wrong_is_left_out_and_named(files, tmp_path, change, why):
    change(files)
    root = tmp_path / "again"
    done = call("make", FOLDER / "designs.py", "--from-files", files, "-w", root)
    assert "Traceback" not in done.errors + done.output
    assert opened(root).index.tolist() == [0, 1, 3, 4]
    failed = call("status", "--failed", "-w", root)
    assert why in failed.output + failed.errors
    assert len(failed.output) < 2000


def test_a_folder_without_designs_is_one_line(tmp_path):
    done = call("make", FOLDER / "designs.py", "--from-files", tmp_path / "none", "-w", tmp_path / "w")
    assert done.status == 1
    assert "items() says that there is none" in done.errors
