"""Names of files that every system lets be: a folder made on one opens on the others."""

import hashlib
import re

_OTHERS = re.compile(r"[^A-Za-z0-9._-]")
_NOT_FIRST = re.compile(r"^[._-]+")
_RESERVED = re.compile(r"(?:con|prn|aux|nul|conin\$|conout\$|com\d|lpt\d)(?:\..*)?", re.IGNORECASE)  # devices of Windows
_LONGEST = 120  # of 255, with room for what a writer puts behind it


def is_portable(name: str) -> bool:
    """Whether it is of letters, digits, '.', '_' and '-', begins with one of the first two, ends in no dot and is no device."""
    return (
        0 < len(name) <= _LONGEST
        and not _OTHERS.search(name)
        and not _NOT_FIRST.match(name)
        and not name.endswith(".")
        and not _RESERVED.fullmatch(name)
    )


def portable_name(text: str) -> str:
    """The text itself where it is such a name; else one that is like it, and another one for each text."""
    if is_portable(text):
        return text
    like = _NOT_FIRST.sub("", _OTHERS.sub("_", text))[: _LONGEST - 9].rstrip(".")
    stem, dot, suffix = like.partition(".")  # a device is one whatever follows its first dot
    digest = hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:8]
    return f"{stem or 'file'}-{digest}{dot}{suffix}"
