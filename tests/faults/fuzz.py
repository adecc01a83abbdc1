"""Each reader of the project on bytes that nobody wrote: only the project's own errors, within 10 s and 2 GB, all in one process.

python -m tests.faults.fuzz                      two minutes a reader
python -m tests.faults.fuzz --seconds 10 --only CSV
"""

import argparse
import contextlib
import hashlib
import io
import json
import os
import random
import re
import resource
import shutil
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st

from headstart.features.images.decode import ImageError
from headstart.pipeline import paths
from headstart.pipeline.errors import ExplainedError
from headstart.pipeline.workspace import Workspace, open_or_create_workspace, open_workspace

from .__main__ import add_share, conclude
from .flip_target import Noticed
from .flips import make_workspace, targets, write_photos

LONGEST_S = 10.0
MOST_BYTES = 2 << 30
HEADER = (
    "| reader | inputs | read | refused | other errors | over 10 s | seconds | peak MB |\n"
    "|---|---:|---:|---:|---:|---:|---:|---:|"
)
_OWN = (ExplainedError, ImageError, Noticed)
_BATCH = 50
# What readers of these formats look for: the halves of what they check stand in here.
_WORDS = [
    *(
        b"null",
        b"true",
        b"1e999",
        b"-1",
        b"NaN",
        b"[" * 500,
        b"{" * 500,
        b'{"a":',
        b"\\ud800",
        b"\\u0000",
        b"\xff\xfe",
        b"\xef\xbb\xbf",
    ),
    *(
        b"99999999999999999999",
        b"../../../etc/passwd",
        b"/etc/passwd",
        b"\0",
        b"\r",
        b"\n",
        b'"',
        b",",
        b"=cmd|' /C calc'!A0",
        b"\x1b]0;x\7",
    ),
    *(
        b"PK\3\4",
        b"PK\1\2",
        b"PK\5\6",
        b"\x93NUMPY",
        b"\x89HDF\r\n\x1a\n",
        b"SQLite format 3\0",
        b"PAR1",
        b"&a [*a,*a]",
        b"!!python/object:os.system",
    ),
    *(b"\xff" * 8, b"\0" * 64, b"\x7f\xff\xff\xff", b"job_000001", b"job_999999999999", "\u202e\u2028".encode()),
]


class TooLong(BaseException):
    """Ten seconds are over; no reader catches it."""


@dataclass(frozen=True)
class Reader:
    """Attributes:
    seeds: sound inputs that are changed.
    read: takes bytes; raises the project's own errors, or nothing.
    """

    name: str
    seeds: tuple[bytes, ...]
    read: Callable[[bytes], Any]


@dataclass
class Fuzzed:
    """Counts of one reader; `errors` are other exceptions, each once, with the file and line that raised it."""

    name: str
    inputs: int = 0
    refused: int = 0
    errors: Counter[str] = field(default_factory=Counter)
    hangs: list[str] = field(default_factory=list)
    seconds: float = 0.0
    peak_bytes: int = 0

    @property
    def violations(self) -> int:
        return sum(self.errors.values()) + len(self.hangs) + (self.peak_bytes > MOST_BYTES)

    def row(self) -> str:
        read = self.inputs - self.refused - sum(self.errors.values()) - len(self.hangs)
        counts = (self.inputs, read, self.refused, sum(self.errors.values()), len(self.hangs))
        return (
            f"| {self.name} | {' | '.join(f'{count:,}' for count in counts)} | {self.seconds:.0f} | {self.peak_bytes >> 20:,} |"
        )


def inputs(seeds: tuple[bytes, ...]) -> st.SearchStrategy[bytes]:
    """Sound bytes with a few changes of any kind, and bytes that never were."""
    change = st.tuples(
        st.sampled_from(["flip", "cut", "drop", "repeat", "put", "word", "number"]),
        st.integers(0, 1 << 20),
        st.integers(0, 1 << 12),
        st.sampled_from(_WORDS) | st.binary(max_size=8),
    )
    changed = st.builds(_changed, st.sampled_from(seeds), st.lists(change, min_size=1, max_size=6)) if seeds else st.nothing()
    return changed | changed | changed | st.binary(max_size=300) | st.lists(st.sampled_from(_WORDS), max_size=20).map(b"".join)


def _changed(data: bytes, changes: list[tuple[str, int, int, bytes]]) -> bytes:
    for kind, where, length, put in changes:
        at = where % (len(data) + 1)
        numbers = list(re.finditer(rb"\d+", data[:65536])) if kind == "number" else []
        if kind == "flip" and data:
            at = where % len(data)
            data = data[:at] + bytes([data[at] ^ 1 << length % 8]) + data[at + 1 :]
        elif kind == "cut":
            data = data[:at]
        elif kind == "drop":
            data = data[:at] + data[at + length :]
        elif kind == "repeat":
            data = data[:at] + data[at : at + length] * (length % 4 + 2) + data[at + length :]
        elif numbers:
            match = numbers[where % len(numbers)]
            data = (
                data[: match.start()]
                + (put if put.isdigit() else str(where * 10 ** (length % 20)).encode())
                + data[match.end() :]
            )
        elif kind == "put":
            data = data[:at] + put + data[at + len(put) :]
        else:
            data = data[:at] + put + data[at:]
    return data


def fuzz(reader: Reader, seconds: float) -> Fuzzed:
    """Calls it until the time is over; every batch is a hypothesis test of its own."""
    result = Fuzzed(reader.name)
    for sound in reader.seeds:  # what is imported once is no input's fault
        with contextlib.suppress(*_OWN):
            reader.read(sound)
    end, begun = time.monotonic() + seconds, time.monotonic()

    def one(data: bytes) -> None:
        if time.monotonic() >= end:
            return
        result.inputs += 1
        signal.setitimer(signal.ITIMER_REAL, LONGEST_S, LONGEST_S)  # again: a callback may swallow it
        try:
            reader.read(data)
        except _OWN as error:
            result.refused += 1
            if len(str(error).splitlines()) > 1:
                result.errors[f"several lines: {str(error)[:120]!r}"] += 1
        except TooLong:
            if _takes_long(reader, data):
                result.hangs.append(repr(data[:200]))
        except Exception as error:
            result.errors[f"{type(error).__name__} at {_place(error)}: {str(error)[:100]!r} of {data[:60]!r}"] += 1
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)

    before = signal.signal(signal.SIGALRM, _too_long)
    try:
        batch = 0
        while time.monotonic() < end:
            quiet = settings(
                max_examples=_BATCH,
                deadline=None,
                database=None,
                phases=[Phase.generate],
                suppress_health_check=list(HealthCheck),
            )
            seed(batch)(quiet(given(inputs(reader.seeds))(one)))()
            batch += 1
    finally:
        signal.signal(signal.SIGALRM, before)
    result.seconds = time.monotonic() - begun
    result.peak_bytes = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss << 10
    return result


def _takes_long(reader: Reader, data: bytes) -> bool:
    """Whether it takes as long again: a machine that stood still for a while is no reader's fault."""
    signal.setitimer(signal.ITIMER_REAL, LONGEST_S, LONGEST_S)
    try:
        reader.read(data)
    except TooLong:
        return True
    except Exception:
        pass
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
    return False


def _too_long(number: int, frame: object) -> None:
    raise TooLong


def _place(error: Exception) -> str:
    trace, place = error.__traceback__, ""
    while trace is not None:
        place = f"{Path(trace.tb_frame.f_code.co_filename).name}:{trace.tb_lineno}"
        trace = trace.tb_next
    return place


def given_readers(root: Path) -> Iterator[Reader]:
    """Readers of what a user gives, with sound inputs. Args: root: an empty folder to work in."""
    from headstart.experiments.heads.grid import read_grid
    from headstart.experiments.training.options import read_config
    from headstart.features.arrays import unpack_npy
    from headstart.features.images.decode import open_rgb
    from headstart.features.images.masks import MaskFile, read_mask, read_palette
    from headstart.features.manifest.digests import digest_images
    from headstart.features.networks.weights_file import read_tensors
    from headstart.features.sources.find import find_images
    from headstart.features.sources.source import SourceOptions
    from headstart.pipeline.doors.records import parse_record

    workspace = open_or_create_workspace(root / "other")
    table = write_photos(root / "given")
    photo = table.with_name("light00.png")

    def in_file(name: str, read: Callable[[Path], Any]) -> Callable[[bytes], Any]:
        path = photo.parent / f"given_{name}"  # where the images are that a table names

        def put_and_read(data: bytes) -> Any:
            path.write_bytes(data)
            return read(path)

        return put_and_read

    def found(path: Path) -> None:
        find_images(path, SourceOptions(path_col="path", label_col="label"))

    def digested(path: Path) -> None:
        digest_images(workspace, find_images(path, SourceOptions()), None, "now")

    def path_of(data: bytes) -> None:
        path = f"{workspace.root}{os.sep}{os.fsdecode(data)}"
        with contextlib.suppress(OSError):
            paths.exists(path)
            os.close(paths.open_file(path))

    yield Reader("paths", (b"features/jobs_queue.csv", b"workers", b"a/b/c"), path_of)
    yield Reader(
        "records", (json.dumps({"format": 1, "a": [1.5, {"b": "c"}]}).encode(),), lambda data: parse_record(data, "x.json", 1)
    )
    array = io.BytesIO()
    np.save(array, np.arange(6.0).reshape(2, 3))
    yield Reader("one array (NPY)", (array.getvalue(),), _as_own(unpack_npy))
    yield Reader("table (CSV)", (table.read_bytes(), b"path;label\na.png;x\n"), in_file("table.csv", found))
    if parquet := tuple(_parquet(photo)):
        yield Reader("table (Parquet)", parquet[:1], in_file("table.parquet", found))
        yield Reader("images in Parquet", parquet[1:], in_file("images.parquet", digested))
    yield Reader("images in HDF5", (_hdf5(root),), in_file("images.h5", digested))
    yaml = b"epochs: 20\nlearning_rate: 1e-3\nheads:\n  - {name: a, hidden: [64, 32]}\n"
    yield Reader("options (YAML)", (yaml,), in_file("options.yaml", read_config))
    grids = (
        b"heads:\n- {name: a, hidden: [8]}\n- {name: b}\ndropout: [0, 0.5]\n",
        b"learning_rate: [0.001, 0.01]\nhidden: [0, [64, 32]]\n",
    )
    yield Reader("grid (YAML)", grids, in_file("grid.yaml", read_grid))
    yield Reader("palette", (b"128 0 0 car\n0 0 0 void\n",), in_file("palette.txt", read_palette))
    pictures = tuple(_pictures(photo))
    yield Reader("image", pictures, lambda data: open_rgb(data).load())
    yield Reader("mask", pictures, in_file("mask.png", lambda path: read_mask(MaskFile(path.parent, path.name), False)))
    yield Reader("weights (safetensors)", (_small_safetensors(),), in_file("w.safetensors", read_tensors))
    yield Reader("weights (.pt)", (_small_pt(),), in_file("w.pt", read_tensors))


def readers(root: Path) -> Iterator[Reader]:
    """Every reader. Args: root: an empty folder to work in."""
    yield from given_readers(root)
    workspace = make_workspace(root)
    for target in targets(workspace):
        if target.name == "payload, packed anew" or (target.path.stat().st_size > 200_000 and "onnx" not in target.name):
            continue
        sound = target.path.read_bytes()
        if len(sound) > 200_000:
            continue

        def observe(data: bytes, target: Any = target) -> None:
            try:
                target.path.write_bytes(data)
                target.observe()
            finally:
                target.restore()

        yield Reader(target.name, (sound,), observe)
        target.path.write_bytes(sound)
        target.restore()
    yield from of_patches(open_workspace(root / "cut" / "workspace"))


def of_patches(cut: Workspace) -> Iterator[Reader]:
    """What is read of patches once its digest fits, as it does in a workspace from somebody who makes it fit."""
    from headstart.features.encoders.map_compression import read_projection
    from headstart.features.encoders.spec import read_encoder
    from headstart.features.manifest.patch_versions import read_version
    from headstart.features.manifest.patches import jobs_of, read_patches
    from headstart.features.store.maps import _checked, open_patch_maps
    from headstart.pipeline.doors.records import read_record, seal
    from headstart.pipeline.markers import read_marker

    version = read_version(cut, 1)
    encoder = cut.features / version.setting.encoder
    spec = read_encoder(encoder)
    lines, description, fitted = cut.root / version.source, version.folder / "patches.json", encoder / "encoder.maps.npz"
    job = next(jobs_of(version, read_patches(cut, version), cut))
    marker = read_marker(cut, job, version.fingerprint)
    sound = {path: path.read_bytes() for path in (lines, description, fitted, marker.payload)}
    facts = dict(read_record(description, None))
    for path in sound:
        path.chmod(0o644)

    def restored(read: Callable[[bytes], Any]) -> Callable[[bytes], Any]:
        def look(data: bytes) -> Any:
            try:
                return read(data)
            finally:
                for path, content in sound.items():
                    path.write_bytes(content)

        return look

    def of_list(data: bytes) -> None:
        lines.write_bytes(data)
        digest = hashlib.sha256(data).hexdigest()
        patches = max(1, data.count(b"\n") - 1)
        description.write_bytes(seal({**facts, "patches": patches, "sha256": digest}))
        read = read_version(cut, 1)
        list(jobs_of(read, read_patches(cut, read), cut))
        with contextlib.suppress(*_OWN):
            open_patch_maps(cut)

    def of_description(data: bytes) -> None:
        description.write_bytes(data)
        open_patch_maps(cut)

    def of_projection(data: bytes) -> None:
        fitted.write_bytes(data)
        assert spec.compression is not None
        assert spec.spatial is not None
        compression = replace(spec.compression, sha256=hashlib.sha256(data).hexdigest())
        read_projection(encoder, compression, spec.spatial.shape[0])

    def of_payload(data: bytes) -> None:
        marker.payload.write_bytes(data)
        _checked(replace(marker, sha256=hashlib.sha256(data).hexdigest(), payload_bytes=len(data)), spec, 0)

    yield Reader("list of patches, digest made to fit", (sound[lines],), restored(of_list))
    yield Reader("patches.json without its seal", (json.dumps(facts, indent=1).encode(),), restored(of_description))
    yield Reader("encoder.maps.npz, digest made to fit", (sound[fitted],), restored(of_projection))
    yield Reader("payload of patches, digest made to fit", (sound[marker.payload],), restored(of_payload))


def _as_own(read: Callable[[bytes], Any]) -> Callable[[bytes], Any]:
    from headstart.features.arrays import DamagedArrays

    def call_it(data: bytes) -> Any:
        try:
            return read(data)
        except DamagedArrays as error:  # its callers name the file
            raise Noticed from error

    return call_it


def _parquet(photo: Path) -> Iterator[bytes]:
    """A table that names the photo and the one after it, and the photos themselves in a column."""
    try:
        import pyarrow as pa
        import pyarrow.parquet as pq
    except ImportError:
        return
    photos = [photo, photo.with_name("dark01.png")]
    words = pa.array(["x", "y"]).dictionary_encode()
    named = pa.table({"path": [path.name for path in photos], "label": words, "score": [0.5, None]})
    held = pa.table({"image": [{"bytes": path.read_bytes(), "path": path.name} for path in photos], "label": [0, 1]})
    for table in (named, held):
        buffer = io.BytesIO()
        pq.write_table(table, buffer, row_group_size=1)
        yield buffer.getvalue()


def _hdf5(root: Path) -> bytes:
    import h5py

    path = root / "seed.h5"
    with h5py.File(path, "w") as file:
        file["images"] = np.arange(2 * 4 * 4 * 3, dtype=np.uint8).reshape(2, 4, 4, 3)
        file["labels"] = np.array([b"x", b"y"])
    return path.read_bytes()


def _pictures(photo: Path) -> Iterator[bytes]:
    from PIL import Image

    image = Image.open(photo)
    for form in ("PNG", "JPEG", "GIF", "BMP", "TIFF", "WEBP"):
        buffer = io.BytesIO()
        image.save(buffer, form)
        yield buffer.getvalue()


def _small_safetensors() -> bytes:
    from safetensors.numpy import save

    return save({"conv.weight": np.ones((2, 3), np.float32), "bn.bias": np.zeros(2, np.float32)})


def _small_pt() -> bytes:
    import torch

    buffer = io.BytesIO()
    torch.save({"conv.weight": torch.ones(2, 3), "bn.bias": torch.zeros(2)}, buffer)
    return buffer.getvalue()


def run(
    seconds: float,
    only: str = "",
    told: Callable[[str], None] = lambda line: None,
    share: tuple[int, int] = (0, 1),
    among: Callable[[Path], Iterator[Reader]] = readers,
) -> list[Fuzzed]:
    """Args: seconds: for each reader; only: a part of the names of those meant; told: called with each row; share: K of N."""
    root = Path(tempfile.mkdtemp(prefix="headstart-fuzz-", dir="/dev/shm" if os.access("/dev/shm", os.W_OK) else None))
    results = []
    random.seed(0)
    try:
        with contextlib.chdir(root):
            os.environ["HEADSTART_CONFIG"] = str(root / "configuration")
            for number, reader in enumerate(among(root)):
                if only in reader.name and number % share[1] == share[0]:
                    results.append(fuzz(reader, seconds))
                    told(results[-1].row())
                    for line in [*list(results[-1].errors)[:8], *results[-1].hangs[:3]]:
                        told(f"    {line}")
    finally:
        shutil.rmtree(root, ignore_errors=True)
    return results


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=120)
    parser.add_argument("--only", default="")
    parser.add_argument("--write", action="store_true", help="put the figures into docs/reliability.md")
    add_share(parser)
    arguments = parser.parse_args()
    print(HEADER, flush=True)
    results = run(arguments.seconds, arguments.only, lambda line: print(line, flush=True), arguments.share)
    violations = sum(result.violations for result in results)
    said = f"{sum(result.inputs for result in results):,} inputs"
    return conclude(HEADER, [result.row() for result in results], said, violations, "make fuzz", arguments)


if __name__ == "__main__":
    sys.exit(main())
