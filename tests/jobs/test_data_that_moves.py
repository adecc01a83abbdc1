"""Data that moves, changes and leaves, from enqueue to features: nothing is computed twice, nothing stale is trained on."""

import os
import shutil

import h5py
import numpy as np
import pytest

from headstart import load_features
from headstart.features.manifest.reading import open_manifest
from headstart.features.store.packing import open_cache
from headstart.pipeline.errors import SourceGoneError
from headstart.pipeline.kinds import Settings
from headstart.pipeline.queue import Reader
from headstart.pipeline.status import failed_items
from headstart.pipeline.worker import Limits, Worker

from .extraction import KINDS, digests, draw, encoder_of, enqueue, enqueued, work
from .format_1 import as_format_1


@pytest.fixture
def data(tmp_path):
    for number in range(24):
        draw(tmp_path / f"data/{'ab'[number % 2]}/{number:02d}.png", number)
    return tmp_path / "data"


def unpack_anew(data):
    for path in data.rglob("*.png"):
        content = path.read_bytes()
        path.unlink()
        path.write_bytes(content)
        os.utime(path, (1, 1))


def loaded(workspace):
    found = load_features(encoder_of(workspace))
    return {path: (label, row.tobytes()) for path, label, row in zip(found.paths, found.labels, found.features, strict=True)}


def some_work(workspace, jobs):
    return Worker(workspace, Settings(device="cpu"), Limits(max_jobs=jobs), lambda finished: None).run()


def test_an_archive_unpacked_anew_between_two_runs_costs_nothing(data, tmp_path):
    workspace = enqueue(data, tmp_path / "w", "--job-size", "8")
    some_work(workspace, 1)
    done = digests(workspace)
    unpack_anew(data)
    assert work(workspace).jobs == 2
    assert list(failed_items(workspace)) == []
    assert done.items() <= digests(workspace).items()
    assert "24 known" in enqueued(data, workspace.root)
    assert work(workspace).jobs == 0


@pytest.mark.parametrize("touched", ["other bytes", "the same bytes"])
def test_other_bytes_of_the_same_size_are_no_image_that_was_touched(tmp_path, touched):
    for number in range(8):
        draw(tmp_path / f"data/a/{number}.bmp", number)
    workspace = enqueue(tmp_path / "data", tmp_path / "w")
    path, size = tmp_path / "data/a/3.bmp", (tmp_path / "data/a/3.bmp").stat().st_size
    draw(path, 99 if touched == "other bytes" else 3)
    os.utime(path, (1, 1))
    assert path.stat().st_size == size
    work(workspace)
    failed = [(item.name, item.code) for _, item in failed_items(workspace)]
    assert failed == ([("a/3.bmp", "changed")] if touched == "other bytes" else [])


@pytest.mark.parametrize("is_format_1", [False, True], ids=["format-2", "format-1"])
def test_data_that_moved_is_not_computed_again(data, tmp_path, is_format_1):
    workspace = enqueue(data, tmp_path / "w")
    if is_format_1:
        as_format_1(workspace)
    work(workspace)
    done, before = digests(workspace), loaded(workspace)
    place = data.rename(tmp_path / "elsewhere")
    (place / "a").rename(place / "first")
    said = enqueued(place, workspace.root)
    assert "0 new images, 24 known (12 moved, 12 relabelled), 0 changed" in said
    assert "0 jobs added" in said
    assert digests(workspace) == done
    after = loaded(workspace)
    assert {path.replace("first/", "a/"): row for path, (_, row) in after.items()} == {p: row for p, (_, row) in before.items()}
    assert {label for label, _ in after.values()} == {"first", "b"}


def test_what_left_is_neither_loaded_nor_cached_and_comes_back_without_work(data, tmp_path):
    workspace = enqueue(data, tmp_path / "w")
    work(workspace)
    before = loaded(workspace)
    shutil.move(data / "a", tmp_path / "kept")
    assert "12 rows retired" in enqueued(data, workspace.root)
    assert set(loaded(workspace)) == {path for path in before if path.startswith("b/")}
    cached = open_cache(encoder_of(workspace))
    assert (len(cached), cached.coverage) == (12, "12 of 12 images")
    shutil.move(tmp_path / "kept", data / "a")
    assert "24 known (12 returned)" in enqueued(data, workspace.root)
    assert work(workspace).jobs == 0
    assert loaded(workspace) == before


def test_other_labels_are_other_rows_to_train_on_and_the_first_ones_are_the_first_again(data, tmp_path):
    workspace = enqueue(data, tmp_path / "w")
    work(workspace)
    digest_of_rows = [open_cache(encoder_of(workspace)).digest]
    for one, two in (("a", "c"), ("c", "a")):
        (data / one).rename(data / two)
        assert "24 known" in enqueued(data, workspace.root)
        digest_of_rows.append(open_cache(encoder_of(workspace)).digest)
    before, relabelled, again = digest_of_rows
    assert relabelled != before
    assert again == before


def test_a_row_that_left_before_its_turn_is_no_failure_and_computed_once_it_is_back(data, tmp_path):
    workspace = enqueue(data, tmp_path / "w")
    shutil.move(data / "a", tmp_path / "kept")
    enqueued(data, workspace.root)
    summary = work(workspace)
    assert (summary.items, summary.failed_items, list(failed_items(workspace))) == (12, 0, [])
    shutil.move(tmp_path / "kept", data / "a")
    said = enqueued(data, workspace.root)
    assert "12 known, 12 changed" in said
    assert work(workspace).items == 12
    assert len(loaded(workspace)) == 24


def test_a_file_that_work_missed_and_enqueue_found_elsewhere_is_computed(data, tmp_path):
    workspace = enqueue(data, tmp_path / "w")
    (data / "a").rename(data / "c")
    assert work(workspace).failed_items == 12
    assert "12 changed" in enqueued(data, workspace.root)
    assert work(workspace).items == 12
    assert len(loaded(workspace)) == 24


def test_digests_left_to_work_are_in_the_manifest_after_the_next_enqueue_without_reading(data, tmp_path, monkeypatch):
    said = enqueued(data, tmp_path / "w", "--digest", "later")
    assert "digests of 24 images are left to work" in said
    workspace = enqueue(data, tmp_path / "w", "--digest", "later")
    work(workspace)
    monkeypatch.setattr("headstart.features.manifest.digests.digest_of_file", lambda *_: pytest.fail("an image was read again"))
    enqueued(data, workspace.root)
    [folder] = workspace.manifests.iterdir()
    assert len({*open_manifest(folder).read_all().digest} - {""}) == 24


def test_data_that_is_gone_is_said_and_its_jobs_wait(data, tmp_path):
    workspace = enqueue(data, tmp_path / "w", "--job-size", "8")
    data.rename(tmp_path / "unplugged")
    with pytest.raises(SourceGoneError, match=r"gone or empty.*headstart data move"):
        work(workspace)
    (tmp_path / "unplugged").rename(data)
    assert work(workspace).jobs == 3


def _folder(place):
    draw(place / "a/0.png", 100)
    draw(place / "b/1.png", 101)
    return place


def _table(place):
    _folder(place)
    (place / "t.csv").write_text("path,label\na/0.png,a\nb/1.png,b\n")
    return place / "t.csv"


def _hdf5(place):
    place.mkdir()
    with h5py.File(place / "images.h5", "w") as file:
        file["images"] = np.random.default_rng(7).integers(0, 256, (2, 20, 24, 3), dtype=np.uint8)
        file["label"] = [0, 1]
    return place / "images.h5"


def _unplugged(place):
    place.rename(place.with_name("unplugged"))


def _mount_point(place):
    _unplugged(place)
    place.mkdir()


@pytest.mark.parametrize("go", [_unplugged, _mount_point], ids=["gone", "empty"])
@pytest.mark.parametrize("made", [_folder, _table, _hdf5], ids=["folder", "table", "hdf5"])
def test_a_set_of_data_that_is_gone_holds_up_no_other(data, tmp_path, made, go):
    away = made(tmp_path / "usb")
    workspace = enqueue(away, tmp_path / "w")
    enqueue(data, tmp_path / "w", "--job-size", "8")
    go(tmp_path / "usb")
    done = work(workspace)
    assert done.jobs == 3
    assert any("gone" in problem for problem in done.problems)
    assert list(failed_items(workspace)) == []


def test_a_workspace_of_format_1_is_migrated_by_enqueue_and_its_files_stay_as_they_are(data, tmp_path):
    workspace = enqueue(data, tmp_path / "w", "--job-size", "8")
    as_format_1(workspace)
    some_work(workspace, 2)
    kept = {path: path.read_bytes() for path in workspace.root.rglob("*") if path.suffix in (".npz", ".done", ".csv")}
    said = enqueued(data, workspace.root, "--job-size", "8")
    assert "0 new images, 24 known, 0 changed" in said
    assert "0 jobs added" in said
    assert {path: path.read_bytes() for path in kept} == kept
    [folder] = workspace.manifests.iterdir()
    assert open_manifest(folder).read_all().changes == ""  # no experiment sees a difference
    unpack_anew(data)
    assert work(workspace).jobs == 1
    assert list(failed_items(workspace)) == []


@pytest.mark.parametrize("has_moved", [False, True], ids=["in-place", "moved"])
def test_the_second_enqueue_uses_the_encoder_of_the_first(data, tmp_path, has_moved):
    from click.testing import CliRunner

    from headstart.cli import group

    workspace = enqueue(data, tmp_path / "w")
    place = data.rename(tmp_path / "elsewhere") if has_moved else data
    draw(place / "a/new.png", 99)
    done = CliRunner().invoke(group, ["enqueue", str(place), "-w", str(workspace.root)], catch_exceptions=False)
    assert (done.exit_code, "as before" in done.output) == (0, True)
    assert len({job.folder for job in Reader(workspace, KINDS)}) == 1
    work(workspace)
    assert len(loaded(workspace)) == 25


def table_of(data, place):
    """A table beside the photos, whose label stands under a name that nobody would take for one."""
    place.mkdir(parents=True, exist_ok=True)
    lines = [
        f"{path.relative_to(data.parent).as_posix()},{path.parent.name},{i}\n"
        for i, path in enumerate(sorted(data.rglob("*.png")))
    ]
    (place / "photos.csv").write_text("image,kind_of_animal,label\n" + "".join(lines))
    return place / "photos.csv"


@pytest.mark.parametrize("is_moved", [False, True], ids=["in-place", "moved"])
@pytest.mark.parametrize(
    ("said", "labels"), [(("--label-col", "kind_of_animal"), {"a", "b"}), (("--label-col", ""), {""})], ids=["a-column", "none"]
)
def test_what_was_said_of_a_table_once_holds_wherever_it_lies(data, tmp_path, said, labels, is_moved):
    table = table_of(data, tmp_path)
    workspace = enqueue(table, tmp_path / "w", *said)
    if is_moved:
        (tmp_path / "there").mkdir()
        data.rename(tmp_path / "there" / "data")
        table = table.rename(tmp_path / "there" / "photos.csv")
    again = enqueued(table, workspace.root)
    assert "24 known" in again
    assert "relabelled" not in again
    [folder] = workspace.manifests.iterdir()
    assert set(open_manifest(folder).read_all().label) == labels
    enqueued(table, workspace.root, "--label-col", "label")  # until something else is said
    assert len(set(open_manifest(folder).read_all().label)) == 24
