"""The patches of a version, one a line: `features/patches/patch_manifest.v001.csv`.

What is known of an image (where it lies, its split, whether it still counts) is asked of its data set's manifest; here stands
what is cut out of it, and by which job its features are made.
"""

from __future__ import annotations

import csv
import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from headstart.pipeline.doors import reading
from headstart.pipeline.doors.records import seal
from headstart.pipeline.errors import HeadstartError
from headstart.pipeline.files import environment_faults
from headstart.pipeline.job import Job, is_job_id
from headstart.pipeline.text import reason_of
from headstart.pipeline.workspace import Workspace

from .csv_lines import columns, written
from .patch_versions import PATCHES_FILE, PATCHES_FORMAT, PATCHES_PLACE, PatchSetting, PatchVersion

PATCHES_KIND = "patches"  # the module in `jobs/` that does what is queued here
PATCHES_A_JOB = 16
_COLUMNS = (
    *("patch_id", "parent_image", "x", "y", "width", "height", "mask", "features_path", "split"),
    *("parent_row", "parent_width", "parent_height"),
)


UNREAD = (0, 0)  # size of an image that could not be read when it was to be cut; its one window is as large
_LONGEST = 2**24  # edge of an image


class Window(NamedTuple):
    """A part of an image, in its pixels."""

    x: int
    y: int
    width: int
    height: int


@dataclass(frozen=True)
class Patches:
    """The lines of a version; item i of each attribute is patch i.

    Attributes:
        parent: (n,) int64, row of the image in the manifest; patches of an image follow each other, row by row of them.
        windows: (n, 4) int64: x, y, width, height.
        sizes: (n, 2) int64, (height, width) of the image.
        masks: path of the image's mask, from the root of the data or absolute; '' for none.
        jobs: (n,) id of the job that makes its features.
    """

    parent: npt.NDArray[np.int64]
    windows: npt.NDArray[np.int64]
    sizes: npt.NDArray[np.int64]
    masks: list[str]
    jobs: list[str]

    def __len__(self) -> int:
        return len(self.parent)

    def window(self, patch: int) -> Window:
        return Window(*map(int, self.windows[patch]))

    @property
    def is_unread(self) -> npt.NDArray[np.bool_]:
        """(n,): the line is no patch but an image whose size could not be read; its job says why, as of any image."""
        unread: npt.NDArray[np.bool_] = (self.sizes == UNREAD).all(axis=1)
        return unread


class PatchLine(NamedTuple):
    """A patch that is to be written down; see `Patches`."""

    image: str
    window: Window
    mask: str
    split: str
    parent: int
    size: tuple[int, int]


def read_patches(workspace: Workspace, version: PatchVersion) -> Patches:
    """Its lines, every byte as it was written. Raises: HeadstartError if they are not."""
    path = workspace.root / version.source
    try:
        with environment_faults(f"cannot read {path}"):
            data = reading.read(path, reading.TABLE_BYTES)
    except OSError as error:
        raise HeadstartError(f"{path} cannot be read ({error.strerror}). {version.remedy}") from None
    except reading.UnreadableError as error:
        raise HeadstartError(f"{error}. Take it away. {version.remedy}") from None
    if hashlib.sha256(data).hexdigest() != version.sha256:
        raise HeadstartError(f"{path} was changed: a version of patches never changes. Restore it from a copy. {version.remedy}")
    header, _, lines = data.partition(b"\n")
    if header != ",".join(_COLUMNS).encode():
        raise HeadstartError(f"{path} was written by a newer version. Upgrade: pip install -U headstart")
    try:
        named = dict(zip(_COLUMNS, columns(lines, len(_COLUMNS)), strict=True))
    except (csv.Error, ValueError) as error:
        raise HeadstartError(f"{path} is damaged ({reason_of(error)}). {version.remedy}") from None

    def numbers(*names: str) -> npt.NDArray[np.int64]:
        return np.array([list(map(int, named[name])) for name in names], np.int64)

    try:
        parent, windows, sizes = numbers("parent_row")[0], numbers(*Window._fields).T, numbers("parent_height", "parent_width").T
        begin, extent = windows[:, 1::-1], windows[:, :1:-1]  # (y, x) and (height, width)
        is_some = (extent > 0) | (sizes == UNREAD).all(axis=1, keepdims=True)
        is_inside = (begin >= 0) & is_some & (extent >= 0) & (extent <= version.setting.size) & (begin + extent <= sizes)
        is_known = (sizes < _LONGEST).all() and (windows < _LONGEST).all() and parent.max() < _LONGEST
        if len(parent) != version.patches or parent.min() < 0 or not (is_known and is_inside.all()):
            raise ValueError("a patch does not lie in its image")
    except (ValueError, OverflowError) as error:
        raise HeadstartError(f"{path} is damaged ({reason_of(error)}). {version.remedy}") from None
    return Patches(parent, windows, sizes, named["mask"], [place.rpartition("/")[2] for place in named["features_path"]])


def jobs_of(version: PatchVersion, patches: Patches, workspace: Workspace) -> Iterator[Job]:
    """The jobs that make their features, as the lines name them."""
    folder, begin = workspace.relative(version.folder), 0
    for place in range(1, len(patches) + 1):
        if place == len(patches) or patches.jobs[place] != patches.jobs[begin]:
            if not is_job_id(patches.jobs[begin]):
                raise HeadstartError(f"{version.source} names a job {patches.jobs[begin][:40]!r}. {version.remedy}")
            yield Job(patches.jobs[begin], PATCHES_KIND, folder, version.source, begin, place)
            begin = place


def publish_patches(
    workspace: Workspace,
    setting: PatchSetting,
    number: int,
    lines: Sequence[PatchLine],
    jobs: Sequence[Job],
    masks_root: str = "",
) -> PatchVersion:
    """Writes a version down; nothing of it is queued. Args: jobs: that make the features of these lines, in order."""
    folder = workspace.features / f"patches_v{number:03d}"
    rows = list[Sequence[str | int]]()
    for job in jobs:
        place = f"{workspace.relative(folder)}/{job.job_id}"
        for patch in range(job.start, job.stop):
            line = lines[patch]
            height, width = line.size
            rows.append((patch, line.image, *line.window, line.mask, place, line.split, line.parent, width, height))
    data = written(_COLUMNS, rows)
    version = PatchVersion(number, setting, len(lines), hashlib.sha256(data).hexdigest(), folder, masks_root)
    workspace.make_folder(workspace.root / PATCHES_PLACE)
    workspace.make_folder(folder)
    workspace.files.publish(workspace.root / version.source, data)
    written_as = PATCHES_FORMAT if any(line.size == UNREAD for line in lines) else 1  # older versions read what they can
    facts: dict[str, Any] = {"format": written_as, **asdict(setting), "masks_root": masks_root}
    facts |= {"patches": len(lines), "sha256": version.sha256}
    # Last: where it stands, the lines stand too.
    workspace.files.publish(folder / PATCHES_FILE, seal(facts))
    return version
