"""An image is its bytes: what is known again, what is retired, and what may never be divided."""

import os
import shutil
import signal
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from headstart.features.manifest.adding import add_images
from headstart.features.manifest.content import digest_of_bytes
from headstart.features.manifest.dataset_matching import move_dataset, named_dataset
from headstart.features.manifest.digests import (
    _Journal,
    digest_images,
    digest_of_file,
    forget_journal,
    journal_path,
)
from headstart.features.manifest.image_matching import NO_ROW, match_images
from headstart.features.manifest.reading import list_datasets, open_manifest, read_columns
from headstart.features.sources.find import find_images
from headstart.features.sources.source import SourceOptions
from headstart.pipeline.errors import HeadstartError
from headstart.pipeline.files import FileSystem
from headstart.pipeline.workspace import open_or_create_workspace
from tests.jobs.format_1 import as_format_1
from tests.support import flipped, run_python

OPTIONS = SourceOptions()


def photos(root, *names):
    """A file of its own bytes at each name."""
    for name in names:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(f"picture {name}".encode())


def enqueued(workspace, data, options=OPTIONS, **more):
    source = digest_images(workspace, find_images(data, options), None, when="now").source
    return add_images(workspace, source, 0, **more)


def live(added):
    """Path, label and row of what counts."""
    columns = added.manifest.read_all()
    return sorted((columns.path[row], columns.label[row], row) for row in columns.live.nonzero()[0].tolist())


@pytest.fixture
def data(tmp_path):
    photos(tmp_path / "data", *(f"{label}/{i:02d}.jpg" for label in ("cat", "dog") for i in range(20)))
    return tmp_path / "data"


def renamed_file(data):
    (data / "cat/00.jpg").rename(data / "cat/other.jpg")


def renamed_class(data):
    (data / "cat").rename(data / "cats")


def moved_to_another_class(data):
    (data / "cat/00.jpg").rename(data / "dog/moved.jpg")


def swapped_names(data):
    for old, new in (("cat/00.jpg", "cat/x.jpg"), ("cat/01.jpg", "cat/00.jpg"), ("cat/x.jpg", "cat/01.jpg")):
        (data / old).rename(data / new)


def unpacked_anew(data):
    for path in sorted(data.rglob("*.jpg")):
        content = path.read_bytes()
        path.unlink()
        path.write_bytes(content)
        os.utime(path, (1, 1))


@pytest.mark.parametrize(
    ("act", "moved", "relabelled"),
    [
        pytest.param(renamed_file, 1, 0, id="file-renamed"),
        pytest.param(renamed_class, 20, 20, id="class-renamed"),
        pytest.param(moved_to_another_class, 1, 1, id="moved-to-another-class"),
        pytest.param(swapped_names, 2, 0, id="two-names-swapped"),
        pytest.param(unpacked_anew, 0, 0, id="unpacked-anew"),
    ],
)
def test_same_bytes_are_the_same_rows_whatever_they_are_called(workspace, data, act, moved, relabelled):
    before = enqueued(workspace, data).manifest.read_all()
    act(data)
    added = enqueued(workspace, data)
    assert (added.new, added.known, added.changed, added.retired) == (0, 40, 0, 0)
    assert (added.moved, added.relabelled) == (moved, relabelled)
    after = added.manifest.read_all()
    assert after.digest == before.digest
    assert after.split == before.split
    assert [(path, label) for path, label, _ in live(added)] == [
        (image.path, image.label) for image in find_images(data, OPTIONS).images
    ]
    for path, _, row in live(added):
        assert digest_of_bytes((data / path).read_bytes()) == after.digest[row]


@pytest.mark.parametrize("more", [0, 16], ids=["as-it-was", "with-new-images"])
def test_a_folder_that_moved_is_the_same_data_set(workspace, data, more):
    first = enqueued(workspace, data).manifest
    place = data.rename(data.with_name("elsewhere"))
    photos(place, *(f"dog/new{i}.jpg" for i in range(more)))
    added = enqueued(workspace, place)
    assert (added.manifest.folder, added.new, added.known) == (first.folder, more, 40)
    assert open_manifest(first.folder).dataset.root == str(place)
    assert any(f"which lay at {data}" in note for note in added.notes)


def test_a_copy_is_another_data_set_that_keeps_to_the_splits_of_the_first(workspace, data):
    first = enqueued(workspace, data).manifest
    shutil.copytree(data, data.with_name("copy"))
    for path in list(data.with_name("copy").rglob("*.jpg")):  # under these names a draw alone would give other splits
        path.rename(path.with_name(f"{path.stem[::-1]}x{path.name}"))
    added = enqueued(workspace, data.with_name("copy"))
    assert added.manifest.folder != first.folder
    one, two = first.read_all(), added.manifest.read_all()
    assert dict(zip(two.digest, two.split, strict=True)) == dict(zip(one.digest, one.split, strict=True))
    assert any(f"40 of these photos are in data set {first.folder.name}" in note for note in added.notes)


def test_a_table_that_was_renamed_is_the_same_data_set_and_one_that_was_copied_is_not(workspace, data):
    table = data / "t.csv"
    table.write_text("path,label\ncat/00.jpg,a\ndog/00.jpg,b\n")
    first = enqueued(workspace, table).manifest.folder
    added = enqueued(workspace, Path(shutil.copy(table, data / "copy.csv")))
    assert (added.manifest.folder != first, added.new) == (True, 2)
    (data / "copy.csv").unlink()
    added = enqueued(workspace, table.rename(data / "renamed.csv"))
    assert (added.manifest.folder == first, added.known) == (True, 2)


def test_rows_that_left_are_retired_and_come_back_as_the_same_rows(workspace, data):
    rows = {path: row for path, _, row in live(enqueued(workspace, data))}
    kept = {f"cat/{i:02d}.jpg": (data / f"cat/{i:02d}.jpg").read_bytes() for i in range(5)}
    for path in kept:
        (data / path).unlink()
    added = enqueued(workspace, data)
    assert (added.known, added.retired, len(live(added))) == (35, 5, 35)
    assert {added.manifest.read_all().retired[rows[path]] for path in kept} == {"gone"}
    for path, content in kept.items():
        (data / path).write_bytes(content)
    added = enqueued(workspace, data)
    assert (added.new, added.known, added.returned) == (0, 40, 5)
    assert {path: row for path, _, row in live(added)} == rows


def _deleted(data):
    for number in range(5):
        (data / f"cat/{number:02d}.jpg").unlink()


def _replaced(data):
    (data / "cat/00.jpg").write_bytes(b"another picture altogether")


def _overwritten_by_a_copy(data):
    shutil.copy(data / "cat/01.jpg", data / "cat/00.jpg")


LEAVING = {  # what is done, rows that no longer count, rows that come instead
    "files-deleted": (_deleted, 5, 0),
    "a-class-deleted": (lambda data: shutil.rmtree(data / "cat"), 20, 0),
    "a-class-hidden": (lambda data: (data / "cat").rename(data / ".cat"), 20, 0),
    "another-ending": (lambda data: (data / "cat/00.jpg").rename(data / "cat/00.txt"), 1, 0),
    "other-bytes-in-its-place": (_replaced, 1, 1),
    "a-copy-of-another-in-its-place": (_overwritten_by_a_copy, 1, 1),
}


@pytest.mark.parametrize(("leave", "retired", "new"), LEAVING.values(), ids=LEAVING)
def test_what_is_no_longer_there_counts_no_more(workspace, data, leave, retired, new):
    enqueued(workspace, data)
    leave(data)
    added = enqueued(workspace, data)
    assert len(live(added)) == 40 - retired + new
    there = {f"{path.parent.name}/{path.name}" for path in data.glob("[!.]*/*.jpg")}
    assert {path for path, _, _ in live(added)} == there
    assert (~added.manifest.read_all().live).sum() == retired


def test_a_folder_that_cannot_be_listed_for_now_retires_nothing_in_it(workspace, data, monkeypatch):
    enqueued(workspace, data)
    plain = os.access
    monkeypatch.setattr(os, "access", lambda path, mode: not str(path).rstrip("/").endswith("cat") and plain(path, mode))
    added = enqueued(workspace, data)
    assert (added.known, added.retired, len(live(added))) == (20, 0, 40)


def test_keep_missing_retires_nothing(workspace, data):
    enqueued(workspace, data)
    (data / "cat/00.jpg").unlink()
    added = enqueued(workspace, data, keep_missing=True)
    assert (added.retired, len(live(added))) == (0, 40)


def test_other_bytes_at_a_path_are_another_row_with_the_split_of_the_first(workspace, data):
    before = enqueued(workspace, data).manifest.read_all()
    row = before.path.index("cat/00.jpg")
    (data / "cat/00.jpg").write_bytes(b"another picture")
    added = enqueued(workspace, data)
    after = added.manifest.read_all()
    assert (added.new, added.known, added.changed, added.retired) == (0, 39, 1, 0)
    assert (after.path[40], after.split[40], after.retired[row]) == ("cat/00.jpg", before.split[row], "changed")
    assert not after.live[row]


def test_an_earlier_image_that_is_back_at_its_path_is_what_later_looks_compare_with(workspace, data):
    path, first = data / "cat/00.jpg", (data / "cat/00.jpg").read_bytes()
    row = enqueued(workspace, data).manifest.read_all().path.index("cat/00.jpg")
    for content in (b"another picture", first):
        path.write_bytes(content)
        enqueued(workspace, data)
    path.write_bytes(b"a third picture")
    added = enqueued(workspace, data)
    assert (added.new, added.known, added.changed, added.retired) == (0, 39, 1, 0)
    assert added.manifest.read_all().retired[row] == "changed"


def test_an_earlier_image_that_is_back_stays_the_row_of_its_path_while_its_file_is_missing(workspace, data):
    path, first = data / "cat/00.jpg", (data / "cat/00.jpg").read_bytes()
    (data / "table.csv").write_text("path,label\ncat/00.jpg,cat\ncat/01.jpg,cat\n")
    before = live(enqueued(workspace, data / "table.csv"))
    for content in (b"another picture", first):
        path.write_bytes(content)
        enqueued(workspace, data / "table.csv")
    path.unlink()
    added = enqueued(workspace, data / "table.csv")
    assert (added.known, added.retired, live(added)) == (2, 0, before)


def test_of_rows_of_one_path_in_a_manifest_of_version_1_the_last_counts(workspace, data):
    workspace.queue.parent.mkdir(parents=True, exist_ok=True)
    workspace.queue.touch()
    row = enqueued(workspace, data).manifest.read_all().path.index("cat/00.jpg")
    (data / "cat/00.jpg").write_bytes(b"another picture")
    folder = enqueued(workspace, data).manifest.folder
    for revision in folder.glob("revision_*"):  # that version only added the image once more
        revision.unlink()
    as_format_1(workspace)
    columns = read_columns(folder)
    assert (columns.path[row], columns.path[40]) == ("cat/00.jpg", "cat/00.jpg")
    assert columns.live.nonzero()[0].tolist() == [other for other in range(41) if other != row]


def test_an_enqueue_killed_between_its_two_files_hides_no_row_that_still_counts(workspace, data, monkeypatch):
    rows = {path: row for path, _, row in live(enqueued(workspace, data))}
    (data / "cat/00.jpg").rename(data / "cat/old.jpg")
    (data / "cat/00.jpg").write_bytes(b"another picture")
    [folder] = list_datasets(workspace.manifests)
    revisions = set(folder.glob("revision*"))

    def killed(*_):
        assert set(folder.glob("revision*")) != revisions  # the first of the two is there
        raise InterruptedError("killed")

    monkeypatch.setattr(FileSystem, "publish_by_pieces", killed)
    with pytest.raises(InterruptedError):
        enqueued(workspace, data)
    monkeypatch.undo()
    columns = read_columns(folder)
    assert columns.live[rows["cat/00.jpg"]]  # else a training that comes now would do without it
    added = enqueued(workspace, data)
    assert {path: row for path, _, row in live(added)} == rows | {"cat/old.jpg": rows["cat/00.jpg"], "cat/00.jpg": 40}


def test_a_row_that_moved_away_is_not_hidden_by_what_lies_there_now(workspace, data):
    enqueued(workspace, data)
    (data / "cat/00.jpg").rename(data / "cat/old.jpg")
    photos(data, "cat/more.jpg")
    (data / "cat/more.jpg").rename(data / "cat/00.jpg")
    added = enqueued(workspace, data)
    assert (added.new, added.known, len(live(added))) == (1, 40, 41)


def test_a_row_that_was_found_by_name_is_not_given_to_a_copy_as_well(workspace, data):
    enqueued(workspace, data)
    (data / "new").mkdir()
    shutil.copy(data / "cat/00.jpg", data / "new/other.jpg")
    (data / "cat/00.jpg").rename(data / "new/00.jpg")
    added = enqueued(workspace, data)
    assert (added.new, added.known, len(live(added)), len({row for _, _, row in live(added)})) == (1, 40, 41, 41)


def test_of_copies_that_move_the_one_of_that_name_keeps_its_row(workspace, tmp_path):
    for name in ("cat/one.jpg", "cat/two.jpg"):
        (tmp_path / "data" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "data" / name).write_bytes(b"the same picture")
    photos(tmp_path / "data", "cat/other.jpg")
    before = {path: row for path, _, row in live(enqueued(workspace, tmp_path / "data"))}
    (tmp_path / "data/cat").rename(tmp_path / "data/moved")
    for kept, other in (("one", "two"), ("two", "one")):
        # Whatever the order of names or rows would say.
        (tmp_path / f"data/moved/{other}.jpg").rename(tmp_path / f"data/moved/{'aaa' if kept == 'one' else 'zzz'}.jpg")
        after = {path: row for path, _, row in live(enqueued(workspace, tmp_path / "data"))}
        assert after[f"moved/{kept}.jpg"] == before[f"cat/{kept}.jpg"]
        (tmp_path / f"data/moved/{'aaa' if kept == 'one' else 'zzz'}.jpg").rename(tmp_path / f"data/moved/{other}.jpg")
        (tmp_path / "data/moved").rename(tmp_path / "data/cat")
        enqueued(workspace, tmp_path / "data")
        (tmp_path / "data/cat").rename(tmp_path / "data/moved")


def test_a_row_that_counts_is_known_again_before_one_that_is_retired(workspace, data):
    (data / "dog/copy.jpg").write_bytes((data / "cat/00.jpg").read_bytes())
    rows = {path: row for path, _, row in live(enqueued(workspace, data))}
    for left, stays in (("cat/00.jpg", "dog/copy.jpg"), ("dog/copy.jpg", "cat/00.jpg")):
        (data / left).rename(data.parent / "kept.jpg")
        enqueued(workspace, data)  # the one is retired, the other counts
        (data / stays).rename(data / "cat/elsewhere.jpg")
        after = {path: row for path, _, row in live(enqueued(workspace, data))}
        assert after["cat/elsewhere.jpg"] == rows[stays]
        (data / "cat/elsewhere.jpg").rename(data / stays)
        (data.parent / "kept.jpg").rename(data / left)
        enqueued(workspace, data)


def test_a_label_corrected_in_a_table_of_nothing_else_is_taken_over(workspace, data):
    table = data / "table.csv"
    table.write_text("path,label\ncat/00.jpg,cat\ncat/01.jpg,cat\n")
    enqueued(workspace, table)
    table.write_text("path,label\ncat/00.jpg,cat\ncat/01.jpg,lion\n")
    added = enqueued(workspace, table)
    assert (added.known, added.relabelled) == (2, 1)
    assert [label for _, label, _ in live(added)] == ["cat", "lion"]


def test_a_revision_keeps_what_earlier_ones_said(workspace, data):
    rows = {path: row for path, _, row in live(enqueued(workspace, data))}
    for number in range(3):
        (data / f"cat/{number:02d}.jpg").rename(data / f"dog/moved_{number}.jpg")
        (data / f"dog/{number:02d}.jpg").unlink()
        after = {path: row for path, _, row in live(enqueued(workspace, data))}
        assert [after[f"dog/moved_{k}.jpg"] for k in range(number + 1)] == [rows[f"cat/{k:02d}.jpg"] for k in range(number + 1)]
        assert len(after) == 39 - number


def test_a_row_whose_place_was_taken_by_a_known_image_left(workspace, data):
    enqueued(workspace, data)
    (data / "cat/01.jpg").rename(data / "cat/00.jpg")
    added = enqueued(workspace, data)
    columns = added.manifest.read_all()
    assert (added.known, added.changed, added.retired) == (39, 0, 1)
    assert [reason for reason in columns.retired if reason] == ["gone"]


def test_without_digests_an_image_that_may_be_one_of_two_is_neither(workspace, tmp_path):
    for name in ("a/x.jpg", "b/x.jpg", "b/y.jpg"):
        photos(tmp_path / "data", name)
        (tmp_path / "data" / name).write_bytes(b"as long as others")
        os.utime(tmp_path / "data" / name, (1, 1))  # as coarse as in an archive
    add_images(workspace, find_images(tmp_path / "data", OPTIONS), 0)
    (tmp_path / "data/a").rename(tmp_path / "data/c")
    (tmp_path / "data/b").rename(tmp_path / "data/d")
    added = add_images(workspace, find_images(tmp_path / "data", OPTIONS), 0)
    assert (added.known, added.new) == (1, 2)


def test_a_row_whose_job_failed_while_it_was_away_is_added_again(workspace, data):
    rows = {path: row for path, _, row in live(enqueued(workspace, data))}
    (data / "cat/00.jpg").rename(data / "cat/other.jpg")
    lost = frozenset({rows["cat/00.jpg"]})
    added = enqueued(workspace, data, without_features=lambda folder: lost)
    assert (added.new, added.known, added.changed) == (0, 39, 1)
    assert ("cat/other.jpg", "cat", 40) in live(added)
    assert len(live(added)) == 40
    assert enqueued(workspace, data, without_features=lambda folder: lost).changed == 0


def test_exact_copies_are_said_and_never_divided_by_a_draw(workspace, tmp_path):
    for i in range(60):
        photos(tmp_path / "data", f"cat/{i:02d}.jpg")
        if i % 2:
            shutil.copy(tmp_path / f"data/cat/{i:02d}.jpg", tmp_path / f"data/cat/copy{i:02d}.jpg")
    added = enqueued(workspace, tmp_path / "data")
    columns = added.manifest.read_all()
    assert len({*zip(columns.digest, columns.split, strict=True)}) == len({*columns.digest}) == 60
    assert len({*columns.split}) == 3
    assert any("30 images are exact copies of others" in note for note in added.notes)


def first_in_another_data_set(workspace, data, train, test):
    """What will be the bytes of one path here is enqueued elsewhere first, where a label gives it the other split."""
    other = data.with_name("other")
    photos(other, "train/cat/1.jpg", "train/dog/2.jpg", "test/cat/3.jpg", "test/dog/4.jpg")
    enqueued(workspace, other)
    shutil.copy(other / "test/cat/3.jpg", data / train)


def copied_from_the_other_split(workspace, data, train, test):
    shutil.copy(data / test, data / train)


def the_same_new_bytes_at_both(workspace, data, train, test):
    for path in (train, test):
        (data / path).write_bytes(b"new at two paths")


@pytest.mark.parametrize(
    "act",
    [first_in_another_data_set, copied_from_the_other_split, the_same_new_bytes_at_both],
    ids=["elsewhere", "of-another-path", "new-at-two-paths"],
)
def test_other_bytes_at_a_path_follow_their_copies_not_the_path(workspace, data, act):
    columns = enqueued(workspace, data).manifest.read_all()
    train, test = (columns.path[columns.split.index(split)] for split in ("train", "test"))
    act(workspace, data, train, test)
    enqueued(workspace, data)
    splits: dict[str, set[str]] = {}
    for folder in list_datasets(workspace.manifests):
        columns = read_columns(folder)
        for row in columns.live.nonzero()[0].tolist():
            splits.setdefault(columns.digest[row], set()).add(columns.split[row])
    assert {digest: found for digest, found in splits.items() if len(found) > 1} == {}


def test_a_copy_that_comes_later_follows_its_original(workspace, data):
    enqueued(workspace, data)
    for path in list(data.rglob("*.jpg")):
        shutil.copy(path, path.with_name(f"copy_{path.name}"))
    added = enqueued(workspace, data)
    columns = added.manifest.read_all()
    assert (added.new, added.known) == (40, 40)
    assert len({*zip(columns.digest, columns.split, strict=True)}) == 40


def test_copies_in_more_than_one_given_split_are_counted(workspace, tmp_path):
    photos(tmp_path / "data", "train/cat/1.jpg", "train/dog/2.jpg", "test/cat/3.jpg", "test/dog/4.jpg")
    shutil.copy(tmp_path / "data/train/cat/1.jpg", tmp_path / "data/test/cat/copy.jpg")
    notes = enqueued(workspace, tmp_path / "data").notes
    assert any("1 of these photos are in more than one of the given splits" in note for note in notes)


def test_a_second_look_at_unchanged_data_reads_no_image(workspace, data, monkeypatch):
    manifest = enqueued(workspace, data).manifest
    monkeypatch.setattr(
        "headstart.features.manifest.digests.digest_of_file", lambda *_: pytest.fail("an image was read for nothing")
    )
    digested = digest_images(workspace, find_images(data, OPTIONS), manifest.read_all(), when="now")
    assert digested.read == 0
    assert add_images(workspace, digested.source, 0).known == 40


KILLED_WHILE_DIGESTING = """
import os, signal
from pathlib import Path
from headstart.features.manifest import digests
from headstart.features.sources.find import find_images
from headstart.features.sources.source import SourceOptions
from headstart.pipeline.workspace import open_workspace

digests._LOT, digests._KEPT_EVERY_S = 8, -1.0

def report(done, of):
    if done == int(sys.argv[3]):
        os.kill(os.getpid(), signal.SIGKILL)

workspace, data = map(Path, sys.argv[1:3])
digests.digest_images(open_workspace(workspace), find_images(data, SourceOptions()), None, report=report)
"""


def test_a_digest_counts_for_that_time_alone(workspace, data):
    manifest = enqueued(workspace, data).manifest
    path = data / "cat/00.jpg"
    path.write_bytes(path.read_bytes()[::-1])  # other bytes, as many
    os.utime(path, (1, 1))
    digested = digest_images(workspace, find_images(data, OPTIONS), manifest.read_all(), when="now")
    assert digested.read == 1
    added = add_images(workspace, digested.source, 0)
    assert (added.known, added.changed) == (39, 1)


@pytest.mark.parametrize("facts", [(3, 0), (-1, 0), (0, 1)], ids=["it-grew", "it-shrank", "it-was-touched"])
def test_a_file_that_is_no_longer_as_it_was_listed_gets_no_digest(data, facts):
    path = data / "cat/00.jpg"
    there = path.stat()
    assert digest_of_file(str(path), there.st_size, there.st_mtime_ns) == digest_of_bytes(path.read_bytes())
    more, later = facts
    assert digest_of_file(str(path), there.st_size - more, there.st_mtime_ns - later) == ""


def test_few_images_in_common_are_no_move(workspace, data, tmp_path):
    before = enqueued(workspace, data).manifest.folder
    other = tmp_path / "other"
    photos(other, *(f"bird/{i:02d}.jpg" for i in range(20)))
    shutil.copytree(data / "cat", other / "cat")
    for i in range(1, 20):
        (other / f"cat/{i:02d}.jpg").unlink()
    shutil.rmtree(data)
    assert enqueued(workspace, other).manifest.folder != before


def test_digesting_goes_on_where_it_was_killed(workspace, data):
    source = find_images(data, OPTIONS)
    for number in (24, 8):  # the second time of what was left
        status, _, errors = run_python(KILLED_WHILE_DIGESTING, str(workspace.root), str(data), str(number))
        assert status == -signal.SIGKILL, errors
        with journal_path(workspace, source).open("ab") as file:
            file.write(b"torn,l")  # as if it had died within a write
    again = digest_images(workspace, source, None)
    assert again.read == 8
    assert [i.digest for i in again.source.images] == [digest_of_bytes((data / i.path).read_bytes()) for i in source.images]
    forget_journal(workspace, source)
    assert not journal_path(workspace, source).exists()


def test_a_digest_in_the_journal_that_has_a_flipped_bit_is_read_again(workspace, data):
    source = find_images(data, OPTIONS)
    status, _, errors = run_python(KILLED_WHILE_DIGESTING, str(workspace.root), str(data), "8")
    assert status == -signal.SIGKILL, errors
    journal = journal_path(workspace, source)
    whole, expected = journal.read_bytes(), [digest_of_bytes((data / i.path).read_bytes()) for i in source.images]
    kept = whole.count(b"\n")
    for bit in range(8 * len(whole)):
        journal.write_bytes(flipped(whole, bit))
        known = _Journal(journal)
        assert all(known.get(image) in ("", digest) for image, digest in zip(source.images, expected, strict=True)), bit
        assert sum(map(bool, map(known.get, source.images))) >= kept - 2


def test_without_digests_images_are_known_by_path_size_and_time_and_get_their_digest_later(workspace, data):
    source = find_images(data, OPTIONS)
    assert digest_images(workspace, source, None, when="later").left == 40
    add_images(workspace, source, 0)
    added = add_images(workspace, source, 0)
    assert (added.known, {*added.manifest.read_all().digest}) == (40, {""})
    added = enqueued(workspace, data)
    assert (added.known, added.new, added.changed) == (40, 0, 0)
    assert len({*added.manifest.read_all().digest}) == 40
    renamed_class(data)
    assert enqueued(workspace, data).known == 40


def test_an_old_reader_of_rows_keeps_what_it_was_begun_on(workspace, data):
    first = enqueued(workspace, data).manifest
    before = first.read_all()
    renamed_class(data)
    enqueued(workspace, data)
    photos(data, "dog/more.jpg")
    enqueued(workspace, data)
    old = read_columns(first.folder, 0)
    assert (old.path[:40], old.label[:40]) == (before.path, before.label)
    assert read_columns(first.folder).label.count("cats") == 20
    assert (old.changes, read_columns(first.folder).changes != "") == ("", True)


def test_a_damaged_revision_is_refused_and_deleting_it_heals(workspace, data):
    enqueued(workspace, data)
    renamed_class(data)
    added = enqueued(workspace, data)
    wanted = live(added)
    [path] = added.manifest.folder.glob("revision_*")
    path.write_bytes(path.read_bytes()[:-9])
    with pytest.raises(HeadstartError, match=r"revision_0001.*changed or cut off.*enqueue again"):
        enqueued(workspace, data)
    path.unlink()
    assert live(enqueued(workspace, data)) == wanted


def test_a_data_set_is_moved_by_hand_only_to_where_it_is(workspace, data):
    folder = enqueued(workspace, data).manifest.folder
    place = data.rename(data.with_name("elsewhere"))
    assert named_dataset(workspace, folder.name[:3]) == named_dataset(workspace, str(data)) == folder
    (place.parent / "empty").mkdir()
    for wrong, says in ((place.parent / "empty", "none of a few images"), (place / "cat/00.jpg", "is no folder")):
        with pytest.raises(HeadstartError, match=says):
            move_dataset(workspace, folder, wrong)
    assert move_dataset(workspace, folder, place).dataset.root == str(place)
    assert (enqueued(workspace, place).known, enqueued(workspace, place).new) == (40, 0)
    with pytest.raises(HeadstartError, match=r"no data set is called 'other'.*it has: data-"):
        named_dataset(workspace, "other")


def test_a_data_set_is_named_by_any_part_that_only_it_has_or_by_all_before_its_digits(workspace, tmp_path):
    for name in ("t", "two"):
        photos(tmp_path / name, "cat/00.jpg", f"cat/{name}.jpg")
        enqueued(workspace, tmp_path / name)
    by_name = {name: named_dataset(workspace, name).name.partition("-")[0] for name in ("t", "two", "wo")}
    assert by_name == {"t": "t", "two": "two", "wo": "two"}
    with pytest.raises(HeadstartError, match="2 data sets are called '-'"):
        named_dataset(workspace, "-")


@pytest.mark.parametrize("needs", [["regions"], ["several rows of an image", "masks"]], ids=str)
def test_a_manifest_that_needs_more_is_refused_in_one_line(workspace, data, needs):
    path = enqueued(workspace, data).manifest.folder / "dataset.json"
    path.write_text(path.read_text().replace('"needs": []', f'"needs": {needs!r}'.replace("'", '"')))
    with pytest.raises(HeadstartError, match=r"needs what this version cannot do.*pip install -U"):
        open_manifest(path.parent)


@settings(max_examples=60)
@given(st.lists(st.sampled_from(["move", "delete", "restore", "touch", "copy", "rewrite", "enqueue"]), max_size=14), st.data())
def test_whatever_happens_to_the_files_the_manifest_says_what_is_there(tmp_path_factory, acts, data):
    place = tmp_path_factory.mktemp("identity")
    workspace, root = open_or_create_workspace(place / "w"), place / "data"
    photos(root, *(f"{label}/{i}.jpg" for label in "ab" for i in range(4)))
    gone: list[bytes] = []
    rows: dict[str, set[int]] = {}
    for number, act in enumerate([*acts, "enqueue"], start=1):
        files = sorted(root.rglob("*.jpg"))
        path = data.draw(st.sampled_from(files))
        free = root / data.draw(st.sampled_from("abc")) / f"n{number}.jpg"
        free.parent.mkdir(exist_ok=True)
        if act == "move":
            path.rename(free)
        elif act == "delete" and len(files) > 3:
            gone.append(path.read_bytes())
            path.unlink()
        elif act == "restore" and gone:
            free.write_bytes(gone.pop())
        elif act == "touch":
            os.utime(path, ns=(number, number))
        elif act == "copy":
            shutil.copy(path, free)
        elif act == "rewrite":
            path.write_bytes(f"rewritten {number}".encode())
        elif act == "enqueue":
            columns = enqueued(workspace, root).manifest.read_all()
            there = {str(p.relative_to(root)): digest_of_bytes(p.read_bytes()) for p in root.rglob("*.jpg")}
            counted = columns.live.nonzero()[0].tolist()
            assert {columns.path[row]: columns.digest[row] for row in counted} == there
            assert len(counted) == len(there)
            assert all(columns.label[row] == columns.path[row].split("/")[0] for row in counted)
            for row in range(len(columns.path)):
                rows.setdefault(columns.digest[row], set()).add(row)
            # No more rows than there ever were copies at once: nothing is computed twice.
            assert all(len(found) <= 1 + acts.count("copy") for found in rows.values())
            for digest in set(there.values()):
                assert len({columns.split[row] for row in counted if columns.digest[row] == digest}) == 1


def test_matching_gives_no_row_twice(workspace, data):
    before = enqueued(workspace, data).manifest.read_all()
    shutil.copy(data / "cat/00.jpg", data / "cat/copy.jpg")
    images = digest_images(workspace, find_images(data, OPTIONS), None, when="now").source.images
    rows = [row for row in match_images(images, before).rows if row != NO_ROW]
    assert sorted(rows) == list(np.arange(40))
