"""Reads labels and splits off a tree of folders, and asks for a flag where more than one reading makes sense."""

import posixpath
import sys
from collections import Counter, defaultdict
from collections.abc import Sequence, Set
from pathlib import Path

from headstart.pipeline.errors import HeadstartError
from headstart.pipeline.text import printable

from .image_table import ImageTable
from .parquet import PARQUET
from .source import Image, Layout, Source, SourceOptions, refuse_links
from .spellings import is_filler, one_form, refuse_two_spellings, sounds_like_masks, sounds_like_split, split_of, without_split
from .walk import ListedFile, ListedFiles, Walk, walk_images


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
    used = listed.files
    if layout != "flat" and not all("/" in path for path in used.paths):
        used = ListedFiles(file for file in used if "/" in file.path)
    images = _images(used, layout)
    if not options.keep_case:
        refuse_two_spellings(images.labels, lambda i: f"{shown}: {printable(images.paths[i])}")
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
            f"{shown} has split folders ('{printable(min(splits))}') beside other folders ('{other}'). Rename the "
            "latter train, val or test if they are splits, move one kind away, or pass a split folder alone: "
            f"{shown}/{printable(min(splits))}. --layout classes takes all of them for classes."
        )
    _refuse_half_labelled(shown, files)
    _refuse_one_filler_for_all(shown, files)
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


def _refuse_one_filler_for_all(shown: str, files: Sequence[ListedFile]) -> None:
    """`train/images/1.jpg` and `test/images/2.jpg` are not of a class `images`, and the masks beside them are no class."""
    names = {parts[1] for file in files if len(parts := file.path.split("/")) > 2}
    _refuse_masks(shown, names)
    if len(names) == 1 and is_filler(*names) and _class_level(files) == 1:
        only = printable(*names)
        raise HeadstartError(
            f"{shown} has all its images in folders called '{only}' below the splits, so that '{only}' would be the only class. "
            f"Pass --layout flat for no labels; the splits are kept. Otherwise call the folders by their class."
        )


def _class_level(files: Sequence[ListedFile]) -> int:
    """Below splits: 1 if the next folders are the classes, 2 if there is only one that says nothing (train/images/cat)."""
    between, below, is_deep = set[str](), set[str](), True
    for file in files:
        parts = file.path.split("/")
        between |= {parts[1]} if len(parts) > 2 else set()
        below |= {parts[2]} if len(parts) > 3 else set()
        is_deep = is_deep and len(parts) > 3
    return 2 if len(between) == 1 and is_filler(*between) and len(below) > 1 and is_deep else 1


def _refuse_masks(shown: str, names: Set[str]) -> None:
    masks = {name for name in names if sounds_like_masks(name)}
    if masks and names - masks and all(map(is_filler, names - masks)):
        raise HeadstartError(
            f"{shown} has folders whose names sound like images and masks of them ({', '.join(map(printable, sorted(names)))}). "
            "Move the masks to a place of their own, or pass --layout classes if the folders are classes."
        )


def _classes(shown: str, files: Sequence[ListedFile], folders: Counter[str]) -> Layout:
    deep = [file.path.split("/", 2) for file in files if file.path.count("/") >= 2]
    inner = {parts[1] for parts in deep}
    if len(folders) == 1:
        _refuse_buried(shown, files)
    _refuse_what_sounds_like_splits(shown, folders)
    _refuse_masks(shown, folders.keys())
    if len(folders) == 1 and len(inner) >= 2:
        only = printable(next(iter(folders)))
        raise HeadstartError(
            f"{shown} has one folder with images, '{only}', and that has {len(inner):,} folders with images. Did you mean "
            f"{shown}/{only}? Otherwise pass --layout classes for the single class '{only}', or --layout flat for no labels."
        )
    of_file = [split_of(parts[1]) for parts in deep]
    splits = len(of_file) - of_file.count(None)
    if splits == len(files) and len(set(of_file)) > 1:
        _refuse_classes_below_splits(shown, files)
        return "class_splits"
    in_class: dict[str, set[str]] = defaultdict(set)
    for parts, name in zip(deep, of_file, strict=True):
        in_class[parts[0]] |= {name} if name else set()
    with_splits = {name for name, its in in_class.items() if its}
    is_each = with_splits == folders.keys() and len(set().union(*in_class.values())) > 1
    if is_each or any(len(its) > 1 for its in in_class.values()):
        other = next(file.path for file in files if file.path.count("/") < 2 or split_of(file.path.split("/")[1]) is None)
        raise HeadstartError(
            f"{shown} has folders of splits in {'each class' if is_each else printable(min(with_splits))}, but "
            f"{len(files) - splits:,} images lie beside them, first: "
            f"{printable(other)}. Move those into a split's folder or away, or pass --layout classes to have splits drawn."
        )
    _refuse_same_folders_in_each(shown, files, folders)
    return "classes"


def _refuse_classes_below_splits(shown: str, files: Sequence[ListedFile]) -> None:
    """In `siteA/train/cat` and `siteB/test/cat` the class is hardly the site."""
    places: dict[str, set[str]] = defaultdict(set)
    for file in files:
        parts = file.path.split("/")
        if len(parts) > 3 and not is_filler(parts[2]):
            places[parts[2]].add(f"{parts[0]}/{parts[1]}")
    if len(places) > 1 and (again := min((name for name, its in places.items() if len(its) > 1), default="")):
        first = printable(min(file.path.split("/")[0] for file in files))
        raise HeadstartError(
            f"{shown} has folders of splits, and below them folders of the same names, such as '{printable(again)}' in "
            f"{' and '.join(map(printable, sorted(places[again])[:2]))}. If those are the classes, pass each outer folder alone: "
            f"{shown}/{first}. If '{first}' is a class, pass --layout classes to have splits drawn."
        )


def _refuse_same_folders_in_each(shown: str, files: Sequence[ListedFile], folders: Counter[str]) -> None:
    """Two or three folders, or numbered ones (`fold1`, `fold2`), that all hold `cat` and `dog` are hardly the classes."""
    inner: dict[str, set[str]] = {name: set() for name in folders}
    for file in files:
        parts = file.path.split("/")
        if len(parts) < 3:
            return
        inner[parts[0]].add(parts[1])
    stems = {name.rstrip("0123456789") for name in folders}
    common = set.intersection(*inner.values())
    if len(common) > 1 and (1 < len(folders) <= 3 or (len(stems) == 1 and stems != {""} and stems.isdisjoint(folders))):
        names, first = sorted(folders), printable(min(folders))
        raise HeadstartError(
            f"{shown} has {len(folders):,} folders ({', '.join(map(printable, names[:3]))}) that hold folders of the same names "
            f"({', '.join(map(printable, sorted(common)[:3]))}). If those are the classes, call the outer ones train, val and "
            f"test, or pass one alone: {shown}/{first}. If '{first}' is a class, pass --layout classes."
        )


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
    """All folders sound like splits, or two of them but for that alike: `seg_train`, `seg_test` beside `seg_pred`."""
    sounds = {name: sounds_like_split(name) for name in folders}
    train, held_out = ({without_split(name) for name, what in sounds.items() if what == one} for one in ("train", "held out"))
    if set(sounds.values()) == {"train", "held out"} or train & held_out:
        names = sorted(name for name, what in sounds.items() if what)
        others = sorted(name for name, what in sounds.items() if not what)
        beside = f"beside {', '.join(map(printable, others[:3]))}" if others else "and no other"
        raise HeadstartError(
            f"{shown} has folders whose names sound like splits ({', '.join(map(printable, names[:3]))}), {beside}. Rename "
            f"them train, val and test{', move the others away' if others else ''}, or pass --layout classes if they are classes."
        )


def _images(files: ListedFiles, layout: Layout) -> ImageTable:
    def folders(level: int) -> list[str]:
        """For each file the folder at that depth, '' where it lies less deep; equal ones are one object."""
        parts = (path.split("/", level + 1) for path in files.paths)
        return [sys.intern(part[level]) if len(part) > level + 1 else "" for part in parts]

    none = [""] * len(files)
    if layout == "classes":
        labels, splits = folders(0), none
    elif layout == "split_classes":
        labels, splits = folders(_class_level(files)), _splits(folders(0))
    elif layout == "class_splits":
        labels, splits = folders(0), _splits(folders(1))
    else:
        labels, splits = none, _splits(folders(0))
        if not all(splits):
            splits = none
    labels = list(map(sys.intern, one_form(labels)))
    return ImageTable(files.paths, labels, splits, none, files.sizes, files.mtimes)


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
    if layout == "split_classes" and _class_level(listed.files) == 2:
        notes.append(f"the folders '{printable(images[0].path.split('/')[1])}' below the splits are no class; those in them are")
    merged = {image.path.rpartition("/")[0] for image in images if layout == "classes" and image.path.count("/") > 1}
    if merged:
        notes.append(f"{len(merged):,} folders inside classes are part of their class, for example {printable(min(merged))}")
    if listed.repeated:
        notes.append(f"did not follow {listed.repeated:,} links to folders that were listed already or contain the link")
    given = {image.split for image in images} - {""}
    if layout == "split_classes" and len(given) == 1:
        notes.append(f"every image is given to '{given.pop()}'; pass the folder inside instead to have 70/15/15 drawn")
    return notes
