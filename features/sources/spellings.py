"""When two spellings are one name: Unicode forms, labels that look alike, and the names that people give to split folders."""

import re
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from decimal import Decimal

from headstart.pipeline.errors import HeadstartError
from headstart.pipeline.text import printable

SPLITS = ("train", "val", "test")
# timm's synonyms for the names of split folders, and the two that it lacks.
_SYNONYMS = {
    "train": "train",
    "training": "train",
    "trn": "train",
    "val": "val",
    "valid": "val",
    "validation": "val",
    "dev": "val",
    "eval": "val",
    "evaluation": "val",
    "test": "test",
    "testing": "test",
    "tst": "test",
}
# What people put before or after: training_set, Train_Images, test-images, val2017, images_train.
_FILLERS = frozenset(
    {
        "set",
        "sets",
        "data",
        "dataset",
        "image",
        "images",
        "img",
        "imgs",
        "photo",
        "photos",
        "picture",
        "pictures",
        "split",
        "folder",
    }
)
_MASKS = frozenset({"mask", "masks", "label", "labels", "annotation", "annotations", "segmentation", "segmentations", "gt"})
_GLUED = re.compile(r"(?:data)?set|data|images?|imgs?|photos?|pictures?|split|folder")
_WORD = re.compile(r"[^\W\d_]+|\d+")
_YEAR = re.compile(r"(?:19|20)\d\d")
_TRAIN_INSIDE = re.compile(r"(?i:train|trn|\blabell?ed)|[a-z]Tr\b")
_HELD_OUT_INSIDE = re.compile(r"(?i:test|val(?:id|$|[^a-z])|tst|holdout|eval|unlabell?ed)|[a-z]Ts\b")
_WHOLE = re.compile(r"([+-]?)0*(\d+)(?:[.,]0*)?")
_SCIENTIFIC = re.compile(r"([+-]?\d+)(?:[.,](\d*))?e([+-]?\d{1,2})")  # as numpy.savetxt writes numbers
_BLANKS = re.compile(r"[\s_]+")


def nfc(name: str) -> str:
    """`name` with composed characters: what two names are compared in. It is stored as it was."""
    return name if name.isascii() else unicodedata.normalize("NFC", name)


def split_of(name: str) -> str | None:
    """'train', 'val' or 'test' if `name` plainly means one, as `training_set`, `Test-Images` and `val2017` do; else None."""
    words = [word for word in _WORD.findall(nfc(name).casefold()) if word not in _FILLERS and not _YEAR.fullmatch(word)]
    if len(words) == 2 and words[0].isdecimal() and len(words[0]) <= 2:  # 01_train, before 02_test
        words = words[1:]
    if len(words) != 1:
        return None
    [word] = words
    if word in _SYNONYMS:
        return _SYNONYMS[word]
    for synonym in sorted(_SYNONYMS, key=len, reverse=True):  # trainset, testimages
        if word.startswith(synonym) and _GLUED.fullmatch(word[len(synonym) :]):
            return _SYNONYMS[synonym]
    return None


def sounds_like_split(name: str) -> str | None:
    """'train' or 'held out' if a split's name is part of `name`, as in `cats_train`, `imagesTs` and `testA`; else None."""
    if _TRAIN_INSIDE.search(name):
        return "train"
    return "held out" if _HELD_OUT_INSIDE.search(name) else None


def without_split(name: str) -> str:
    """What is left of `name` without the part that sounds like a split's: `seg_train` and `seg_test` have it in common."""
    return _TRAIN_INSIDE.sub("", _HELD_OUT_INSIDE.sub("", name)).strip("_- .").casefold()


def is_filler(name: str) -> bool:
    """Whether `name` says only that images are in there, as `images` and `Image_Data` do."""
    words = _WORD.findall(nfc(name).casefold())
    return bool(words) and all(word in _FILLERS for word in words)


def sounds_like_masks(name: str) -> bool:
    """Whether `name` ends as people call the folder of what belongs to images: `masks`, `train_labels`."""
    words = _WORD.findall(nfc(name).casefold())
    return bool(words) and words[-1] in _MASKS


def label_key(label: str) -> str:
    """Equal for labels that hardly anybody means to be two: other case or width, blanks, `1.0`, `01` or `1e+00` beside `1`."""
    if not label.isascii():  # invisible marks, full-width letters, no-break spaces
        label = "".join(mark for mark in unicodedata.normalize("NFKC", label) if unicodedata.category(mark) != "Cf")
    key = _BLANKS.sub(" ", label.casefold()).strip()
    if scientific := _SCIENTIFIC.fullmatch(key):
        number, part, power = scientific.groups()
        key = format(Decimal(f"{number}.{part or 0}e{power}"), "f")
    whole = _WHOLE.fullmatch(key)
    if whole is None:
        return key
    return whole[2] if whole[1] != "-" or whole[2] == "0" else f"-{whole[2]}"


def refuse_two_spellings(labels: Sequence[str], where: Callable[[int], str]) -> None:
    """Raises HeadstartError if two labels have one `label_key`: names the rarer by `where(its first)`."""
    counts = Counter(labels)
    usual: dict[str, str] = {}
    for label, _ in sorted(counts.items(), key=lambda item: (-item[1], item[0])):
        other = usual.setdefault(label_key(label), label)
        if other != label:
            raise HeadstartError(
                f"{where(labels.index(label))} has label '{printable(label)}', but {counts[other]:,} other images have "
                f"'{printable(other)}'. Fix the label, or pass --keep-case."
            )


def one_form(labels: Sequence[str]) -> Sequence[str]:
    """The same labels, where those that differ by their Unicode form alone have become one: the more frequent form, else NFC."""
    if all(map(str.isascii, labels)):
        return labels
    forms: dict[str, Counter[str]] = defaultdict(Counter)
    for label, count in Counter(labels).items():
        forms[nfc(label)][label] = count
    usual = {key: max(counts, key=lambda form: (counts[form], form == key)) for key, counts in forms.items()}
    return [usual[nfc(label)] for label in labels]
