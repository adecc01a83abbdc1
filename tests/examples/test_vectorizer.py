"""The example that makes results of a vectorizer."""

import importlib.util
import json
import sys

import pytest
from PIL import Image, ImageDraw

from tests.commands.calling import call
from tests.support import ROOT

FILE = ROOT / "examples" / "vectorizer" / "vectorize.py"


@pytest.fixture(autouse=True)
def configuration(tmp_path, monkeypatch):
    monkeypatch.setenv("HEADSTART_CONFIG", str(tmp_path / "configuration"))


@pytest.fixture(scope="module")
def vectorize():
    spec = importlib.util.spec_from_file_location("vectorize_example", FILE)
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


def test_parameters_are_what_ingest_takes(vectorize):
    from headstart.features.sources.results.optimizer_results import PARAMETERS

    assert list(vectorize.RANGES) == list(PARAMETERS)
    for one in vectorize.parameter_sets("a.png", 50, 0):
        for name, value in one.items():
            low, high, is_whole = PARAMETERS[name]
            assert low <= value <= high
            assert not is_whole or value == int(value)


def test_an_image_gets_the_same_parameters_whatever_else_there_is(vectorize):
    assert vectorize.parameter_sets("a.png", 5, 0) == vectorize.parameter_sets("a.png", 5, 0)
    assert vectorize.parameter_sets("a.png", 5, 0) != vectorize.parameter_sets("b.png", 5, 0)
    assert vectorize.parameter_sets("a.png", 5, 0) != vectorize.parameter_sets("a.png", 5, 1)


def test_logos_become_a_table(vectorize, tmp_path):
    for package in ("vtracer", "resvg_py", "skimage"):
        pytest.importorskip(package, reason=f"{package} is absent: pip install vtracer resvg-py scikit-image")
    for number, name in enumerate(("simple", "text")):
        (tmp_path / "logos" / name).mkdir(parents=True)
        picture = Image.new("RGB", (48, 48), "white")
        ImageDraw.Draw(picture).ellipse([8, 8, 30 + number, 40], (200, 30, 30))
        picture.save(tmp_path / "logos" / name / "a.png")
    done = call("make", FILE, "--folder", tmp_path / "logos", "--count", 3, "-w", tmp_path / "w")
    assert done.status == 0, done.errors
    [made] = (tmp_path / "w" / "features").glob("made_vectorize_*")
    assert vectorize.main([str(made), str(tmp_path / "results")]) == 0
    files = sorted((tmp_path / "results").glob("optimization_*.json"))
    assert len(files) == 2
    assert all(0 <= one["ssim"] <= 1 for file in files for one in json.loads(file.read_text())["results"])
    call("ingest", tmp_path / "results", "--images", tmp_path / "logos", "--out", tmp_path / "logos" / "results.csv")
    lines = (tmp_path / "logos" / "results.csv").read_text().splitlines()
    assert len(lines) == 7
    assert {line.split(",")[2] for line in lines[1:]} == {"simple", "text"}
