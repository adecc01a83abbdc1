import contextlib
import errno
import os
import shutil
import zipfile
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise

import h5py
import numpy as np
import pytest

from headstart.features.manifest import reading
from headstart.features.store import cached_features, packing
from headstart.features.store.cache_part import ALIGNMENT, PackedShard, open_part, serialize_part
from headstart.features.store.cached_features import of_dataset
from headstart.features.store.load import load_features
from headstart.features.store.packing import load_cached_features, open_cache
from headstart.pipeline.doors import locks
from headstart.pipeline.errors import HeadstartError, TryLaterError
from tests.features.packed import Extracted, numbered


@pytest.fixture
def extracted(workspace) -> Extracted:
    """40 images of classes a and b in five jobs."""
    made = Extracted(workspace)
    made.add(
        numbered(40), ["a", "b"] * 20, ["train"] * 24 + ["val"] * 8 + ["test"] * 8, extra={"age": [str(i) for i in range(40)]}
    )
    return made


def test_every_image_has_its_own_features_label_split_and_columns(extracted):
    cached = open_cache(extracted.folder)
    numbers = [int(path[6:12]) for path in cached.paths]
    assert sorted(numbers) == list(range(40))
    assert cached.take(np.arange(40))[:, 0].tolist() == numbers
    assert cached.labels.tolist() == ["ab"[number % 2] for number in numbers]
    assert cached.splits.tolist() == ["train" if n < 24 else "val" if n < 32 else "test" for n in numbers]
    assert cached.column("age") == [str(number) for number in numbers]
    assert cached.coverage == "40 of 40 images"


REFUSALS = {
    "a read-only file system": OSError(errno.EROFS, "Read-only file system"),
    "a folder of another user": PermissionError(errno.EACCES, "Permission denied"),
}


def refuse(monkeypatch, error):
    @contextlib.contextmanager
    def held(path, timeout_s):
        raise error
        yield

    monkeypatch.setattr(locks, "held", held)


@pytest.mark.parametrize("error", REFUSALS.values(), ids=REFUSALS)
def test_what_is_packed_is_read_where_nothing_may_be_written(extracted, monkeypatch, error):
    packed = open_cache(extracted.folder, part_bytes=80)
    refuse(monkeypatch, error)
    again = open_cache(extracted.folder)
    assert [part.path for part in again.parts] == [part.path for part in packed.parts]
    assert np.array_equal(again.take(np.arange(40)), packed.take(np.arange(40)))
    packed.parts[0].path.unlink()
    with pytest.raises((HeadstartError, TryLaterError), match=r"^cannot lock .*$"):
        open_cache(extracted.folder)


def test_a_full_disk_is_said_even_where_all_is_packed(extracted, monkeypatch):
    open_cache(extracted.folder)
    refuse(monkeypatch, OSError(errno.ENOSPC, "No space left on device"))
    with pytest.raises(TryLaterError, match=r"^cannot lock .*No space left on device.*$"):
        open_cache(extracted.folder)


def test_it_holds_what_load_features_reads_from_the_shards(extracted):
    cached, loaded = open_cache(extracted.folder, part_bytes=80), load_features(extracted.folder)
    assert len(cached.parts) > 2
    assert np.array_equal(cached.take(np.arange(40)), loaded.features)
    assert cached.paths == loaded.paths
    assert np.array_equal(cached.labels, loaded.labels)


def test_features_are_mapped_at_a_page_boundary_and_not_loaded(extracted):
    part = open_cache(extracted.folder).parts[0]
    assert isinstance(part.features, np.memmap)
    with h5py.File(part.path) as file:
        offset = file["global_pool"].id.get_offset()
        assert offset % ALIGNMENT == 0
        assert file["index"].id.get_offset() % ALIGNMENT == 0
        assert np.array_equal(file["global_pool"][()], part.features)
        # With times the same features would give other bytes a second later.
        assert not any(file[name].id.get_create_plist().get_obj_track_times() for name in file)


@pytest.mark.parametrize("part_bytes", [1 << 20, 80], ids=["one part", "many parts"])
def test_rows_are_read_in_any_order_and_in_blocks_of_the_disk(extracted, part_bytes):
    cached = open_cache(extracted.folder, part_bytes)
    everything = cached.take(np.arange(40))
    positions = np.array([33, 2, 2, 17, 39, 0])
    assert np.array_equal(cached.take(positions), everything[positions])
    chosen = np.array([30, 1, 22, 5, 8])
    blocks = list(cached.blocks(chosen, size=2))
    assert [len(found) for found, _ in blocks] == [2, 2, 1]
    assert np.array_equal(np.concatenate([found for found, _ in blocks]), np.sort(chosen))
    assert all(np.array_equal(features, everything[found]) for found, features in blocks)


def test_a_new_job_makes_a_new_part_and_leaves_the_old_ones_alone(extracted):
    before = open_cache(extracted.folder)
    files = extracted.cache_files()
    extracted.add(numbered(5, first=40), ["a"] * 5, names=[f"image_{40 + i:06d}.png" for i in range(5)])
    after = open_cache(extracted.folder)
    assert files.items() < extracted.cache_files().items()
    assert (len(before), len(after)) == (40, 45)
    assert before.digest != after.digest
    assert after.take(np.arange(45))[:, 0].tolist() == [int(path[6:12]) for path in after.paths]


def test_while_extraction_runs_it_says_on_how_many_of_how_many_images(extracted):
    extracted.add(numbered(16, first=40), ["a"] * 16, names=[f"image_{40 + i:06d}.png" for i in range(16)], finish=False)
    assert open_cache(extracted.folder).coverage == "40 of 56 images"


def test_opening_it_again_writes_nothing(extracted):
    open_cache(extracted.folder)
    before = {path: path.stat().st_mtime_ns for path in (extracted.folder / "cache").iterdir() if path.name != ".lock"}
    open_cache(extracted.folder)
    assert before == {path: path.stat().st_mtime_ns for path in (extracted.folder / "cache").iterdir() if path.name != ".lock"}


def test_the_same_features_give_the_same_bytes_after_the_cache_was_deleted(extracted):
    digest = open_cache(extracted.folder).digest
    files = extracted.cache_files()
    shutil.rmtree(extracted.folder / "cache")
    assert open_cache(extracted.folder).digest == digest
    assert extracted.cache_files() == files


def test_the_digest_does_not_depend_on_how_rows_lie_in_parts(extracted):
    one = open_cache(extracted.folder)
    shutil.rmtree(extracted.folder / "cache")
    many = open_cache(extracted.folder, part_bytes=80)
    assert len(many.parts) > len(one.parts)
    assert many.digest == one.digest
    assert np.array_equal(many.take(np.arange(40)), one.take(np.arange(40)))


def test_who_opens_the_cache_again_sees_the_rows_in_the_order_of_who_packed_them(extracted):
    seen = []
    for first in range(40, 80, 5):
        extracted.add(numbered(5, first=first), ["a"] * 5, names=[f"image_{first + i:06d}.png" for i in range(5)])
        packed, again = open_cache(extracted.folder), open_cache(extracted.folder)
        assert cached_features.serialize_rows(packed.rows) == cached_features.serialize_rows(again.rows)
        seen.append([part.path.name for part in again.parts])
    assert seen[-1] != sorted(seen[-1])  # their names say nothing of it: one of 40,320 orders is theirs
    assert all(after[: len(before)] == before for before, after in pairwise(seen))


def test_nothing_is_written_but_parts(extracted):
    open_cache(extracted.folder)
    assert {path.name for path in (extracted.folder / "cache").iterdir()} == {".lock", ".checked", *extracted.cache_files()}


def test_only_the_latest_row_of_a_path_counts(extracted):
    extracted.add(np.full((1, 4), 99, np.float16), ["b"], names=["image_000003.png"], mtime=2)
    cached = open_cache(extracted.folder)
    assert len(cached) == 40
    assert cached.take(np.array([cached.paths.index("image_000003.png")])).tolist() == [[99] * 4]


def test_a_part_with_a_payload_that_its_marker_no_longer_names_is_packed_again(extracted):
    first = open_cache(extracted.folder)
    job = extracted.jobs[1]
    rows = first.rows.index[8:16]
    extracted.workspace.marker(job).unlink()
    extracted.finish(job, np.full((8, 4), 7, np.float16), rows)
    second = open_cache(extracted.folder)
    assert second.digest != first.digest
    assert second.take(np.arange(8, 16)).tolist() == [[7] * 4] * 8
    assert not first.parts[0].path.exists()
    assert np.array_equal(second.take(np.arange(8)), first.take(np.arange(8)))


def cut(path):
    os.truncate(path, path.stat().st_size // 2)


@pytest.mark.parametrize(
    "harm",
    [lambda path: path.unlink(), cut, lambda path: path.write_bytes(b"no HDF5")],
    ids=["missing", "cut off", "overwritten"],
)
def test_a_harmed_part_comes_back(extracted, harm):
    before = open_cache(extracted.folder)
    files, features = extracted.cache_files(), before.take(np.arange(40))
    harm(before.parts[0].path)
    after = open_cache(extracted.folder)
    assert np.array_equal(after.take(np.arange(40)), features)
    assert extracted.cache_files() == files


def test_a_damaged_part_that_cannot_be_removed_ends_in_one_line(extracted, monkeypatch):
    cut(open_cache(extracted.folder).parts[0].path)

    def refused(path):
        raise PermissionError(errno.EACCES, "in use", str(path))

    monkeypatch.setattr(packing.paths, "remove", refused)
    with pytest.raises(TryLaterError, match=r"part_.*h5 is damaged and cannot be removed: .* then try again$"):
        open_cache(extracted.folder)


def test_many_small_parts_become_one(extracted):
    for number in range(40, 52):
        extracted.add(numbered(1, first=number), ["a"], names=[f"image_{number:06d}.png"])
        cached = open_cache(extracted.folder)
        assert len(cached) == number + 1
        assert len(extracted.cache_files()) <= packing._SMALL_PARTS + 1
    assert cached.take(np.arange(52))[:, 0].tolist() == [int(path[6:12]) for path in cached.paths]


def test_a_cache_of_another_encoder_is_refused(extracted):
    open_cache(extracted.folder)
    other = Extracted(extracted.workspace, weights="11" * 32)
    other.add(numbered(8), ["a"] * 8, mtime=2)
    shutil.copytree(extracted.folder / "cache", other.folder / "cache")
    with pytest.raises(HeadstartError, match="is of another encoder"):
        open_cache(other.folder)


def test_a_shard_with_a_flipped_bit_never_enters_the_cache(extracted):
    payload = next(extracted.workspace.payloads(extracted.jobs[2]).glob("job_000002.*"))
    with zipfile.ZipFile(payload) as archive:
        offset = archive.getinfo("global_pool.npy").header_offset
    data = bytearray(payload.read_bytes())
    data[offset + 200] ^= 1
    payload.write_bytes(data)
    with pytest.raises(HeadstartError, match=r"verify --deep --repair"):
        open_cache(extracted.folder)


def test_without_any_features_it_says_what_to_run(workspace):
    made = Extracted(workspace)
    made.add(numbered(8), ["a"] * 8, finish=False)
    with pytest.raises(HeadstartError, match="headstart work"):
        open_cache(made.folder)


def test_a_job_whose_images_all_failed_takes_no_row(extracted):
    jobs = extracted.add(numbered(16, first=40), ["a"] * 16, names=[f"image_{i:06d}.png" for i in range(40, 56)], finish=False)
    for job in jobs:
        extracted.finish(job, np.empty((0, 4), np.float16), [])
    cached = open_cache(extracted.folder)
    assert len(cached) == 40
    assert {shard.job_id for part in cached.parts for shard in part.shards} == {job.job_id for job in extracted.jobs}


def test_an_unknown_column_is_answered_with_the_known_ones(extracted):
    with pytest.raises(HeadstartError, match="it has: age"):
        open_cache(extracted.folder).column("ages")


def test_a_part_names_its_payloads(tmp_path):
    listing = [PackedShard("job_000001", "features/manifests/x/part", "ab" * 32, 3)]
    name, data = serialize_part("f" * 64, listing, numbered(3), np.arange(3))
    (tmp_path / name).write_bytes(data)
    part = open_part(tmp_path / name)
    assert (part.fingerprint, part.shards) == ("f" * 64, tuple(listing))
    assert bytes(data) == bytes(serialize_part("f" * 64, listing, numbered(3), np.arange(3))[1])


def test_notebooks_find_the_only_encoder_of_a_workspace(extracted):
    for place in (extracted.folder, extracted.workspace.root, next(extracted.workspace.manifests.iterdir())):
        assert len(load_cached_features(place)) == 40


def test_notebooks_are_asked_which_encoder_and_told_where_there_is_none(extracted, tmp_path):
    Extracted(extracted.workspace, weights="11" * 32).add(numbered(8), ["a"] * 8, mtime=2)
    with pytest.raises(HeadstartError, match="has these encoders: encoder_tiny-"):
        load_cached_features(extracted.workspace.root)
    with pytest.raises(HeadstartError, match="in no workspace"):
        load_cached_features(tmp_path)


def test_rows_that_a_killed_packer_left_in_two_parts_count_once(extracted):
    small = [part.path for part in open_cache(extracted.folder, part_bytes=80).parts[:2]]
    left = {path: path.read_bytes() for path in small}
    shutil.rmtree(extracted.folder / "cache")
    open_cache(extracted.folder)
    for path, data in left.items():
        path.write_bytes(data)
    cached = open_cache(extracted.folder)
    assert cached.take(np.arange(len(cached)))[:, 0].tolist() == [int(path[6:12]) for path in cached.paths]
    assert len(cached) == 40


def test_those_who_open_it_at_once_pack_each_shard_once(extracted, monkeypatch):
    packed, plain = [], packing._part_of
    monkeypatch.setattr(packing, "_part_of", lambda fingerprint, block: packed.extend(block) or plain(fingerprint, block))
    with ThreadPoolExecutor(4) as pool:
        assert list(pool.map(lambda _: len(open_cache(extracted.folder)), range(4))) == [40] * 4
    assert len(packed) == 5


def test_a_manifest_is_read_once_and_a_column_put_in_order_once(workspace, monkeypatch):
    extracted = Extracted(workspace)
    extracted.add(numbered(16), ["a", "b"] * 8, extra={"age": [str(i) for i in range(16)]})
    other = Extracted(workspace, name="other", jobs=extracted.jobs)
    other.add(numbered(8, first=100), ["c"] * 8, extra={"age": ["7"] * 8})
    reads = Counter()

    def counted(folder, *revision):
        reads[folder.name] += 1
        return reading.read_columns(folder, *revision)

    monkeypatch.setattr(cached_features, "read_columns", counted)
    both = open_cache(extracted.folder)
    alone = of_dataset(both, both.rows.datasets[0])
    for cached in (both, alone):
        assert len(cached.column("age")) == len(cached.paths) == len(cached)
        assert cached.extra_columns == ("age",)
        assert cached.column("age") is cached.column("age")
    assert list(reads.values()) == [1, 1]
    assert len(both.column("age")) == 24 > len(alone.column("age"))
