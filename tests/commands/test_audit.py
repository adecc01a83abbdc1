"""`headstart audit` on real pictures."""

import csv
import io

import pytest

from tests.jobs.extraction import enqueue, work

from .calling import call
from .conftest import draw


@pytest.fixture(scope="module")
def mislabelled(tmp_path_factory):
    """60 bright and dark pictures, one dark one among the bright ones."""
    folder = tmp_path_factory.mktemp("mislabelled")
    for number in range(60):
        is_bright = number % 2 == 1
        name = "bright" if is_bright or number == 6 else "dark"
        draw(folder / "data" / name / f"{number:03d}.png", number, 1.5 if is_bright else 0.3)
    workspace = enqueue(folder / "data", folder / "w")
    work(workspace)
    return workspace


def test_the_wrong_label_is_the_first_suspect(mislabelled):
    done = call("audit", "--json", "-w", mislabelled.root)
    assert done.status == 0, done.errors
    assert done.json["images"] == 60
    first = done.json["suspects"][0]
    assert (first["path"], first["label"], first["suggested"]) == ("bright/006.png", "bright", "dark")


def test_the_table_and_the_csv_say_the_same(mislabelled):
    table = call("audit", "-w", mislabelled.root).output
    rows = list(csv.DictReader(io.StringIO(call("audit", "--csv", "-w", mislabelled.root).output)))
    assert rows[0]["path"] == "bright/006.png"
    assert "bright/006.png" in table
    assert f"{len(rows)} label" in table


def test_numbers_without_labels_are_refused_in_one_line(measured):
    done = call("audit", "-w", measured.root)
    assert done.status == 1
    assert "have features and a label" in done.reason
