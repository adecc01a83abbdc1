"""`headstart ingest`: the table on standard output or in a file, the rest said on standard error."""

import csv
import json

import pytest

import headstart

from .calling import call

PARAMETERS = {
    "filter_speckle": 4, "color_precision": 6, "layer_difference": 16, "corner_threshold": 60,
    "length_threshold": 4.5, "max_iterations": 10, "splice_threshold": 45, "path_precision": 3,
}  # fmt: skip


@pytest.fixture
def results(tmp_path):
    """A good result, and thirty that have no image."""
    (tmp_path / "a.png").write_bytes(b"png")
    good = {"image": "a.png", "parameters": PARAMETERS, "ssim": 0.5}
    file = tmp_path / "optimization_a.json"
    file.write_text(json.dumps([good, *[{"parameters": PARAMETERS, "ssim": 0.5}] * 30]))
    return file


def test_the_table_is_printed_and_the_rest_said(results):
    said = call("ingest", results, "--images", results.parent)
    [header, row] = csv.reader(said.output.splitlines())
    assert (said.status, row[header.index("image")], row[header.index("ssim")]) == (0, "a.png", "0.5")
    lines = said.errors.splitlines()
    assert lines[0] == "left out: optimization_a.json [1]: no image"
    assert lines[20:] == [
        "left out: 10 more; --left-out FILE has them all",
        "1 row of 1 image from 1 file",
        "30 left out: no image 30",
    ]


def test_files_hold_the_table_and_every_reason(results):
    table, reasons = results.parent / "table.csv", results.parent / "reasons.csv"
    words = ["ingest", results.parent, "--images", results.parent, "--out", table, "--left-out", reasons]
    assert call(*words).output == ""
    assert len(table.read_text().splitlines()) == 2
    assert len(reasons.read_text().splitlines()) == 31
    assert call(*words).reason == f"{table} exists. Pass --force to replace it"
    assert call(*words, "--force").status == 0


def test_a_table_away_from_the_images_says_so(results, tmp_path_factory):
    elsewhere = tmp_path_factory.mktemp("elsewhere")
    said = call("ingest", results, "--images", results.parent, "--out", elsewhere / "table.csv")
    assert "note: enqueue looks for images below the table's folder" in said.errors


def test_the_call_writes_what_the_command_writes(results):
    ours, theirs = results.parent / "ours.csv", results.parent / "theirs.csv"
    ingested = headstart.ingest_results([results], results.parent, ours)
    assert dict(ingested.left_out) == {"no image": 30}
    call("ingest", results, "--images", results.parent, "--out", theirs)
    assert ours.read_bytes() == theirs.read_bytes()
