"""The folders of encoders in a workspace: which there are, which is meant, and their fingerprints. `status` asks: no numpy."""

from pathlib import Path

from headstart.pipeline import paths
from headstart.pipeline.doors.records import read_record
from headstart.pipeline.errors import HeadstartError
from headstart.pipeline.files import environment_faults
from headstart.pipeline.workspace import Workspace

SPEC_NAME = "encoder.json"
REPAIR = "Run the same enqueue again: it writes it anew and keeps all features"


def read_fingerprint(folder: Path) -> str:
    """What `encoder.json` says decides the features. Raises: HeadstartError if it is missing or damaged."""
    path = folder / SPEC_NAME
    try:
        with environment_faults(f"cannot read {path}"):
            return read_record(path, None, REPAIR).text("fingerprint")
    except FileNotFoundError:
        raise HeadstartError(f"{path} is missing. {REPAIR}") from None


def require_fingerprint(folder: Path, fingerprint: str) -> None:
    """Raises: HeadstartError unless that encoder is in `folder`."""
    there = read_fingerprint(folder)
    if there != fingerprint:
        raise HeadstartError(f"{folder} holds another encoder ({there[:16]}, expected {fingerprint[:16]}). {REPAIR}")


def encoder_folders(workspace: Workspace) -> list[Path]:
    """Folders of all encoders, by name."""
    return [path.parent for path in paths.matching(workspace.features, f"encoder_*/{SPEC_NAME}")]


def chosen_encoder(workspace: Workspace, asked: str | None) -> Path:
    """The folder that `asked` means: a path, a folder's name, or a model's name; None means the only one there is.

    Raises: HeadstartError that lists what there is.
    """
    folders = encoder_folders(workspace)
    if not folders:
        raise HeadstartError(f"{workspace.root} has no encoder yet. Make features: headstart enqueue DATA, then headstart work")
    names = [folder.name for folder in folders]
    if asked is None:
        if len(folders) > 1:
            raise HeadstartError(
                f"{workspace.root} has features of {len(folders)} encoders: {', '.join(names)}. Choose one: --encoder"
            )
        return folders[0]
    wanted = Path(asked).name
    matching = [folder for folder in folders if wanted in (folder.name, folder.name.removeprefix("encoder_"), _model(folder))]
    if len(matching) > 1:
        raise HeadstartError(f"--encoder {asked} may be {' or '.join(folder.name for folder in matching)}. Give the whole name")
    if not matching:
        import difflib  # not while `status` starts

        near = difflib.get_close_matches(wanted, [*names, *map(_model, folders)], 1)
        hint = f"did you mean {near[0]}?" if near else f"there are {', '.join(names)}"
        raise HeadstartError(f"--encoder {asked} has no features in {workspace.root}; {hint}")
    return matching[0]


def _model(folder: Path) -> str:
    return folder.name.removeprefix("encoder_").rpartition("-")[0]
