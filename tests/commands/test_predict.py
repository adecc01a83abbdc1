import csv
import io
import os
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from headstart.features.encoders.spec import read_encoder
from tests.support import run_python

from .calling import call


def evaluated(workspace, run, *more) -> dict[str, list[str]]:
    rows = csv.reader(io.StringIO(call("evaluate", run, "--csv", *more, "-w", workspace.root).output))
    next(rows)
    return {row[0]: row[1:] for row in rows}


@pytest.mark.parametrize("run", [1, 2, 3])
def test_a_prediction_is_what_evaluation_judged(trained, pictures, run):
    expected = evaluated(trained, run)
    done = call("predict", pictures, "--run", run, "--json", "-w", trained.root)
    assert done.status == 0
    found = {row["path"].removeprefix(f"{pictures}/"): row for row in done.json["predictions"]}
    assert len(found) == 90
    for path, (label, probability, _) in expected.items():
        assert found[path]["label"] == label
        assert found[path]["probability"] == pytest.approx(float(probability), abs=1e-6)


def test_numbers_are_predicted_from_an_image_and_the_columns_beside_it(measured):
    folder = measured.root.parent / "data"
    expected = evaluated(measured, 1)
    for path, values in expected.items():
        number = int(path[:3])
        beside = ["--aux", f"age={number % 5 / 10}", "--aux", f"=size={number % 7}"]
        done = call("predict", folder / path, *beside, "--json", "--run", "1", "-w", measured.root)
        assert done.status == 0, done.errors
        [found] = done.json["predictions"]
        assert list(found["values"].values()) == pytest.approx([float(value) for value in values[:2]], rel=1e-5)


def test_every_format_of_a_prediction_has_the_same_numbers(measured):
    words = ["predict", measured.root.parent / "data" / "000.png", "--aux", "=size=1", "--aux", "age=0.2", "-w", measured.root]
    [row] = call(*words, "--json").json["predictions"]
    wanted = pytest.approx(list(row["values"].values()), rel=1e-5)
    assert [float(cell) for cell in call(*words, "--csv").output.splitlines()[1].split(",")[1:3]] == wanted
    assert [float(cell) for cell in call(*words).output.splitlines()[1].split()[1:]] == wanted


def test_the_most_probable_classes_are_shown_in_order(trained, pictures):
    done = call("predict", pictures / "a", "--top", "9", "--json", "--run", "2", "-w", trained.root)
    for row in done.json["predictions"]:
        probabilities = [entry["probability"] for entry in row["top"]]
        assert len(probabilities) == 3
        assert probabilities == sorted(probabilities, reverse=True)
        assert sum(probabilities) == pytest.approx(1)
        assert row["top"][0] == {"label": row["label"], "probability": row["probability"]}
    table = call("predict", pictures / "a", "--top", "2", "--run", "2", "-w", trained.root).output.splitlines()
    assert table[0].split() == ["image", "label", "prob.", "no.", "2", "prob."]
    for line, row in zip(table[1:], done.json["predictions"], strict=True):
        first, second = row["top"][:2]
        wanted = [row["path"], first["label"], f"{first['probability']:.4f}", second["label"], f"{second['probability']:.4f}"]
        assert line.split() == wanted


@pytest.fixture
def mixed(tmp_path, pictures):
    """Names and what is wrong with them; the last is a sound picture."""
    folder = tmp_path / "mixed"
    folder.mkdir()
    sound = (pictures / "a" / "000.png").read_bytes()
    (folder / "text.jpg").write_text("hello")
    (folder / "empty.png").touch()
    (folder / "cut.png").write_bytes(sound[:200])
    os.mkfifo(folder / "pipe.png")
    (folder / "sound.png").write_bytes(sound)
    return folder


REASONS = {"text.jpg": "not_an_image", "empty.png": "not_an_image", "cut.png": "truncated", "pipe.png": "not_a_file"}


def test_a_broken_image_costs_its_own_row_and_the_exit_status(trained, mixed):
    done = call("predict", mixed, mixed / "nowhere.png", "no/such/folder.png", "--json", "-w", trained.root)
    assert done.status == 1
    assert done.errors == "6 images of 7 could not be read\n"
    rows = {Path(row["path"]).name: row for row in done.json["predictions"]}
    wanted = {**REASONS, "nowhere.png": "missing", "folder.png": "missing"}
    assert {name: row["error"]["code"] for name, row in rows.items() if "error" in row} == wanted
    assert rows["sound.png"]["probability"] > 0
    table = call("predict", mixed, "-w", trained.root)
    assert table.status == 1
    assert "cut.png" in next(line for line in table.output.splitlines() if "truncated: " in line)


def test_csv_is_no_formula_and_has_the_same_columns_in_every_row(trained, mixed, monkeypatch):
    shutil.copy(mixed / "sound.png", mixed / "=1+1.png")
    shutil.copy(mixed / "sound.png", mixed / 'two\nlines,".png')
    monkeypatch.chdir(mixed)
    done = call("predict", ".", "--top", "2", "--csv", "-w", trained.root)
    rows = list(csv.reader(io.StringIO(done.output)))
    assert rows[0] == ["path", "label", "probability", "label_2", "probability_2", "error"]
    assert {len(row) for row in rows} == {6}
    names = {row[0] for row in rows[1:]}
    assert {"\\x3d1+1.png", 'two\\nlines,".png', "sound.png"} <= names
    assert not any(cell[:1] in ("=", "+", "@", "-") for row in rows for cell in row)


def test_a_column_named_like_a_formula_is_none_in_csv(measured, pictures):
    done = call("predict", pictures / "a", "--aux", "=size=1", "--aux", "age=0", "--csv", "-w", measured.root)
    assert done.output.splitlines()[0] == "path,light,dark,error"
    assert len(done.output.splitlines()) == 31


AUXILIARY = {
    "none": ([], "they are missing: --aux =size=VALUE --aux age=VALUE"),
    "one missing": (["--aux", "=size=3"], "they are missing: --aux age=VALUE"),
    "unknown": (["--aux", "weight=3"], "--aux weight=3: the head takes =size, age"),
    "no number": (["--aux", "age=old"], "expected a number, such as --aux age=0.5"),
    "not finite": (["--aux", "age=inf"], "expected a number, such as --aux age=0.5"),
    "no value": (["--aux", "age"], "expected a number, such as --aux age=0.5"),
}


@pytest.mark.parametrize(("given", "says"), AUXILIARY.values(), ids=AUXILIARY)
def test_columns_beside_the_image_are_asked_for(measured, pictures, given, says):
    done = call("predict", pictures / "a", *given, "-w", measured.root)
    assert done.status == 1
    assert says in done.reason


def linked(folder):
    (folder / "in").mkdir()
    (folder / "in" / "link.png").symlink_to(folder / "sound.png")
    return folder / "in"


PLACES = {
    "a folder without images": (lambda folder: (folder / "x").mkdir() or folder / "x", "holds no image"),
    "a link out of the folder": (linked, "1 symbolic link leaves"),
}


@pytest.mark.parametrize(("make", "says"), PLACES.values(), ids=PLACES)
def test_a_folder_that_cannot_be_meant_is_explained_in_one_line(trained, mixed, make, says):
    done = call("predict", make(mixed), "-w", trained.root)
    assert done.status == 1
    assert says in done.reason


def test_links_are_followed_where_that_is_asked_for(trained, mixed):
    folder = linked(mixed)
    for place, more in ((folder, ["--allow-symlinks"]), (folder / "link.png", [])):
        assert call("predict", place, *more, "-w", trained.root).status == 0


def test_an_encoder_that_is_another_by_now_is_refused(own, pictures):
    [folder] = own.features.glob("encoder_*")
    other = replace(read_encoder(folder), weights_sha256="00" * 32)
    (folder / "encoder.json").write_bytes(other.to_json())
    done = call("predict", pictures / "a", "-w", own.root)
    assert done.status == 1
    assert "the head was trained on features of" in done.reason


def words_of_best(workspace):
    best = call("runs", "show", "best", "--json", "-w", workspace.root).json
    return f"run {best['run']} ({best['head']} of {best['experiment']})"


def test_a_prediction_on_a_cpu_imports_neither_torch_nor_sklearn(trained, pictures):
    code = """
sys.argv = ["headstart", "predict", sys.argv[2], "--device", "cpu", "-w", sys.argv[1]]
from headstart.cli import _run
status = _run()
print(status, *sys.modules)
"""
    _, output, errors = run_python(code, str(trained.root), str(pictures / "a" / "000.png"))
    assert errors.splitlines() == [f"said by {words_of_best(trained)}, trained on 63 images"]
    status, *modules = output.splitlines()[-1].split()
    assert status == "0"
    assert not {"torch", "timm", "sklearn", "pandas", "scipy", "h5py"} & set(modules)


def test_more_images_than_are_in_memory_at_once_come_in_order(trained, tmp_path):
    for number in range(150):
        Image.fromarray(np.full((8, 8, 3), number, np.uint8)).save(tmp_path / f"{number:03d}.png")
    found = call("predict", tmp_path, "--json", "-w", trained.root).json["predictions"]
    assert [Path(row["path"]).name for row in found] == [f"{number:03d}.png" for number in range(150)]
    one = call("predict", tmp_path / "140.png", "--json", "-w", trained.root).json["predictions"][0]
    assert one == found[140]


def test_explain_leaves_a_picture_of_each_image_beside_the_same_answers(trained, pictures, tmp_path):
    words = ["predict", pictures / "a", "--run", "2", "--json", "-w", trained.root]
    plain, explained = call(*words), call(*words, "--explain", tmp_path / "seen")
    assert explained.status == 0, explained.errors
    rows = explained.json["predictions"]
    assert [row["label"] for row in rows] == [row["label"] for row in plain.json["predictions"]]
    for row, other in zip(rows, plain.json["predictions"], strict=True):
        assert row["probability"] == pytest.approx(other["probability"], abs=1e-2)
        with Image.open(row["overlay"]) as picture:
            assert picture.format == "PNG"
    assert sorted(path.name for path in (tmp_path / "seen").iterdir()) == [f"{Path(row['path']).name}.png" for row in rows]
    assert call(*words, "--explain", tmp_path / "seen").status == 0  # the same pictures


def test_explain_writes_over_no_file_of_somebody_else(trained, pictures, tmp_path):
    image = sorted((pictures / "a").iterdir())[0]
    mine = tmp_path / f"{image.name}.png"
    mine.write_bytes(b"mine")
    done = call("predict", image, "--explain", tmp_path, "-w", trained.root)
    assert done.status == 1
    assert "exists and holds something else" in done.errors
    assert mine.read_bytes() == b"mine"


def test_explain_refuses_two_images_of_one_name_before_any_work(trained, pictures, tmp_path):
    for folder in "xy":
        (tmp_path / folder).mkdir()
        shutil.copy(sorted((pictures / "a").iterdir())[0], tmp_path / folder / "one.png")
    done = call("predict", tmp_path / "x", tmp_path / "y", "--explain", tmp_path / "seen", "-w", trained.root)
    assert done.status == 1
    assert "would both be explained in" in done.errors
    assert not (tmp_path / "seen").exists()


def test_an_image_that_cannot_be_read_costs_its_own_row_when_others_are_explained(trained, pictures, tmp_path):
    (tmp_path / "broken.png").write_bytes(b"no image")
    image = sorted((pictures / "a").iterdir())[0]
    done = call("predict", tmp_path / "broken.png", image, "--explain", tmp_path / "seen", "--json", "-w", trained.root)
    assert done.status == 1
    broken, sound = done.json["predictions"]
    assert "error" in broken
    assert "overlay" not in broken
    assert Path(sound["overlay"]).is_file()
