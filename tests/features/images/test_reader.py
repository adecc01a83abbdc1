import errno

import h5py
import numpy as np
import pytest

from headstart.features.images.decode import ImageError
from headstart.features.images.reader import open_reader
from headstart.features.manifest.parts import Row
from headstart.features.manifest.reading import Dataset
from headstart.pipeline.errors import TryLaterError
from tests.features.samples import CENTER

IMAGES = np.random.default_rng(0).integers(0, 256, (6, 20, 24, 3), dtype=np.uint8)
DAMAGED = 2


def reader_and_rows(path):
    facts = path.stat()
    rows = [Row(f"{path.name}#{i:09d}", "", "", "", facts.st_size, facts.st_mtime_ns, index=i) for i in range(len(IMAGES))]
    return open_reader(Dataset(str(path.parent), "hdf5", path.name, {}, 0, allow_symlinks=False), CENTER), rows


def test_a_damaged_chunk_of_an_hdf5_file_costs_its_own_image(tmp_path):
    path = tmp_path / "x.h5"
    with h5py.File(path, "w") as file:
        stored = file.create_dataset("images", data=IMAGES, chunks=(1, *IMAGES.shape[1:]), compression="gzip")
        chunk = stored.id.get_chunk_info(DAMAGED)
    with path.open("r+b") as file:
        file.seek(chunk.byte_offset + chunk.size // 2)
        file.write(bytes(20))
    read, rows = reader_and_rows(path)
    for row in rows:
        if row.index == DAMAGED:
            with pytest.raises(ImageError, match=r"^unreadable: x\.h5: ") as caught:
                read(row)
            assert "\n" not in caught.value.reason
        else:
            assert read(row).shape == (224, 224, 3)


@pytest.mark.parametrize("code", [errno.EIO, errno.ESTALE, errno.ENOTCONN], ids=errno.errorcode.get)
def test_a_disk_that_fails_under_an_hdf5_file_blames_no_image(tmp_path, monkeypatch, code):
    path = tmp_path / "x.h5"
    with h5py.File(path, "w") as file:
        file["images"] = IMAGES
    read, rows = reader_and_rows(path)
    read(rows[0])

    def fail(dataset, place):
        raise OSError(code, "Can't synchronously read data (file read failed)")

    monkeypatch.setattr(h5py.Dataset, "__getitem__", fail)
    with pytest.raises(TryLaterError, match=r"cannot read .*x\.h5"):
        read(rows[1])


def test_an_hdf5_file_whose_disk_is_not_mounted_blames_no_image(tmp_path):
    path = tmp_path / "x.h5"
    with h5py.File(path, "w") as file:
        file["images"] = IMAGES
    read, rows = reader_and_rows(path)
    path.unlink()
    with pytest.raises(TryLaterError, match="Is its disk mounted"):
        read(rows[0])
