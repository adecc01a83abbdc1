"""`headstart export-features` as one call: features in the format of another program, whole or not at all."""

from __future__ import annotations

import pkgutil
from dataclasses import dataclass
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from headstart.features.encoders.folder import chosen_encoder
from headstart.features.store.packing import open_cache
from headstart.pipeline import paths
from headstart.pipeline.errors import HeadstartError
from headstart.pipeline.files import TEMPORARY_PREFIX, FileSystem
from headstart.pipeline.text import printable
from headstart.pipeline.workspace import Workspace, as_workspace

from . import formats
from .table import FeatureTable


@dataclass(frozen=True)
class ExportedFeatures:
    """Attributes:
    path: file or folder. images: that it holds. bytes: of all its files.
    """

    path: Path
    images: int
    bytes: int


def known_formats() -> list[str]:
    """Names for `--format`: the modules in `formats/`, a dash for each underscore."""
    return sorted(module.name.replace("_", "-") for module in pkgutil.iter_modules(formats.__path__))


def export_features(
    form: str, target: Path | None = None, workspace: Workspace | Path | str | None = None, encoder: str | None = None
) -> ExportedFeatures:
    """Writes the features of all images that have some, and that were not retired.

    Args:
        form: one of `known_formats`. target: a file, or a folder for formats of several files, that is not there yet; None: named
            after the encoder, where the command runs.
        workspace: a folder; None is the one that every command would take, see `find_root`.
        encoder: its folder or model; None where there is only one.

    Raises: HeadstartError if there are no features, the format needs a package that is not installed, or `target` is there.
    """
    if form not in known_formats():
        raise HeadstartError(f"there is no format {printable(form)!r}; there are: {', '.join(known_formats())}")
    chosen: Any = import_module(f"{formats.__name__}.{form.replace('-', '_')}")
    package, extra = chosen.NEEDS
    if find_spec(package) is None:
        raise HeadstartError(f"--format {form} needs a package: pip install 'headstart[{extra}]'")
    folder = chosen_encoder(as_workspace(workspace), encoder)
    target = target if target is not None else Path(f"{folder.name}-{form}" if chosen.IS_FOLDER else folder.name + chosen.SUFFIX)
    place = target.absolute()
    if paths.exists(place):
        raise HeadstartError(f"{printable(str(target))} is there already. Remove it, or name another one with -o")
    if not place.parent.is_dir():
        raise HeadstartError(f"there is no folder {printable(str(place.parent))}. Make it first, or name another place with -o")
    table = FeatureTable(open_cache(folder))
    written = chosen.files(table)
    files = FileSystem(hard_links=False)
    if not chosen.IS_FOLDER:
        [data] = written.values()
        files.replace(place, data)
    else:
        unfinished = place.with_name(f"{TEMPORARY_PREFIX}{place.name}")
        if paths.exists(unfinished):  # of one that was killed
            paths.remove_tree(unfinished)
        files.make_folder(unfinished)
        for name, data in written.items():
            files.replace(unfinished / name, data)
        paths.rename(unfinished, place)
        files.sync_folder(place.parent)
    return ExportedFeatures(target, len(table), sum(map(len, written.values())))
