"""Which column of a table is the path, the label, the split and the group: as the flags say, else by common names."""

import difflib

from headstart.pipeline.errors import HeadstartError

from .escaping import printable
from .listing import SourceOptions
from .tables import Table

_COMMON = {
    "path": "path paths filepath file_path filename file_name file image image_path image_file "
    "image_filename image_name img img_path",
    "label": "label labels class class_name classname target category category_name",
    "split": "split subset set partition",
    "group": "group group_id subject subject_id patient patient_id",
}


def find_roles(table: Table, options: SourceOptions) -> dict[str, str]:
    """Role to column; 'path' is always there. Raises: HeadstartError if a flag names no column or a choice is needed."""
    flags = {"path": options.path_col, "label": options.label_col, "split": options.split_col, "group": options.group_col}
    there = f"it has {', '.join(printable(name) for name in table.columns)}"
    roles: dict[str, str] = {}
    for role, flag in flags.items():
        if flag:
            if flag not in table.columns:
                near = difflib.get_close_matches(flag, table.columns, n=1, cutoff=0.5)
                hint = f"Did you mean --{role}-col {printable(near[0])}?" if near else f"Choose one with --{role}-col."
                raise HeadstartError(f"{table.name} has no column '{printable(flag)}' for --{role}-col; {there}. {hint}")
            roles[role] = flag
    for role, flag in flags.items():
        if flag is not None and (flag or role != "path"):
            continue
        names = [name for name in table.columns if _plain(name) in _COMMON[role].split() and name not in roles.values()]
        if len(names) > 1:
            none = "" if role == "path" else f", or none with --{role}-col ''"
            raise HeadstartError(
                f"{table.name} has {len(names)} columns that may be the {role}: {', '.join(map(printable, names))}. "
                f"Choose one with --{role}-col{none}."
            )
        if names:
            roles[role] = names[0]
    if "path" not in roles:
        raise HeadstartError(f"{table.name} has no column of file names: {there}. Name it with --path-col.")
    taken = list(roles.values())
    twice = next((name for name in taken if taken.count(name) > 1), None)
    if twice is not None:
        raise HeadstartError(
            f"{table.name}: column '{printable(twice)}' is asked for in two roles. Change one of the --*-col flags."
        )
    return {role: roles[role] for role in flags if role in roles}


def _plain(name: str) -> str:
    return name.strip().casefold().replace(" ", "_").replace("-", "_")
