"""Reads labels and splits off a tree of folders, and asks for a flag where more than one reading makes sense."""

import posixpath
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from headstart.pipeline.errors import HeadstartError
from headstart.pipeline.text import printable

from .parquet import PARQUET
from .source import Image, Layout, Source, SourceOptions, refuse_links, refuse_two_spellings
from .spellings import one_form, sounds_like_split, split_of
from .walk import ListedFile, Walk, walk_images


def folder_source(root: Path, options: SourceOptions) -> Source:
    """The images below `root`: CLASS/…, SPLIT/CLASS/…, CLASS/SPLIT/…, without labels, or in Parquet files.

    Raises: HeadstartError if there is none, if the layout is ambiguous, a link leaves the root or labels differ in case only.
    """
    shown = printable(str(root))
    listed = walk_images(root, options.allow_symlinks)
    refuse_links(listed.outside, root)
    if not listed.files and any(listed.ignored[suffix] for suffix in PARQUET):
        from .pictures import pictures_of_folder

        return pictures_of_folder(root, options)
    if not listed.files:
        raise HeadstartError(f"{shown} holds no image, but {_others(listed)}. Expected files such as .jpg or .png.")
    layout = _layout(shown, listed.files, options)
    used = [file for file in listed.files if "/" in file.path] if layout != "flat" else listed.files
    images = tuple(_images(used, layout))
    if not options.keep_case:
        refuse_two_spellings([image.label for image in images], lambda i: f"{shown}: {printable(images[i].path)}")
    loose = len(listed.files) - len(used)
    return Source(
        root=root,
        layout=layout,
        file=None,
        images=images,
        ignored=listed.ignored.total() + loose,
        unreadable=tuple(listed.unreadable),
        allow_symlinks=options.allow_symlinks,
        keep_case=options.keep_case,
        said_layout=options.layout,
        notes=tuple(_notes(listed, images, layout, loose)),
    )


def _layout(shown: str, files: Sequence[ListedFile], options: SourceOptions) -> Layout:
    loose = [file.path for file in files if "/" not in file.path]
    folders = Counter(file.path.split("/", 1)[0] for file in files if "/" in file.path)
    if options.layout == "flat":
        return "flat"
    if not folders:
        if options.layout == "classes":
            raise HeadstartError(f"{shown} has {len(loose):,} images but no class folder with images. Drop --layout classes.")
        return "flat"
    if options.layout == "classes":
        return "classes"
    if loose:
        raise HeadstartError(
            f"{shown} has {len(loose):,} images of its own (first: {printable(loose[0])}) and {len(folders):,} folders "
            f"with images (first: {printable(min(folders))}). Pass --layout flat for no labels, or --layout classes to leave "
            "the former out."
        )
    splits = [name for name in folders if split_of(name)]
    if not splits:
        return _classes(shown, files, folders)
    if len(splits) < len(folders):
        other = printable(min(folders.keys() - splits))
        raise HeadstartError(
            f"{shown} has split folders ('{printable(min(splits))}') beside other folders ('{other}'). Move one kind away, or "
            f"pass a split folder alone: {shown}/{printable(min(splits))}. --layout classes takes all of them for classes."
        )
    _refuse_half_labelled(shown, files)
    return "split_classes"


def _refuse_half_labelled(shown: str, files: Sequence[ListedFile]) -> None:
    """A split folder without any class folder is read without labels beside one that has some; anything else is asked."""
    direct = [file.path for file in files if file.path.count("/") < 2]
    if not direct:
        return
    flat = {path.split("/", 1)[0] for path in direct}
    classed = {file.path.split("/", 1)[0] for file in files if file.path.count("/") >= 2}
    where = f"{shown}: {len(direct):,} images lie in a split folder but in no class folder, first: {printable(direct[0])}."
    if not classed:
        raise HeadstartError(
            f"{where} Expected SPLIT/CLASS/IMAGE. Pass --layout flat for no labels, or --layout classes if the split folders are "
            "classes."
        )
    if flat & classed:
        raise HeadstartError(
            f"{where} Expected SPLIT/CLASS/IMAGE. Move them into a class folder or away, or pass a split folder alone: "
            f"{shown}/{printable(min(classed - flat or classed))}"
        )


def _classes(shown: str, files: Sequence[ListedFile], folders: Counter[str]) -> Layout:
    deep = [file.path.split("/", 2) for file in files if file.path.count("/") >= 2]
    inner = {parts[1] for parts in deep}
    if len(folders) == 1:
        _refuse_buried(shown, files)
    _refuse_what_sounds_like_splits(shown, folders)
    if len(folders) == 1 and len(inner) >= 2 and not all(map(split_of, inner)):
        only = printable(next(iter(folders)))
        raise HeadstartError(
            f"{shown} has one folder with images, '{only}', and that has {len(inner):,} folders with images. Did you mean "
            f"{shown}/{only}? Otherwise pass --layout classes for the single class '{only}', or --layout flat for no labels."
        )
    splits = sum(split_of(parts[1]) is not None for parts in deep)
    if splits == len(files) and len({split_of(name) for name in inner}) > 1:
        return "class_splits"
    with_splits = {parts[0] for parts in deep if split_of(parts[1])}
    if len({split_of(name) for name in inner} - {None}) > 1 and with_splits == folders.keys():
        other = next(file.path for file in files if file.path.count("/") < 2 or split_of(file.path.split("/")[1]) is None)
        raise HeadstartError(
            f"{shown} has folders of splits in each class, but {len(files) - splits:,} images lie beside them, first: "
            f"{printable(other)}. Move those into a split's folder or away, or pass --layout classes to have splits drawn."
        )
    return "classes"


def _refuse_buried(shown: str, files: Sequence[ListedFile]) -> None:
    """Several folders below a chain of single ones (`x/y/z/cats`, `x/y/z/dogs`) are hardly one class `x`."""
    common = posixpath.commonpath([posixpath.dirname(file.path) for file in files])
    depth = common.count("/") + 1
    below = {file.path.split("/")[depth] for file in files if file.path.count("/") > depth}
    if depth >= 2 and len(below) >= 2 and all(file.path.count("/") > depth for file in files):
        only = printable(common.split("/")[0])
        raise HeadstartError(
            f"{shown} has all its images below {printable(common)}, in {len(below):,} folders. Did you mean "
            f"{shown}/{printable(common)}? Otherwise pass --layout classes for the single class '{only}', or --layout flat for "
            "no labels."
        )


def _refuse_what_sounds_like_splits(shown: str, folders: Counter[str]) -> None:
    sounds = {name: sounds_like_split(name) for name in folders}
    if set(sounds.values()) == {"train", "held out"}:
        names = sorted(folders)
        raise HeadstartError(
            f"{shown} has folders whose names sound like splits ({', '.join(map(printable, names[:3]))}), and no other. Rename "
            "them train, val and test, or pass --layout classes if they are classes."
        )


def _images(files: Sequence[ListedFile], layout: Layout) -> list[Image]:
    parts = [file.path.split("/", 2) for file in files]
    if layout == "classes":
        labels, splits = [part[0] for part in parts], [""] * len(files)
    elif layout == "split_classes":
        labels, splits = [part[1] if len(part) > 2 else "" for part in parts], _splits([part[0] for part in parts])
    elif layout == "class_splits":
        labels, splits = [part[0] for part in parts], _splits([part[1] for part in parts])
    else:
        labels, splits = [""] * len(files), _splits([part[0] if len(part) > 1 else "" for part in parts])
        if not all(splits):
            splits = [""] * len(files)
    return [
        Image(file.path, label, split, "", file.size, file.mtime_ns)
        for file, label, split in zip(files, one_form(labels), splits, strict=True)
    ]


def _splits(names: Sequence[str]) -> list[str]:
    meant = {name: split_of(name) or "" for name in set(names)}
    return [meant[name] for name in names]


def _others(listed: Walk) -> str:
    kinds = ", ".join(f"{printable(kind)} {count:,}" for kind, count in listed.ignored.most_common(4))
    others = f"{listed.ignored.total():,} other entries ({kinds})" if kinds else "nothing else"
    return f"{others} in {listed.folders:,} folder{'s' if listed.folders > 1 else ''}"


def _notes(listed: Walk, images: Sequence[Image], layout: Layout, loose: int) -> list[str]:
    notes = []
    if listed.ignored:
        kinds = ", ".join(f"{printable(kind)} {count:,}" for kind, count in listed.ignored.most_common(4))
        notes.append(f"left out {listed.ignored.total():,} entries that are no images by their names: {kinds}")
    if loose:
        notes.append(f"left out {loose:,} images that lie in no class folder (--layout classes)")
    if listed.unreadable:
        more = f" and {len(listed.unreadable) - 3} more" if len(listed.unreadable) > 3 else ""
        notes.append(f"passed over folders that may not be listed: {', '.join(map(printable, listed.unreadable[:3]))}{more}")
    if layout == "split_classes" and (without := sum(not image.label for image in images)):
        names = sorted({image.path.split("/", 1)[0] for image in images if not image.label})
        notes.append(f"{without:,} images of {', '.join(map(printable, names))} lie in no class folder and have no label")
    merged = {image.path.rpartition("/")[0] for image in images if layout == "classes" and image.path.count("/") > 1}
    if merged:
        notes.append(f"{len(merged):,} folders inside classes are part of their class, for example {printable(min(merged))}")
    if listed.repeated:
        notes.append(f"did not follow {listed.repeated:,} links to folders that were listed already or contain the link")
    given = {image.split for image in images} - {""}
    if layout == "split_classes" and len(given) == 1:
        notes.append(f"every image is given to '{given.pop()}'; pass the folder inside instead to have 70/15/15 drawn")
    return notes
