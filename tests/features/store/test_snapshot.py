import shutil
from dataclasses import replace

import numpy as np
import pytest

from headstart.features.store.cached_features import of_dataset
from headstart.features.store.packing import load_cached_features, open_cache
from headstart.features.store.snapshot import open_snapshot, serialize_snapshot
from headstart.pipeline.errors import HeadstartError
from tests.features.packed import Extracted, numbered


@pytest.fixture
def extracted(workspace) -> Extracted:
    result = Extracted(workspace)
    result.add(numbered(24), [f"class {i % 3}" for i in range(24)], ["train"] * 12 + ["val"] * 6 + ["test"] * 6)
    return result


def content(cached):
    return cached.take(np.arange(len(cached))).tolist(), cached.labels.tolist(), cached.splits.tolist(), cached.paths


def more(extracted, first=24, count=16):
    names = [f"image_{i:06d}.png" for i in range(first, first + count)]
    extracted.add(numbered(count, first=first), ["class 0"] * count, ["train"] * count, names=names)


def test_what_is_extracted_later_changes_nothing(extracted):
    before = open_cache(extracted.folder)
    data = serialize_snapshot(before)
    for first in range(24, 24 + 16 * 12, 16):  # often enough that parts are packed together and old rows forgotten
        more(extracted, first)
        assert len(open_cache(extracted.folder)) > 24
    found = open_snapshot(extracted.workspace, extracted.folder, data)
    assert content(found) == content(before)
    assert found.digest == before.digest


def test_a_deleted_cache_comes_back_for_it(extracted):
    before = open_cache(extracted.folder)
    kept, data = content(before), serialize_snapshot(before)
    more(extracted)
    shutil.rmtree(extracted.folder / "cache")
    assert content(open_snapshot(extracted.workspace, extracted.folder, data)) == kept


def test_a_changed_image_does_not_change_it(extracted):
    before = open_cache(extracted.folder)
    data = serialize_snapshot(before)
    extracted.add(numbered(4, first=90), ["class 1"] * 4, ["train"] * 4, mtime=2)
    shutil.rmtree(extracted.folder / "cache")
    assert len(open_cache(extracted.folder)) == 24
    assert content(open_snapshot(extracted.workspace, extracted.folder, data)) == content(before)


def test_a_flipped_bit_in_a_part_is_found_and_mended(extracted):
    before = open_cache(extracted.folder)
    kept, data = content(before), serialize_snapshot(before)
    part = before.parts[0].path
    damaged = bytearray(part.read_bytes())
    damaged[before.parts[0].features.offset + 1] ^= 1
    del before
    part.unlink()
    part.write_bytes(damaged)
    assert content(open_snapshot(extracted.workspace, extracted.folder, data)) == kept
    assert content(open_snapshot(extracted.workspace, extracted.folder, data, is_checked=True)) == kept


def test_features_that_were_made_again_are_refused(extracted):
    data = serialize_snapshot(open_cache(extracted.folder))
    job = extracted.jobs[0]
    extracted.workspace.marker(job).unlink()
    extracted.finish(job, numbered(8, first=50), range(8))
    open_cache(extracted.folder)
    with pytest.raises(HeadstartError, match=r"no longer has the features.*some were made again.*--name NEW"):
        open_snapshot(extracted.workspace, extracted.folder, data)


def test_another_encoder_is_refused(extracted):
    data = serialize_snapshot(open_cache(extracted.folder))
    (extracted.folder / "encoder.json").write_bytes(replace(extracted, weights="11" * 32).spec.to_json())
    with pytest.raises(HeadstartError, match="fingerprint"):
        open_snapshot(extracted.workspace, extracted.folder, data)


def test_a_manifest_gives_the_rows_of_that_data_set_only(extracted):
    first = next(path for path in extracted.workspace.manifests.iterdir())
    other = replace(extracted, name="other")
    other.add(numbered(16, first=100), ["class 9"] * 16)
    both = open_cache(extracted.folder)
    chosen = load_cached_features(next(first.glob("part_*")))
    assert (len(both), len(chosen), chosen.rows.images) == (40, 24, 24)
    assert set(chosen.labels.tolist()) == {"class 0", "class 1", "class 2"}
    assert chosen.digest != both.digest
    data = serialize_snapshot(chosen)
    assert content(open_snapshot(extracted.workspace, extracted.folder, data)) == content(chosen)
    shutil.rmtree(extracted.folder / "cache")
    assert content(open_snapshot(extracted.workspace, extracted.folder, data)) == content(chosen)
    with pytest.raises(HeadstartError, match="has no features in"):
        of_dataset(both, "features/manifests/none")


def test_a_data_set_s_rows_do_not_depend_on_the_others(extracted):
    [name] = [extracted.workspace.relative(path) for path in extracted.workspace.manifests.iterdir()]
    alone = of_dataset(open_cache(extracted.folder), name)
    other = replace(extracted, name="another")  # sorts before it
    for first in (100, 200):
        images = [f"image_{first + i}.png" for i in range(16)]
        other.add(numbered(16, first=first), ["0.5"] * 16, ["held out"] * 16, ["scene"] * 16, names=images)
        beside = of_dataset(open_cache(extracted.folder), name)
        assert beside.digest == alone.digest
        assert content(beside) == content(alone)
        assert (beside.rows.images, beside.rows.datasets, beside.selected) == (24, (name,), name)
        for column in ("label", "split", "group"):
            found, wanted = getattr(beside.rows, column), getattr(alone.rows, column)
            assert found.names == wanted.names
            assert np.array_equal(found.codes, wanted.codes)


def test_a_data_set_s_digest_follows_its_own_features(extracted):
    [name] = [extracted.workspace.relative(path) for path in extracted.workspace.manifests.iterdir()]
    replace(extracted, name="another").add(numbered(16, first=100), ["class 9"] * 16)
    before = of_dataset(open_cache(extracted.folder), name).digest
    job = extracted.jobs[0]
    extracted.workspace.marker(job).unlink()
    extracted.finish(job, numbered(8, first=50), range(8))
    assert of_dataset(open_cache(extracted.folder), name).digest != before
