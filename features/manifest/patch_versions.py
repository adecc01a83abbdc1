"""Versions of patches: which there are, and what each was made for. `status` asks: no numpy.

A version never changes: another setting makes the next one, and so do images that came later, with their patches alone. Its lines
are `features/patches/patch_manifest.v001.csv` (see `patches`); results lie in `features/patches_v001/`, and `patches.json` beside
them says what the version is of, and the digest of its lines.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import re
from dataclasses import dataclass
from pathlib import Path

from headstart.pipeline import paths
from headstart.pipeline.doors.records import DamagedError, read_record
from headstart.pipeline.errors import HeadstartError
from headstart.pipeline.files import environment_faults
from headstart.pipeline.workspace import Workspace

PATCHES_FILE = "patches.json"
PATCHES_FORMAT = 2  # 1 lists no image that could not be read; a version without such images is still written as 1
PATCHES_PLACE = "features/patches"
_LARGEST = 2**31
_NUMBER = r"(\d{3}|[1-9]\d{3,5})"
_FOLDER = re.compile(rf"patches_v{_NUMBER}")
_SOURCE = re.compile(rf"{PATCHES_PLACE}/patch_manifest\.v{_NUMBER}\.csv")
_NAME = r"(?!\.)[^/\\\x00-\x1f]{1,255}"


@dataclass(frozen=True)
class PatchSetting:
    """What patches are of.

    Attributes:
        dataset: folder of it in `features/manifests`.
        encoder: folder of it in `features`, and its fingerprint.
        size: edge of a patch, in pixels of the image.
        overlap: of neighbours, in pixels.
        masks: where masks lie, as it was given; '' for nowhere.
    """

    dataset: str
    encoder: str
    fingerprint: str
    size: int
    overlap: int
    masks: str = ""

    @property
    def name(self) -> str:
        return f"patches of {self.size} that overlap by {self.overlap}"


@dataclass(frozen=True)
class PatchVersion:
    """One version, by its `patches.json`; its lines have not been read.

    Attributes:
        number: 1 for v001.
        patches: how many there are.
        sha256: of its lines, hex.
        folder: of the results.
        masks_root: the folder of masks that was given, absolute; '' if none or a column was.
    """

    number: int
    setting: PatchSetting
    patches: int
    sha256: str
    folder: Path
    masks_root: str = ""

    @property
    def name(self) -> str:
        return f"v{self.number:03d}"

    @property
    def source(self) -> str:
        """Of its jobs: the lines, relative to the workspace."""
        return f"{PATCHES_PLACE}/patch_manifest.{self.name}.csv"

    @property
    def remedy(self) -> str:
        return remedy_for(self.number)

    @property
    def fingerprint(self) -> str:
        """Digest of everything that decides the bytes of the results."""
        facts = [1, self.setting.fingerprint, self.setting.size, self.sha256]
        return hashlib.sha256(json.dumps(facts).encode()).hexdigest()


def list_versions(workspace: Workspace, is_strict: bool = False) -> list[PatchVersion]:
    """Those that there are, by number. One that is damaged is passed over: whoever works on it says so.

    Args: is_strict: it is not passed over, for whoever would else read less without a word.

    Raises: HeadstartError if `is_strict` and one is damaged or newer.
    """
    versions = []
    for folder in paths.folders(workspace.features, "patches_v*"):
        match = _FOLDER.fullmatch(folder.name)
        if match and int(match[1]):
            try:
                versions.append(read_version(workspace, int(match[1])))
            except HeadstartError:
                # Without that file it was killed before anything was queued, or is forgotten.
                if is_strict and paths.exists(folder / PATCHES_FILE):
                    raise
    return sorted(versions, key=lambda version: version.number)


def remedy_for(number: int) -> str:
    """What makes patches that are damaged anew."""
    return f"Make them anew: headstart remove patches patches_v{number:03d}, then the same enqueue again"


def next_number(root: Path) -> int:
    """Beyond everything that lies in the workspace at `root`, damaged or half written; 1 where there is none yet."""
    folders = paths.folders(root / "features", "patches_v*")
    taken = [int(match[1]) for folder in folders if (match := _FOLDER.fullmatch(folder.name))]
    place = root / PATCHES_PLACE
    names = paths.names(place) if paths.is_folder(place) else []
    taken += [int(match[1]) for name in names if (match := _SOURCE.fullmatch(f"{PATCHES_PLACE}/{name}"))]
    return max(taken, default=0) + 1


def version_of_source(workspace: Workspace, source: str) -> PatchVersion:
    """The version whose lines a job's source is. Raises: HeadstartError if it is none, or `patches.json` is damaged."""
    match = _SOURCE.fullmatch(source)
    if not match:
        raise HeadstartError(
            f"{source} are no patches, expected {PATCHES_PLACE}/patch_manifest.v001.csv. "
            "Delete the row of jobs_queue.csv that names it"
        )
    return read_version(workspace, int(match[1]))


def version_of_folder(workspace: Workspace, folder: str) -> PatchVersion:
    """The version whose results lie in `folder`, relative to the workspace. Raises as `version_of_source`."""
    match = _FOLDER.fullmatch(folder.removeprefix("features/"))
    if not match:
        raise HeadstartError(
            f"{folder} holds no patches, expected features/patches_v001. Delete the row of jobs_queue.csv that names it"
        )
    return read_version(workspace, int(match[1]))


def read_version(workspace: Workspace, number: int) -> PatchVersion:
    """Raises: HeadstartError if its `patches.json` is missing, damaged or newer."""
    folder = workspace.features / f"patches_v{number:03d}"
    path, remedy = folder / PATCHES_FILE, remedy_for(number)
    try:
        with environment_faults(f"cannot read {path}"):
            facts = read_record(path, PATCHES_FORMAT, remedy)
    except OSError as error:
        raise HeadstartError(f"{path} cannot be read ({error.strerror}). {remedy}") from None
    setting = PatchSetting(
        facts.text("dataset", _NAME),
        facts.text("encoder", _NAME),
        facts.text("fingerprint", r"[0-9a-f]{64}"),
        facts.integer("size", 1, _LARGEST),
        facts.integer("overlap", 0, _LARGEST),
        facts.text("masks"),
    )
    if setting.overlap >= setting.size:
        raise DamagedError(path, f"says {setting.name}", remedy)
    masks_root = facts.text("masks_root") if "masks_root" in facts else ""
    sha256 = facts.text("sha256", r"[0-9a-f]{64}")
    return PatchVersion(number, setting, facts.integer("patches", 1, _LARGEST), sha256, folder, masks_root)


def forget_version(version: PatchVersion) -> None:
    """One that was written down and never queued; its number is not given out again."""
    with contextlib.suppress(FileNotFoundError):
        paths.remove(version.folder / PATCHES_FILE)
