"""Payloads, packed parts and the rows of a training, by somebody who knows the formats: right rows, or one line."""

import hashlib
import json
from dataclasses import replace

import h5py
import numpy as np
import pytest

from headstart.features.arrays import summary
from headstart.features.store import shards
from headstart.features.store.cache_part import DamagedPart, open_part
from headstart.features.store.load import load_features
from headstart.features.store.packing import open_cache
from headstart.features.store.snapshot import open_snapshot, serialize_snapshot
from headstart.pipeline.errors import HeadstartError
from tests.features.packed import Extracted, numbered


@pytest.fixture
def extracted(workspace) -> Extracted:
    """20 images in three jobs."""
    made = Extracted(workspace)
    made.add(numbered(20), ["a", "b"] * 10, ["train"] * 20)
    return made


def committed(extracted, arrays, ok=None, source=None):
    """A payload that fits its marker in size, digest, dtypes and shapes, as somebody who wrote both would make it."""
    job = extracted.jobs[1]
    marker = extracted.workspace.marker(job)
    record = json.loads(marker.read_text())
    record.pop("seal", None)
    data = shards.pack(arrays)
    sha256 = hashlib.sha256(data).hexdigest()
    name = f"{job.job_id}.{sha256[:16]}.npz"
    (extracted.workspace.payloads(job) / name).write_bytes(data)
    record["payload"] = {"name": name, "bytes": len(data), "sha256": sha256, "arrays": summary(arrays)}
    record["ok"] = min(record["items"], len(arrays.get("index", ()))) if ok is None else ok
    if source:
        record["job"]["source"] = source
    marker.write_text(json.dumps(record))


def arrays_of(extracted):
    rows = range(8, 16)
    return {"global_pool": numbered(8), "index": np.array(rows, np.int64), "status": np.zeros(8, np.uint8)}


ODD = {
    "index of other jobs": lambda a: a | {"index": a["index"] - 8},
    "index out of range": lambda a: a | {"index": a["index"] + 10**6},
    "index negative": lambda a: a | {"index": -a["index"]},
    "index twice the same": lambda a: a | {"index": a["index"] * 0 + 9},
    "index longer": lambda a: a | {"index": np.arange(40)},
    "index of int32": lambda a: a | {"index": a["index"].astype(np.int32)},
    "index of floats": lambda a: a | {"index": a["index"].astype(np.float64)},
    "no index": lambda a: {k: v for k, v in a.items() if k != "index"},
    "no features": lambda a: {k: v for k, v in a.items() if k != "global_pool"},
    "narrower": lambda a: a | {"global_pool": a["global_pool"][:, :3]},
    "wider": lambda a: a | {"global_pool": np.zeros((8, 5), np.float16)},
    "of one axis": lambda a: a | {"global_pool": np.zeros(8, np.float16)},
    "of float32": lambda a: a | {"global_pool": a["global_pool"].astype(np.float32)},
    "fewer rows": lambda a: a | {"global_pool": a["global_pool"][:3]},
}


@pytest.mark.parametrize("read", [load_features, open_cache], ids=["load_features", "cache"])
@pytest.mark.parametrize("change", ODD.values(), ids=ODD.keys())
def test_a_payload_that_fits_its_marker_gives_no_rows_of_others(extracted, change, read):
    committed(extracted, change(arrays_of(extracted)))
    with pytest.raises(HeadstartError, match=r"job_000001\..*cannot be read"):
        read(extracted.folder)


@pytest.mark.parametrize("read", [load_features, open_cache], ids=["load_features", "cache"])
@pytest.mark.parametrize("at", [0.0, 0.3, 0.6, 0.99], ids=str)
def test_one_flipped_bit_of_a_payload_is_one_line(extracted, at, read):
    [payload] = extracted.workspace.payloads(extracted.jobs[1]).glob("job_000001.*")
    data = bytearray(payload.read_bytes())
    data[int(at * len(data))] ^= 1
    payload.write_bytes(data)
    with pytest.raises(HeadstartError, match=r"job_000001\..*verify --deep --repair"):
        read(extracted.folder)


def bomb(file, elsewhere):
    del file["index"]
    file.create_dataset("index", shape=(2**34,), dtype="i8", chunks=(2**20,), compression="gzip")


def external(file, elsewhere):
    del file["index"]
    file.create_dataset("index", shape=(20,), dtype="i8", external=[(str(elsewhere), 0, 160)])


def external_features(file, elsewhere):
    del file["global_pool"]
    file.create_dataset("global_pool", shape=(20, 4), dtype="f2", external=[(str(elsewhere), 0, 160)])


def linked(file, elsewhere):
    del file["index"]
    file["index"] = h5py.ExternalLink(str(elsewhere), "index")


def chunked_features(file, elsewhere):
    data = file["global_pool"][()]
    del file["global_pool"]
    file.create_dataset("global_pool", data=data, chunks=(4, 4), compression="gzip")


def listing(change):
    def make(file, elsewhere):
        entries = json.loads(bytes(file["shards"][()]))
        change(entries)
        del file["shards"]
        file["shards"] = np.frombuffer(json.dumps(entries).encode(), np.uint8)

    return make


def negative_index(file, elsewhere):
    index = file["index"][()]
    index[3] = -2
    file["index"][...] = index


def far_index(file, elsewhere):
    index = file["index"][()]
    index[3] = 2**50
    file["index"][...] = index


def deep(file, elsewhere):
    del file["shards"]
    file["shards"] = np.frombuffer(b"[" * 300_000, np.uint8)


def no_format(file, elsewhere):
    del file.attrs["format"]


PARTS = {
    "bomb": bomb,
    "index elsewhere": external,
    "features elsewhere": external_features,
    "index behind a link": linked,
    "compressed features": chunked_features,
    "counts below zero": listing(lambda s: (s[0].update(rows=-5), s[1].update(rows=s[1]["rows"] + 13))),
    "counts that are true": listing(lambda s: s[0].update(rows=True)),
    "a source outside": listing(lambda s: s[0].update(source="../../x")),
    "a source that is absolute": listing(lambda s: s[0].update(source="/etc/passwd")),
    "a job that is none": listing(lambda s: s[0].update(job_id="job_x")),
    "a digest that is none": listing(lambda s: s[0].update(sha256="x")),
    "an entry that is none": listing(lambda s: s.append(5)),
    "too few counts": listing(lambda s: s.pop()),
    "index below zero": negative_index,
    "index far away": far_index,
    "deep": deep,
    "no format": no_format,
}


@pytest.mark.parametrize("change", PARTS.values(), ids=PARTS.keys())
def test_a_part_of_a_stranger_is_packed_again(extracted, tmp_path, change):
    kept = open_cache(extracted.folder).take(np.arange(20)).copy()
    [part] = (extracted.folder / "cache").glob("part_*")
    (tmp_path / "elsewhere").write_bytes(b"PRIVATE!" * 24)
    with h5py.File(part, "r+") as file:
        change(file, tmp_path / "elsewhere")
    # Under the name that its bytes now have, so that nothing but its content speaks against it.
    named = part.with_name(f"part_{hashlib.sha256(part.read_bytes()).hexdigest()[:16]}.h5")
    part.rename(named)
    with pytest.raises(DamagedPart):
        open_part(named)
    assert np.array_equal(open_cache(extracted.folder).take(np.arange(20)), kept)
    assert not named.exists()


def test_a_flip_of_any_byte_of_a_part_is_mended(extracted):
    kept = open_cache(extracted.folder).take(np.arange(20)).copy()
    [part] = (extracted.folder / "cache").glob("part_*")
    data = part.read_bytes()
    for at in range(0, len(data), 97):
        part.write_bytes(data[:at] + bytes([data[at] ^ 1 << at % 8]) + data[at + 1 :])
        assert np.array_equal(open_cache(extracted.folder).take(np.arange(20)), kept)


def rows_with(**given):
    from headstart.features.store.cached_features import parse_rows, serialize_rows

    def change(data):
        size = 8 + int.from_bytes(data[:8], "little")
        return data[:size] + serialize_rows(replace(parse_rows(data[size:]), **given))

    return change


ROWS = {
    "part absolute": rows_with(parts=("/etc/passwd",)),
    "part upwards": rows_with(parts=("../../thesis.txt",)),
    "part hidden": rows_with(parts=("..",)),
    "data set upwards": rows_with(datasets=("../..",)),
    "data set absolute": rows_with(datasets=("/etc",)),
    "rows below zero": rows_with(physical=np.full(20, -1)),
    "data sets beyond": rows_with(dataset=np.full(20, 7, np.int32)),
    "fewer rows": rows_with(physical=np.arange(3)),
    "revisions of another number": rows_with(revisions=(1, 2, 3)),
    "cut off": lambda data: data[:200],
    "list of payloads deep": lambda data: (300_000).to_bytes(8, "little") + b"[" * 300_000,
    "list of payloads none": lambda data: (2).to_bytes(8, "little") + b"{}" + data[8:],
    "list beyond the end": lambda data: (2**60).to_bytes(8, "little") + data[8:],
}


@pytest.mark.parametrize("change", ROWS.values(), ids=ROWS.keys())
def test_rows_of_a_training_by_a_stranger_are_one_line_and_touch_nothing(extracted, tmp_path, change):
    thesis = extracted.folder / "cache" / ".." / ".." / "thesis.txt"
    data = serialize_snapshot(open_cache(extracted.folder))
    thesis.write_text("thesis")
    for is_checked in (False, True):
        with pytest.raises(HeadstartError, match="are damaged"):
            open_snapshot(extracted.workspace, extracted.folder, change(data), is_checked)
    assert thesis.read_text() == "thesis"


def test_rows_beyond_the_parts_are_looked_for_anew(extracted):
    cached = open_cache(extracted.folder)
    data = rows_with(physical=np.arange(20) + 10**6)(serialize_snapshot(cached))
    assert np.array_equal(
        open_snapshot(extracted.workspace, extracted.folder, data).take(np.arange(20)), cached.take(np.arange(20))
    )
