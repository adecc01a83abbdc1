"""Reads labels and splits off a tree of folders, and asks for a flag where more than one reading makes sense."""

from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from headstart.pipeline.errors import HeadstartError
from headstart.pipeline.text import printable

from .source import Image, Layout, Source, SourceOptions, refuse_links, refuse_two_spellings, split_of
from .walk import Found, Walk, walk


def folder_source(root: Path, options: SourceOptions) -> Source:
    """The images below `root`: CLASS/…, SPLIT/CLASS/…, or without labels.

    Raises: HeadstartError if there is none, if the layout is ambiguous, a link leaves the root or labels differ in case only.
    """
    shown = printable(str(root))
    listed = walk(root, options.allow_symlinks)
    refuse_links(listed.outside, root)
    if not listed.found:
        raise HeadstartError(f"{shown} holds no image, but {_others(listed)}. Expected files such as .jpg or .png.")
    layout = _layout(shown, listed.found, options)
    used = [found for found in listed.found if "/" in found.path] if layout != "flat" else listed.found
    images = tuple(_images(used, layout))
    if not options.keep_case:
        refuse_two_spellings([image.label for image in images], lambda i: f"{shown}: {printable(images[i].path)}")
    loose = len(listed.found) - len(used)
    return Source(
        root=root,
        layout=layout,
        file=None,
        images=images,
        ignored=listed.ignored.total() + loose,
        allow_symlinks=options.allow_symlinks,
        notes=tuple(_notes(listed, images, layout, loose)),
    )


def _layout(shown: str, found: Sequence[Found], options: SourceOptions) -> Layout:
    loose = [item.path for item in found if "/" not in item.path]
    folders = Counter(item.path.split("/", 1)[0] for item in found if "/" in item.path)
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
        return _classes(shown, found, folders)
    if len(splits) < len(folders):
        other = printable(min(folders.keys() - splits))
        raise HeadstartError(
            f"{shown} has split folders ('{printable(min(splits))}') beside other folders ('{other}'). "
            "Move one kind away, or pass --layout classes if all are classes."
        )
    direct = [item.path for item in found if item.path.count("/") < 2]
    if direct:
        raise HeadstartError(
            f"{shown}: {len(direct):,} images lie in a split folder but in no class folder, first: {printable(direct[0])}. "
            "Expected SPLIT/CLASS/IMAGE. Pass --layout flat for no labels, or --layout classes if the split folders are classes."
        )
    return "split_classes"


def _classes(shown: str, found: Sequence[Found], folders: Counter[str]) -> Layout:
    inner = {item.path.split("/")[1] for item in found if item.path.count("/") >= 2}
    if len(folders) == 1 and len(inner) >= 2:
        only = printable(next(iter(folders)))
        raise HeadstartError(
            f"{shown} has one folder with images, '{only}', and that has {len(inner):,} folders with images. Did you mean "
            f"{shown}/{only}? Otherwise pass --layout classes for the single class '{only}', or --layout flat for no labels."
        )
    return "classes"


def _images(found: Sequence[Found], layout: Layout) -> list[Image]:
    if layout == "classes":
        return [Image(item.path, item.path.split("/", 1)[0], "", "", item.size, item.mtime_ns) for item in found]
    if layout == "split_classes":
        parts = [item.path.split("/", 2) for item in found]
        splits = {part[0]: split_of(part[0]) or "" for part in parts}
        return [Image(item.path, p[1], splits[p[0]], "", item.size, item.mtime_ns) for item, p in zip(found, parts, strict=True)]
    first = [item.path.split("/", 1)[0] if "/" in item.path else "" for item in found]
    splits = {name: split_of(name) or "" for name in first}
    if not all(splits.values()):
        splits = dict.fromkeys(splits, "")
    return [Image(item.path, "", splits[name], "", item.size, item.mtime_ns) for item, name in zip(found, first, strict=True)]


def _others(listed: Walk) -> str:
    kinds = ", ".join(f"{printable(kind)} {count:,}" for kind, count in listed.ignored.most_common(4))
    found = f"{listed.ignored.total():,} other entries ({kinds})" if kinds else "nothing else"
    return f"{found} in {listed.folders:,} folder{'s' if listed.folders > 1 else ''}"


def _notes(listed: Walk, images: Sequence[Image], layout: Layout, loose: int) -> list[str]:
    notes = []
    if listed.ignored:
        kinds = ", ".join(f"{printable(kind)} {count:,}" for kind, count in listed.ignored.most_common(4))
        notes.append(f"left out {listed.ignored.total():,} entries that are no images by their names: {kinds}")
    if loose:
        notes.append(f"left out {loose:,} images that lie in no class folder (--layout classes)")
    if listed.repeated:
        notes.append(f"did not follow {listed.repeated:,} links to folders that were listed already or contain the link")
    given = {image.split for image in images} - {""}
    if layout == "split_classes" and len(given) == 1:
        notes.append(f"every image is given to '{given.pop()}'; pass the folder inside instead to have 70/15/15 drawn")
    return notes
