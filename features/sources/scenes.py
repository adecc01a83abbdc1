"""Which images belong together: by their folders where that is said, by their names as a guess that is only told."""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import replace
from pathlib import PurePosixPath

from headstart.pipeline.errors import HeadstartError
from headstart.pipeline.text import plural, printable

from .image_table import table_of
from .source import Image, Source, SourceOptions

GROUP_BY = "group_by"  # a role of a data set; its value begins with '/', as no column does
DEEPEST, NONE = "folder", "none"
_SHARE = 0.5  # of the images that must have a sister before names are taken for those of scenes
# IMG_0001_a, clip-03_000120, seq1.frame.17: what names a scene, and what tells its images apart.
_FRAME = re.compile(r"(?P<scene>.*\d.*?)[ ._-]+(?:frame|img|image|shot|burst|crop|view)?[ ._-]*(?:\d{1,9}|[A-Za-z])")


def grouped(source: Source, options: SourceOptions) -> Source:
    """`source` with groups by folders if `options` say so, or said so when the data set was read before.

    Raises: HeadstartError if groups are given already, an image lies less deep, or a group would be a whole class.
    """
    said = options.group_by or dict(options.remembered).get(GROUP_BY, "").removeprefix("/")
    if not said or said == NONE:
        return source
    if source.layout in ("hdf5", "parquet"):
        raise HeadstartError(f"--group-by {said} is for files in folders, and these images lie in one file. Use --group-col")
    if options.group_col or "group" in dict(source.roles):
        raise HeadstartError(f"--group-by {said} and a group column each say what belongs together; pass --group-col '' or none")
    images = tuple(image._replace(group=_folder_of(image.path, said)) for image in source.images)
    labels: dict[str, set[str]] = defaultdict(set)
    groups: dict[str, set[str]] = defaultdict(set)
    for image in images:
        labels[image.group].add(image.label)
        groups[image.label].add(image.group)
    whole = next((label for label in groups if label and len(groups[label]) == 1 and len(groups) > 1), None)
    if whole is not None and all(len(each) == 1 for each in labels.values()):
        raise HeadstartError(
            f"--group-by {said} makes one group of the class '{printable(whole)}', which no split could share. Name a depth at "
            "which a class has several folders, such as --group-by 2 for CLASS/SITE"
        )
    return replace(source, images=images, roles=(*source.roles, (GROUP_BY, f"/{said}")))


def _folder_of(path: str, said: str) -> str:
    folders = PurePosixPath(path).parts[:-1]
    if said == DEEPEST:
        depth = len(folders)
    elif said.isdecimal() and int(said) > 0:
        depth = int(said)
    else:
        raise HeadstartError(f"--group-by is '{printable(said)}', expected folder (the deepest), a depth such as 2, or none")
    if not 0 < depth <= len(folders):
        raise HeadstartError(
            f"--group-by {said}: {printable(path)} lies in {plural(len(folders), 'folder')} below the data. Name another depth"
        )
    return "/".join(folders[:depth])


def scenes_of(paths: Sequence[str], labels: Sequence[str]) -> list[str]:
    """For each path the scene that its name speaks of, '' for none; all '' where names do not look like those of scenes.

    They do if at least half of the images have a sister, in more than one scene, and scenes are not just the classes.
    """
    found = [_scene(path) for path in paths]
    sizes = Counter(scene for scene in found if scene)
    scenes = {scene for scene, size in sizes.items() if size > 1}
    shared = [scene if scene in scenes else "" for scene in found]
    of_label: dict[str, set[str]] = defaultdict(set)
    for scene, label in zip(shared, labels, strict=True):
        if scene:
            of_label[label].add(scene)
    are_classes = all(len(each) == 1 for each in of_label.values()) and len(of_label) > 1
    if len(scenes) < 2 or sum(scene != "" for scene in shared) < _SHARE * len(paths) or are_classes:
        return [""] * len(paths)
    return shared


def _scene(path: str) -> str:
    # Not by pathlib, which keeps each part of each path.
    folder, _, name = path.rpartition("/")
    match = _FRAME.fullmatch(name[:dot] if 0 < (dot := name.rfind(".")) < len(name) - 1 else name)
    return f"{folder}/{match['scene']}" if match else ""


def scenes_note(images: Sequence[Image]) -> str | None:
    """What to say where names look like bursts or frames and nothing says what belongs together."""
    table = table_of(images)
    if any(table.groups):
        return None
    scenes = scenes_of(table.paths, table.labels)
    first = next((scene for scene in scenes if scene), None)
    if first is None:
        return None
    names = [path.rpartition("/")[2] for path, scene in zip(table.paths, scenes, strict=True) if scene == first][:2]
    return (
        f"file names look like bursts or frames of {plural(len(set(scenes) - {''}), 'scene')} "
        f"({', '.join(map(printable, names))}): where one scene is in train and in test, the score flatters. "
        "Keep scenes whole: --group-col COLUMN of a table, or --group-by folder where each has a folder"
    )
