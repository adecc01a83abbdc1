"""What people do to their photos between two commands, and what must be true of them after each: told from the files alone.

A violation is one line whose first word is its sort, as in `invariants`.
"""

import csv
import hashlib
import io
import json
import os
import re
import shutil
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from headstart.pipeline.workspace import open_workspace
from tests.jobs.format_1 import as_format_1

WORKSPACE, FIRST, SECOND, THIRD, TABLE, KEPT = "workspace", "photos", "elsewhere", "again", "table.csv", "kept"
ENCODER = ("--weights", "embedded", "--job-size", "4")
TRAINING = ("train-head", "--epochs", "2")
_UNPACKED_S = 1_500_000_000  # an archive's time stamps are of another day, and the same for all

Truth = dict[str, tuple[str, str]]  # path relative to the root: (label, digest of its bytes)


@dataclass(frozen=True)
class Step:
    """Attributes:
    name: what happens to the photos.
    change: does it, below the folder that is given; nobody kills that.
    words: of the command afterwards, but for the workspace.
    data_sets: how many there are once it is over.
    is_known: whether nothing is lost if the command never comes to its end and the next `enqueue` is another one.
    has_digests: whether the manifest has them once it is over.
    """

    name: str
    change: Callable[[Path], None]
    words: tuple[str, ...]
    data_sets: int = 1
    is_known: bool = True
    has_digests: bool = True

    @property
    def command(self) -> str:
        return self.words[0]

    @property
    def data_set(self) -> str:
        """What is enqueued or moved, '' for nothing."""
        return {"enqueue": self.words[1:2], "data": self.words[-1:]}.get(self.command, ("",))[0]


def place(base: Path) -> Path:
    """Where the photos are now."""
    return next(folder for name in (THIRD, SECOND, FIRST) if (folder := base / name).is_dir())


def nothing(base: Path) -> None:
    """The photos stay as they are."""


def unpack_anew(base: Path) -> None:
    for path in _photos(base):
        data = path.read_bytes()
        path.unlink()
        path.write_bytes(data)
        os.utime(path, (_UNPACKED_S, _UNPACKED_S))


def move(base: Path) -> None:
    (base / FIRST).rename(base / SECOND)


def move_again(base: Path) -> None:
    (base / SECOND).rename(base / THIRD)


def relabel(base: Path) -> None:
    """A class gets another name, an image another class, and another one another name."""
    one, two, *_ = sorted(path for path in place(base).iterdir())
    one.rename(one.with_name("renamed"))
    moved, other, *_ = sorted(two.iterdir())
    moved.rename(place(base) / "renamed" / f"from_{moved.name}")
    other.rename(other.with_name(f"other_{other.name}"))


def thin_out(base: Path) -> None:
    """Some leave, some come, one gets other bytes, and of one there is a copy now."""
    one, two, *_ = sorted(path for path in place(base).iterdir())
    first, second, third, fourth, *_ = sorted(one.iterdir())
    (base / KEPT).mkdir()
    first.rename(base / KEPT / first.name)
    second.rename(base / KEPT / second.name)
    third.write_bytes(_varied(third.read_bytes()))
    shutil.copyfile(fourth, two / f"copy_of_{fourth.name}")
    for number in range(3):
        (two / f"new_{number}{fourth.suffix}").write_bytes(_varied(fourth.read_bytes(), number + 1))


def bring_back(base: Path) -> None:
    one, *_ = sorted(path for path in place(base).iterdir())
    for path in (base / KEPT).iterdir():
        path.rename(one / path.name)


def write_table(base: Path) -> None:
    """Half of the photos once more, as a table."""
    photos = _photos(base)[::2]
    rows = "".join(f"{path.relative_to(base).as_posix()},{path.parent.name}\n" for path in photos)
    (base / TABLE).write_text(f"image,species\n{rows}")


def correct_table(base: Path) -> None:
    """Another label, and the rows in another order."""
    lines = (base / TABLE).read_text().splitlines(keepends=True)
    other = lines[-1].rpartition(",")[2]  # a class that is there already: a new one might be drawn into no training split
    lines[1] = f"{lines[1].partition(',')[0]},{other}"
    (base / TABLE).write_text("".join([lines[0], *reversed(lines[1:])]))


def write_as_version_1(base: Path) -> None:
    as_format_1(open_workspace(base / WORKSPACE))


# `{place}` is where the photos are, `{table}` the table.
BEGIN = (
    Step("are new", nothing, ("enqueue", "{place}", *ENCODER), is_known=False),
    Step("are extracted", nothing, ("work",)),
    Step("are learned", nothing, (*TRAINING, "--name", "first")),
)
CHANGES = (
    Step("are unpacked anew", unpack_anew, ("enqueue", "{place}")),
    Step("move, which is said", move, ("data", "move", FIRST, "{place}")),
    Step("are where they are", nothing, ("enqueue", "{place}")),
    Step("move, which nobody says", move_again, ("enqueue", "{place}")),
    Step("get other names and labels", relabel, ("enqueue", "{place}")),
    Step("go, come and change", thin_out, ("enqueue", "{place}")),
    Step("are extracted again", nothing, ("work",)),
    Step("are half in a table, too", write_table, ("enqueue", "{table}", "--label-col", "species", *ENCODER), 2, is_known=False),
    Step("of the table are extracted", nothing, ("work",), data_sets=2),
    Step("come back", bring_back, ("enqueue", "{place}"), data_sets=2),
    Step("are corrected in the table", correct_table, ("enqueue", "{table}"), data_sets=2),
    Step("are extracted once more", nothing, ("work",), data_sets=2),
    Step("are learned again", nothing, (*TRAINING, "--name", "second"), data_sets=2),
)
STORIES: Mapping[str, tuple[Step, ...]] = {
    "today": (*BEGIN, *CHANGES),
    "version 1": (
        BEGIN[0],
        Step("are in a manifest of version 1", write_as_version_1, ("work",), has_digests=False),
        replace(BEGIN[2], has_digests=False),
        Step("are migrated", nothing, ("enqueue", "{place}"), is_known=False),
        *CHANGES,
    ),
    "short": (
        BEGIN[0],
        Step("are in a manifest of version 1", write_as_version_1, ("work",), has_digests=False),
        Step("are migrated", nothing, ("enqueue", "{place}"), is_known=False),
        Step("move, which nobody says", move, ("enqueue", "{place}")),
        Step("get other names and labels", relabel, ("enqueue", "{place}")),
        Step("go, come and change", thin_out, ("enqueue", "{place}")),
    ),
}
LONG = ("today", "version 1")


def words_of(step: Step, base: Path) -> list[str]:
    return [word.format(place=place(base), table=base / TABLE) for word in step.words]


def truths(base: Path, data_sets: int) -> dict[tuple[str, str | None], Truth]:
    """By root and file of each data set: what is in it, as the files and the table say."""
    folder = place(base)
    photos = {path.relative_to(folder).as_posix(): (path.parent.name, digest_of(path.read_bytes())) for path in _photos(base)}
    result: dict[tuple[str, str | None], Truth] = {(str(folder), None): photos}
    if data_sets > 1:
        with (base / TABLE).open(newline="") as file:
            rows = list(csv.DictReader(file))
        result[str(base), TABLE] = {row["image"]: (row["species"], digest_of((base / row["image"]).read_bytes())) for row in rows}
    return result


def digest_of(data: bytes) -> str:
    return hashlib.blake2b(data, digest_size=16).hexdigest()


@dataclass(frozen=True)
class NowRow:
    """A row of a manifest as it is now, and the bytes of each feature that was ever computed of it."""

    path: str
    label: str
    split: str
    digest: str
    is_live: bool
    features: list[bytes]


def rows_now(workspace: Path) -> dict[str, tuple[dict[str, Any], list[NowRow]]]:
    """By folder of a data set: its `dataset.json`, and all its rows."""
    computed: dict[tuple[str, int], list[bytes]] = defaultdict(list)
    for marker in sorted(workspace.glob("features/encoder_*/done/*/*.done")):
        facts = json.loads(marker.read_bytes())
        payload = marker.parents[2] / "shards" / marker.parent.name / facts["payload"]["name"]
        with np.load(payload, allow_pickle=False) as arrays:
            for row, values in zip(arrays["index"].tolist(), arrays["global_pool"], strict=True):
                computed[facts["job"]["source"].rpartition("/")[0], row].append(values.tobytes())
    result = {}
    for path in sorted(workspace.glob("features/manifests/*/dataset.json")):
        source = path.parent.relative_to(workspace).as_posix()
        states = _states(path.parent)
        last = {state["path"]: row for row, state in enumerate(states) if not state["retired"]}
        rows = [
            NowRow(
                state["path"],
                state["label"],
                state["split"],
                state["image_digest"],
                last.get(state["path"]) == row and not state["retired"],
                computed[source, row],
            )
            for row, state in enumerate(states)
        ]
        result[source] = (json.loads(path.read_bytes()), rows)
    return result


def _states(folder: Path) -> list[dict[str, str]]:
    blank = {"image_digest": "", "retired": ""}
    states: list[dict[str, str]] = []
    for part in sorted(folder.glob("part_*.csv")):
        with part.open(newline="", encoding="utf-8") as file:
            states += [blank | row for row in csv.DictReader(file)]
    revisions = sorted(folder.glob("revision_*.csv"))
    if revisions:
        with revisions[-1].open(newline="", encoding="utf-8") as file:
            for state in csv.DictReader(file):
                states[int(state["row"])] = blank | state
    return states


def flaws(base: Path, data_sets: int, expected: Mapping[str, bytes], most: Mapping[str, int]) -> Iterator[str]:
    """What is wrong once all commands have ended and nothing is left to do.

    Args:
        expected: the feature of an image by the digest of its bytes, as an undisturbed run computed it.
        most: how often it may have been computed, by the same.
    """
    workspace, known = base / WORKSPACE, truths(base, data_sets)
    times: Counter[str] = Counter()
    splits: dict[str, set[str]] = defaultdict(set)
    found = rows_now(workspace)
    for source, (dataset, rows) in found.items():
        truth = known.pop((dataset["root"], dataset["file"]), None)
        if truth is None:
            yield f"duplicated: {source} is a data set of its own, at {dataset['root']}"
            continue
        live = {row.path: row for row in rows if row.is_live}
        yield from (f"lost: {path} is in no row that counts" for path in sorted(truth.keys() - live.keys()))
        yield from (f"wrong: {path} left and still counts" for path in sorted(live.keys() - truth.keys()))
        for path in sorted(truth.keys() & live.keys()):
            yield from _row_flaws(live[path], *truth[path], expected)
            splits[truth[path][1]].add(live[path].split)
        for row in rows:
            times[row.digest] += len(row.features)
    yield from (f"lost: the data set at {root}" for root, _ in known)
    yield from (f"wrong: copies of {digest} are in {sorted(names)}" for digest, names in splits.items() if len(names) > 1)
    for digest, count in sorted(times.items()):
        if count > most.get(digest, 0):
            yield f"duplicated: {digest or 'an image without digest'} was computed {count} times, not {most.get(digest, 0)}"
    yield from (f"orphan: {path.relative_to(base)}" for path in _leftovers(workspace))


def _row_flaws(row: NowRow, label: str, digest: str, expected: Mapping[str, bytes]) -> Iterator[str]:
    if row.label != label:
        yield f"wrong: {row.path} has the label {row.label}, not {label}"
    if row.digest != digest:
        yield f"wrong: {row.path} has the digest {row.digest}, not {digest}"
    if not row.features:
        yield f"lost: {row.path} has no features"
    elif set(row.features) != {expected[digest]}:
        yield f"wrong: {row.path} has other features than in an undisturbed run"
    if len(row.features) > 1:
        yield f"duplicated: {row.path} was computed {len(row.features)} times"


def training_flaws(base: Path, data_sets: int) -> Iterator[str]:
    """What is wrong with the rows that the newest experiment learns from, by its own file."""
    known = truths(base, data_sets)
    found = rows_now(base / WORKSPACE)
    newest = sorted((base / WORKSPACE).glob("experiments/exp_*"))[-1]
    for path, label, split, source in learned(newest):
        dataset, rows = found[source]
        row = rows[path]
        truth = known[dataset["root"], dataset["file"]]
        if not row.is_live or truth.get(row.path, ("", ""))[0] != label or row.split != split:
            yield f"wrong: {newest.name} learns from {row.path} as {label}, {split}"
    count = len(learned(newest))
    if count != sum(map(len, known.values())):
        yield f"lost: {newest.name} learns from {count} rows, there are {sum(map(len, known.values()))}"


def learned(experiment: Path) -> list[tuple[int, str, str, str]]:
    """Row, label, split and data set of each row in `rows.bin`, as docs/formats.md has it."""
    data = (experiment / "rows.bin").read_bytes()
    length = int.from_bytes(data[:8], "little")
    with np.load(io.BytesIO(data[8 + length :]), allow_pickle=False) as arrays:
        facts = json.loads(arrays["facts"].tobytes())
        columns = [arrays[name].tolist() for name in ("index", "label", "split", "dataset")]
    return [
        (row, facts["label"][label], facts["split"][split], facts["datasets"][source])
        for row, label, split, source in zip(*columns, strict=True)
    ]


def outcome(workspace: Path) -> dict[str, str]:
    """sha256 of every file that counts but those that hold who did it and when: equal for equal results."""
    vary = re.compile(r"/\.tmp-|/(workers|claims|done|summaries|cache|digests|anytime)/|\.lock$|\.db|encoder\.onnx")
    files = [path for path in sorted(workspace.rglob("*")) if path.is_file()]
    names = {path: path.relative_to(workspace).as_posix() for path in files}
    return {name: hashlib.sha256(path.read_bytes()).hexdigest() for path, name in names.items() if not vary.search(f"/{name}")}


def _photos(base: Path) -> list[Path]:
    return sorted(path for path in place(base).rglob("*") if path.is_file())


def _varied(data: bytes, number: int = 0) -> bytes:
    """Another picture of the same kind: turned, and each time cut off a little more."""
    buffer = io.BytesIO()
    with Image.open(io.BytesIO(data)) as image:
        image.rotate(180).crop((0, 0, image.width - number, image.height)).save(buffer, image.format)
    return buffer.getvalue()


def _leftovers(workspace: Path) -> list[Path]:
    return [path for path in workspace.rglob("*") if path.name.startswith(".tmp-") or path.match("features/digests/*.csv")]
