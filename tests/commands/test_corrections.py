"""What an audit doubts is corrected in a table: labels change, features do not, and the next `enqueue` keeps what was said."""

import csv
import shutil

import numpy as np
import pytest
from PIL import Image

from headstart.experiments.audit.audit_data import audit_data
from headstart.experiments.audit.audit_record import read_audit, write_audit
from headstart.experiments.report.write_report import write_report
from headstart.features.store.packing import open_cache
from headstart.pipeline.workspace import open_workspace
from tests.jobs.extraction import digests, encoder_of, enqueue, enqueued, work

from .calling import call
from .conftest import draw


@pytest.fixture(scope="module")
def extracted(tmp_path_factory):
    """60 bright and dark pictures in three splits; one dark one among the bright, one mirrored copy of train in test."""
    folder = tmp_path_factory.mktemp("corrected")
    for number in range(60):
        split = ("train", "train", "val", "test")[number % 4]
        is_bright = number // 4 % 2 == 1
        name = "bright" if is_bright or number == 8 else "dark"
        draw(folder / "data" / split / name / f"{number:03d}.png", number, 1.5 if is_bright else 0.3)
    copied = Image.open(folder / "data/train/dark/000.png").transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    copied.save(folder / "data/test/dark/copy.png")
    workspace = enqueue(folder / "data", folder / "w")
    work(workspace)
    return folder


@pytest.fixture
def place(extracted, tmp_path):
    """A copy of workspace and data that a test may change."""
    shutil.copytree(extracted / "w", tmp_path / "w")
    return tmp_path


def corrected(place, rows, *more, header=("path", "label")):
    table = place / "labels.csv"
    with table.open("w", newline="") as file:
        csv.writer(file).writerows([header, *rows])
    return call("enqueue", *more, "--labels", table, "-w", place / "w")


def labels(place):
    workspace = open_workspace(place / "w")
    cached = open_cache(encoder_of(workspace))
    return dict(zip(cached.paths, cached.labels.tolist(), strict=True))


def test_a_table_that_somebody_corrected_is_replaced_only_when_asked(place):
    table, words = place / "doubts.csv", ["audit", "--corrections", place / "doubts.csv", "-w", place / "w"]
    assert call(*words).status == 0
    written = table.read_bytes()
    assert call(*words).status == 0  # the same table
    table.write_bytes(written + b"mine")
    refused = call(*words)
    assert refused.status == 1
    assert "headstart enqueue --labels" in refused.errors
    assert table.read_bytes() == written + b"mine"
    assert call(*words, "--force").status == 0
    assert table.read_bytes() == written


@pytest.mark.parametrize("name", ["folder", "nowhere/doubts.csv"])
def test_a_place_where_no_table_can_be_written_is_refused_before_the_work(place, name):
    (place / "folder").mkdir()
    refused = call("audit", "--corrections", place / name, "-w", place / "w")
    assert refused.status == 1
    assert "--corrections" in refused.errors
    assert "looking for" not in refused.errors


def test_the_table_of_an_audit_is_taken_as_it_is_and_changes_nothing(place):
    audit = call("audit", "--corrections", place / "doubts.csv", "-w", place / "w")
    assert audit.status == 0, audit.errors
    rows = list(csv.DictReader((place / "doubts.csv").open()))
    by_why = {row["why"]: row for row in rows}
    assert by_why["label"]["path"] == "train/bright/008.png"
    assert (by_why["label"]["label"], by_why["label"]["suggested"]) == ("bright", "dark")
    assert by_why["copy across splits"]["path"] == "train/dark/000.png"  # left out, it frees the test of its copy
    assert by_why["copy across splits"]["other"] == "test/dark/copy.png"
    before = labels(place)
    done = call("enqueue", "--labels", place / "doubts.csv", "-w", place / "w")
    assert done.status == 0, done.errors
    assert "0 labels changed" in done.output
    assert labels(place) == before


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
@pytest.mark.parametrize("quoting", [csv.QUOTE_MINIMAL, csv.QUOTE_ALL], ids=["", "quotes"])
@pytest.mark.parametrize("separator", [",", ";", "\t"], ids=["commas", "semicolons", "tabs"])
def test_the_table_of_an_audit_that_a_spreadsheet_saved_is_taken_as_it_is(place, separator, quoting, encoding):
    table = place / "labels.csv"
    with table.open("w", newline="", encoding=encoding) as file:
        rows = [("path", "label"), ("train/bright/008.png", "dark"), ("train/dark/000.png", "")]
        csv.writer(file, delimiter=separator, quoting=quoting).writerows(rows)
    assert table.read_bytes().decode(encoding).endswith("\r\n")
    done = call("enqueue", "--labels", table, "-w", place / "w")
    assert "2 labels changed, 1 of them to none" in done.output, done.errors


def test_a_corrected_label_counts_at_once_without_any_job_done_again(place):
    workspace = open_workspace(place / "w")
    before = digests(workspace)
    done = corrected(place, [("train/bright/008.png", "dark"), ("train/dark/000.png", "")])
    assert "2 labels changed, 1 of them to none" in done.output
    assert labels(place)["train/bright/008.png"] == "dark"
    assert labels(place)["train/dark/000.png"] == ""
    assert digests(workspace) == before
    assert work(workspace).jobs == 0


def test_the_data_enqueued_again_keeps_what_was_corrected(place, extracted):
    corrected(place, [("train/bright/008.png", "dark")])
    printed = enqueued(extracted / "data", place / "w")
    assert "1 labels are as corrected by hand" in printed
    assert labels(place)["train/bright/008.png"] == "dark"


def test_where_the_data_itself_says_something_new_that_counts(place, extracted):
    shutil.copytree(extracted / "data", place / "data")
    assert call("data", "move", extracted / "data", place / "data", "-w", place / "w").status == 0
    corrected(place, [("train/bright/008.png", "")])
    (place / "data/train/bright/008.png").rename(place / "data/train/dark/008.png")
    enqueued(place / "data", place / "w")
    assert labels(place)["train/dark/008.png"] == "dark"


def test_a_correction_taken_back_leaves_nothing(place, extracted):
    corrected(place, [("train/bright/008.png", "dark")])
    corrected(place, [("train/bright/008.png", "bright")])
    assert "by hand" not in enqueued(extracted / "data", place / "w")
    assert labels(place)["train/bright/008.png"] == "bright"


MISTAKES = {
    "no such image": ([("train/bright/999.png", "dark")], "row 2: there is no image 'train/bright/999.png'"),
    "a misspelled class": ([("train/bright/008.png", "drak")], "Is 'dark' meant? --new-classes makes it one"),
    "two labels for one": ([("train/bright/008.png", "dark"), ("train/bright/008.png", "bright")], "Keep one of the two"),
}


@pytest.mark.parametrize(("rows", "said"), MISTAKES.values(), ids=MISTAKES)
def test_a_line_that_cannot_be_meant_is_refused_and_nothing_changes(place, rows, said):
    before = labels(place)
    done = corrected(place, [("train/dark/009.png", "bright"), *rows] if "row 2" not in said else rows)
    assert done.status == 1
    assert said in done.reason
    assert labels(place) == before


def test_a_table_without_the_columns_is_refused_in_one_line(place):
    done = corrected(place, [("x", "y")], header=("file", "class"))
    assert done.status == 1
    assert "has no column 'path', it has: file, class" in done.reason


def test_a_new_class_is_made_where_it_is_asked_for(place):
    assert corrected(place, [("train/bright/008.png", "grey")], "--new-classes").status == 0
    assert labels(place)["train/bright/008.png"] == "grey"


def test_names_that_a_spreadsheet_would_run_come_back_as_they_are(tmp_path):
    random = np.random.default_rng(0)
    for number in range(12):
        path = tmp_path / "data" / ("=cmd|'x'" if number % 2 else "+x") / f'-{number},"\n.png'
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(random.integers(0, 255, (20, 20, 3), dtype=np.uint8)).save(path, "PNG")
    workspace = enqueue(tmp_path / "data", tmp_path / "w")
    work(workspace)
    first = min(labels(tmp_path))
    shutil.copyfile(tmp_path / "data" / first, tmp_path / "data" / first.replace("-", "-copy"))
    enqueued(tmp_path / "data", tmp_path / "w")
    work(workspace)
    before = labels(tmp_path)
    assert call("audit", "--duplicates", "--corrections", tmp_path / "d.csv", "-w", tmp_path / "w").status == 0
    rows = list(csv.reader((tmp_path / "d.csv").open()))
    assert len(rows) == 2
    assert not any(cell[:1] in "=+-@" for row in rows[1:] for cell in row if cell)
    rows[1][1] = "\\x2bx" if rows[1][1].startswith("\\x3d") else "\\x3dcmd|'x'"
    done = corrected(tmp_path, rows[1:], header=rows[0])
    assert done.status == 0, done.errors
    changed = {path for path, label in labels(tmp_path).items() if label != before[path]}
    assert len(changed) == 1
    assert set(labels(tmp_path).values()) == {"=cmd|'x'", "+x"}


def test_the_report_shows_the_images_that_the_last_audit_doubts(place):
    assert call("train-head", "--epochs", "2", "-w", place / "w").status == 0
    assert "What may be wrong" not in write_report("best", place / "w").path.read_text()
    assert call("audit", "-w", place / "w").status == 0
    content = write_report("best", place / "w").path.read_text()
    doubts = content.split('id="doubts"')[1].split("<section")[0]
    assert "What may be wrong with the data" in doubts
    assert '<b class="bad">bright</b>, rather <b>dark</b>' in doubts
    assert '<b class="bad">train and test</b>' in doubts or '<b class="bad">test and train</b>' in doubts
    assert "without copies across splits" in doubts
    assert "The data changed since" not in doubts


def test_a_damaged_record_of_an_audit_is_as_none(place):
    assert call("audit", "--outliers", "-w", place / "w").status == 0
    folder = encoder_of(open_workspace(place / "w"))
    assert read_audit(folder) is not None
    (folder / "audit.json").write_text('{"format": 1, "digest": 3}')
    assert read_audit(folder) is None


def test_what_an_audit_wrote_reads_back_as_it_was(place):
    audit = audit_data(place / "w")
    workspace = open_workspace(place / "w")
    write_audit(workspace, encoder_of(workspace), audit)
    assert read_audit(encoder_of(workspace)) == audit
    assert all((audit.copies, audit.labels.suspects, audit.scores))


def test_leaks_alone_are_the_copies_across_splits(place):
    everything, leaks = audit_data(place / "w", parts=["duplicates"]), audit_data(place / "w", parts=["leaks"])
    assert [{pair.first.path, pair.second.path} for pair in leaks.copies] == [{"train/dark/000.png", "test/dark/copy.png"}]
    assert set(leaks.copies) <= set(everything.copies)


@pytest.mark.parametrize(
    "damage",
    [
        lambda data: data.replace(b"bright", b"brighu", 1),
        lambda data: data[:-1],
        lambda data: data[:-1] + b"\x8a",
        lambda data: data[: len(data) // 2],
        lambda data: data.replace(b",seal\n", b",seam\n"),
        lambda data: data.replace(b"path,", b"pati,", 1),
    ],
    ids=["a letter of a label", "the last line end", "another last byte", "cut off", "the seal's name", "a column's name"],
)
def test_corrections_that_are_not_what_was_written_are_one_line_and_change_no_label(place, extracted, damage):
    corrected(place, [("train/bright/004.png", "dark"), ("train/dark/000.png", "bright")])
    [kept] = (place / "w/features/manifests").glob("*/corrections.csv")
    before = labels(place)
    kept.write_bytes(damage(kept.read_bytes()))
    again = call("enqueue", extracted / "data", "-w", place / "w")
    assert again.status == 1
    assert "corrections.csv was changed or cut off" in again.errors
    assert labels(place) == before


def test_corrections_of_earlier_versions_and_of_who_edited_them_are_read(place, extracted):
    corrected(place, [("train/bright/004.png", "dark"), ("train/dark/000.png", "bright")])
    [kept] = (place / "w/features/manifests").glob("*/corrections.csv")
    before = labels(place)
    kept.write_bytes(b"".join(line.rpartition(b",")[0] + b"\n" for line in kept.read_bytes().splitlines()))
    again = call("enqueue", extracted / "data", "-w", place / "w")
    assert again.status == 0, again.errors
    assert labels(place) == before
