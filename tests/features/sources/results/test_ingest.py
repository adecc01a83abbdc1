"""Results of optimizers become rows, everything else a reason with file and place."""

import csv
import io
import json
import subprocess
import sys

import pytest

from headstart.features.sources.find import find_images
from headstart.features.sources.results.ingest import COLUMNS, ingest_results
from headstart.features.sources.results.optimizer_results import PARAMETERS, place_in, read_entries
from headstart.features.sources.source import SourceOptions
from headstart.pipeline.errors import HeadstartError
from tests.features.samples import DATA
from tests.support import ROOT

GOOD = dict(zip(PARAMETERS, (4, 6, 16, 60, 4.5, 10, 45, 3), strict=True))
OTHER = {**GOOD, "filter_speckle": 5}


def ingest(tmp_path, **files):
    """Rows and (file, where, why) of files with that content."""
    folder, images = tmp_path / "results", tmp_path / "images"
    folder.mkdir(exist_ok=True)
    images.mkdir(exist_ok=True)
    for name, content in files.items():
        data = content if isinstance(content, bytes) else json.dumps(content).encode()
        (folder / f"optimization_{name}.json").write_bytes(data)
    table, reasons = io.StringIO(), []
    ingested = ingest_results([folder], images, table, report=lambda one: reasons.append((one.file, one.where, one.why)))
    rows = list(csv.DictReader(io.StringIO(table.getvalue())))
    assert (ingested.rows, sum(ingested.left_out.values())) == (len(rows), len(reasons))
    return rows, reasons


def test_the_examples_give_their_rows_and_their_reasons(tmp_path):
    folder = DATA.parent / "cases" / "optimizer-results"
    if not folder.is_dir():
        pytest.skip(f"{folder} is absent; HEADSTART_TEST_DATA says where the data for development lies")
    table, reasons = io.StringIO(), []
    ingest_results([folder], tmp_path, table, report=lambda one: reasons.append((one.file, one.where, one.why)))
    rows = [{**row, "file": row["results_file"]} for row in csv.DictReader(io.StringIO(table.getvalue()))]
    with open(folder / "expected.csv", newline="") as file:
        expected = list(csv.DictReader(file))
    seen = [{name: row[name] for name in expected[0]} for row in rows]
    assert sorted(map(repr, seen)) == sorted(map(repr, expected))
    with open(folder / "expected_errors.csv", newline="") as file:
        assert sorted(reasons) == sorted(tuple(row) for row in csv.reader(file) if row[0] != "file")


def record(**changes):
    return {"image": "a.png", "parameters": GOOD, "ssim": 0.5, **changes}


@pytest.mark.parametrize(
    ("content", "where", "why"),
    [
        pytest.param(b"", "", "no JSON from character 0 on: it is empty", id="empty file"),
        pytest.param(b"\x89PNG\r\n\x1a\n", "", "no JSON from character 0 on: it is not UTF-8", id="a picture"),
        pytest.param(b"[] []", "", "no JSON from character 3 on: more follows behind the end of the JSON", id="JSON lines"),
        pytest.param({"summary": {"total": 3}}, "", "holds no result", id="only a summary"),
        pytest.param([record(), 7], "[1]", "is a number, not a result", id="a number among records"),
        pytest.param([record(image=["a.png"])], "[0]", "no image", id="image is a list"),
        pytest.param([record(image=7)], "[0]", "image is a number, not a name", id="image is a number"),
        pytest.param([record(image="a\x07.png")], "[0]", "image a\\x07.png has control characters in its name", id="bell"),
        pytest.param([record(image="../../etc/passwd")], "[0]", "is not below", id="image outside"),
        pytest.param([record(image="/elsewhere/a.png")], "[0]", "is not below", id="absolute image"),
        pytest.param([record(ssim=None)], "[0]", "no ssim", id="ssim is null"),
        pytest.param([record(ssim=True)], "[0]", "ssim is true or false, not a number", id="ssim is true"),
        pytest.param([record(ssim=-0.1)], "[0]", "ssim -0.1 is not between 0 and 1", id="negative ssim"),
        pytest.param([record(ssim=10**400)], "[0]", "ssim beyond 1e15 is not between 0 and 1", id="huge ssim"),
        pytest.param([record(parameters=[1, 2])], "[0]", "parameter filter_speckle is missing", id="parameters are a list"),
        pytest.param(
            [record(parameters={**GOOD, "color_precision": 9})],
            "[0]", "parameter color_precision 9 is not between 1 and 8", id="out of range",
        ),
        pytest.param(
            [record(parameters={**GOOD, "color_precision": 6.5})],
            "[0]", "parameter color_precision is 6.5, not a whole number", id="half a bit",
        ),
        pytest.param(
            [record(parameters={**GOOD, "corner_threshold": float("inf")})],
            "[0]", "parameter corner_threshold is not finite", id="infinite",
        ),
        pytest.param([record(iteration="third")], "[0]", "iteration is text, not a whole number", id="iteration is text"),
        pytest.param([{"image": "a.png", "error": "boom\nat 3"}], "[0]", "failed (boom\\nat 3): skipped", id="traceback"),
        pytest.param([record(success=False)], "[0]", "failed conversion (no reason given): skipped", id="no success, no reason"),
        pytest.param(json.loads("[" * 70 + "{}" + "]" * 70), "[0]" * 64, "is nested more than 64 deep", id="deep"),
    ],
)  # fmt: skip
def test_what_is_no_result_is_one_reason(tmp_path, content, where, why):
    _, reasons = ingest(tmp_path, broken=content)
    [(file, said_where, said_why)] = reasons
    assert (file, said_where) == ("optimization_broken.json", where)
    assert why in said_why
    assert "\n" not in said_why


def test_damage_costs_only_what_stands_behind_it(tmp_path):
    text = json.dumps([record(), record(parameters=OTHER), record(image="b.png")]).encode()
    rows, reasons = ingest(tmp_path, torn=text[:-20], whole=[record(image="c.png")])
    assert [row["image"] for row in rows] == ["a.png", "a.png", "c.png"]
    assert [why.partition(" from")[0] for _, _, why in reasons] == ["no JSON"]


@pytest.mark.parametrize(
    ("content", "place"),
    [
        pytest.param([record()], "[0]", id="list of records"),
        pytest.param(record(), "", id="one record"),
        pytest.param([{"image": "a.png", **GOOD, "ssim": 0.5}], "[0]", id="parameters beside the rest"),
        pytest.param({"results": [record()], "summary": {"ssim": 0.9}}, "results[0]", id="results"),
        pytest.param([{"imagePath": "a.png", "vtracerParams": GOOD, "metrics": {"ssim": 0.5}}], "[0]", id="camelCase"),
        pytest.param({"a.png": [{"params": GOOD, "ssim": 0.5}]}, "a.png[0]", id="by image"),
        pytest.param({"images": {"a.png": {"best": {"params": GOOD, "ssim": 0.5}}}}, "images/a.png/best", id="only the best"),
        pytest.param([{"image": "a.png", "best_parameters": GOOD, "best_ssim": 0.5}], "[0]", id="best_..."),
        pytest.param({"history": [{"params": GOOD, "ssim": 0.5}], "image": "a.png"}, "history[0]", id="image behind its history"),
        pytest.param({"config": record(image="no.png"), "results": [record()]}, "results[0]", id="a config is no result"),
    ],
)
def test_every_shape_gives_the_result(tmp_path, content, place):
    [row], reasons = ingest(tmp_path, shape=content)
    assert (row["image"], row["where"], row["ssim"]) == ("a.png", place, "0.5")
    assert [float(row[name]) for name in PARAMETERS] == [float(value) for value in GOOD.values()]
    assert not reasons


def test_a_large_file_says_what_a_small_one_says():
    content = {
        "images": {
            f"{n}.png": {"history": [record(image=None, ssim=i / 9) for i in range(9)], "logo_type": "text"} for n in range(9)
        },
        "optimization_method": "late",
    }
    content["images"]["0.png"]["history"][3] = {"error": "boom"}
    text = json.dumps(content).encode()
    small, large = (list(read_entries(io.BytesIO(text), largest)) for largest in (None, 400))
    assert small == large
    assert {entry.method for _, entry in small if hasattr(entry, "method")} == {"late"}
    assert place_in(small[3][0]) == "images/0.png/history[3]"


def test_one_result_in_two_files_is_one_row(tmp_path):
    rows, reasons = ingest(tmp_path, a=[record()], b=[record(), record(ssim=0.6)])
    assert len(rows) == 1
    assert [why for _, _, why in reasons] == [
        "duplicate of optimization_a.json [0] (same image, method, parameters and ssim): dropped, counted",
        "conflicts with optimization_a.json [0]: same image and parameters, another ssim",
    ]


def test_rows_before_a_second_value_count(tmp_path):
    rows, [(_, where, why)] = ingest(tmp_path, lines=b"\n".join([json.dumps([record()]).encode()] * 2))
    assert (len(rows), where) == (1, "")
    assert "more follows" in why


def test_two_methods_may_come_to_the_same(tmp_path):
    rows, reasons = ingest(tmp_path, a=[record(method="x"), record(method="y")])
    assert (len(rows), reasons) == (2, [])


@pytest.mark.parametrize(
    "name", ["sub/a.png", "a.png", "/data/logos/sub/a.png", "..\\logos\\sub\\a.png", "C:\\logos\\sub\\a.png"]
)
def test_an_image_is_known_by_the_end_of_its_name(tmp_path, name):
    (tmp_path / "images" / "sub").mkdir(parents=True)
    (tmp_path / "images" / "sub" / "a.png").write_bytes(b"png")
    [row], _ = ingest(tmp_path, a=[record(image=name)])
    assert row["image"] == "sub/a.png"


def test_a_name_in_two_folders_is_not_guessed(tmp_path):
    for folder in ("x", "y"):
        (tmp_path / "images" / folder).mkdir(parents=True)
        (tmp_path / "images" / folder / "a.png").write_bytes(b"png")
    rows, [(_, _, why)] = ingest(tmp_path, a=[record()])
    assert rows == []
    assert "stands in 2 folders" in why
    assert why.endswith("x/a.png, y/a.png")


def test_no_cell_is_a_formula_and_the_images_are_the_same(tmp_path):
    names = ["=1+1.png", "@a.png", "-x().png", "a.png"]
    for name in names:
        (tmp_path / name).write_bytes(b"png")
    (tmp_path / "mine.json").write_text(json.dumps([record(image=name, logo_type="=x()", method="@y") for name in names]))
    table, left_out = tmp_path / "table.csv", tmp_path / "left_out.csv"
    ingest_results([tmp_path / "mine.json"], tmp_path, table, left_out=left_out)
    cells = [cell for file in (table, left_out) for line in csv.reader(io.StringIO(file.read_text())) for cell in line]
    assert not [cell for cell in cells if cell.startswith(("=", "+", "-", "@"))]
    source = find_images(table, SourceOptions())
    assert sorted(image.path for image in source.images) == sorted(names)
    assert {image.size for image in source.images} == {3}


def test_a_table_beside_the_images_is_what_enqueue_reads(tmp_path):
    (tmp_path / "logos").mkdir()
    for name in "ab":
        (tmp_path / "logos" / f"{name}.png").write_bytes(b"png")
    file = tmp_path / "mine.json"
    file.write_text(json.dumps([record(), record(image="b.png"), record(parameters=OTHER)]))
    ingested = ingest_results([file], tmp_path / "logos", tmp_path / "table.csv")
    assert (ingested.rows, ingested.images, ingested.absent) == (3, 2, 0)
    source = find_images(tmp_path / "table.csv", SourceOptions())
    again = [note for note in source.notes if "again" in note]
    hint = f"headstart train quality --results {tmp_path / 'table.csv'} learns from all of them"
    assert again == [f"dropped 1 rows that name a path again; {hint}"]
    assert [image.path for image in source.images] == ["logos/a.png", "logos/b.png"]
    assert [image.group for image in source.images] == ["logos/a.png", "logos/b.png"]
    assert {"ssim", *PARAMETERS} <= set(source.columns)
    with pytest.raises(HeadstartError, match="exists\\. Pass --force"):
        ingest_results([file], tmp_path / "logos", tmp_path / "table.csv")
    assert ingest_results([file], tmp_path / "logos", tmp_path / "table.csv", force=True).rows == 3


@pytest.mark.parametrize(
    ("arrange", "why"),
    [
        pytest.param(lambda folder: [folder / "none.json"], "does not exist", id="no file"),
        pytest.param(lambda folder: [folder], "has no file optimization_", id="no results in the folder"),
    ],
)
def test_nothing_to_read_is_one_line(tmp_path, arrange, why):
    with pytest.raises(HeadstartError, match=why):
        ingest_results(arrange(tmp_path), tmp_path, io.StringIO())


def test_images_must_be_a_folder(tmp_path):
    (tmp_path / "a.json").write_text("[]")
    with pytest.raises(HeadstartError, match="is no folder\\. --images"):
        ingest_results([tmp_path / "a.json"], tmp_path / "none", io.StringIO())


def test_nothing_is_left_of_a_table_that_was_not_finished(tmp_path):
    with pytest.raises(HeadstartError):
        ingest_results([tmp_path], tmp_path / "none", tmp_path / "table.csv")
    (tmp_path / "a.json").write_text("[]")
    with pytest.raises(HeadstartError):
        ingest_results([tmp_path / "a.json"], tmp_path / "none", tmp_path / "table.csv")
    assert [path.name for path in tmp_path.iterdir()] == ["a.json"]


def test_memory_does_not_grow_with_a_history(tmp_path):
    """24 MB of results in one file, read with no more than a few MB beside what imports take."""
    with open(tmp_path / "a.json", "w") as file:
        file.write('{"images": {"a.png": {"history": [')
        for number in range(70_000):
            file.write("," * (number > 0))
            parameters = {**GOOD, "length_threshold": 4 + number / 1e5}
            json.dump({"iteration": number, "parameters": parameters, "ssim": 0.5, "note": "x" * 100}, file)
        file.write("]}}}")
    code = (
        "import resource, sys, pathlib\n"
        "from headstart.features.sources.results.ingest import ingest_results\n"
        f"folder = pathlib.Path({str(tmp_path)!r})\n"
        "before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss\n"
        "rows = ingest_results([folder / 'a.json'], folder, folder / 'table.csv').rows\n"
        "print(rows, (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) // 1000)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    rows, megabytes = map(int, done.stdout.split())
    assert rows == 70_000
    assert megabytes < 100  # decoded whole, it is several hundred


def test_the_columns_are_documented():
    text = (ROOT / "docs" / "formats.md").read_text()
    assert all(f"`{name}`" in text or name in PARAMETERS for name in COLUMNS)
