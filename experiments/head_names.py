"""Which names a head may have: its file is called so."""

import re

from headstart.pipeline.errors import HeadstartError

from .configurations import HeadConfig

_HEAD = re.compile(r"[A-Za-z0-9][A-Za-z0-9._+-]{0,99}")
_RESERVED = ("best_head", "best", "final")


def refuse_bad_head_names(heads: tuple[HeadConfig, ...]) -> None:
    """Raises: HeadstartError if a head's file could not carry its name."""
    flaw = flaw_of_head_names(heads)
    if flaw:
        raise HeadstartError(f"{flaw}. Give it another name")


def flaw_of_head_names(heads: tuple[HeadConfig, ...]) -> str | None:
    """Why the files of these heads could not carry their names, None if they can."""
    taken: dict[str, str] = {}
    for head in heads:
        if not _HEAD.fullmatch(head.name) or head.name.casefold() in _RESERVED or head.name.startswith("step_"):
            return (
                f"a head is named {head.name!r}, expected up to 100 letters, digits, '.', '_', '+' or '-' (its file's name; "
                f"{', '.join(_RESERVED)}, step_... are taken)"
            )
        other = taken.setdefault(head.name.casefold(), head.name)
        if other != head.name:
            return f"heads '{other}' and '{head.name}' differ only in case, and so would their files not everywhere"
    return None
