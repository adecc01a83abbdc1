"""Writes docs/cli.md from the commands themselves: python -m tools.write_cli_docs. A test fails while it is stale."""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from pathlib import Path

import click

from headstart.cli import COMMANDS, group

PATH = Path(__file__).resolve().parent.parent / "docs" / "cli.md"
_HEAD = """# Commands

Written by `python -m tools.write_cli_docs` from the commands themselves; `headstart COMMAND --help` says the same.
`-w DIR` may stand before a command or behind it.
"""
_INTRODUCED = {"data": "Data", "running": "Running", "training": "Training", "seeing": "Seeing"}


def reference() -> str:
    """All commands in the order in which a newcomer needs them."""
    parts = [_HEAD, _contents()]
    for name in COMMANDS:
        command = group.get_command(click.Context(group), name)
        assert command is not None
        parts += _described(f"headstart {name}", command, 2)
    return "\n".join(parts).rstrip("\n") + "\n"


def _contents() -> str:
    lines = []
    for wing, title in _INTRODUCED.items():
        names = ", ".join(f"[{name}](#headstart-{name})" for name, its in COMMANDS.items() if its == wing)
        lines.append(f"- {title}: {names}")
    return "\n".join(lines) + "\n"


def _described(name: str, command: click.Command, level: int) -> Iterator[str]:
    yield f"{'#' * level} {name}\n"
    arguments = [parameter for parameter in command.params if isinstance(parameter, click.Argument)]
    usage = " ".join([name, *(["[OPTIONS]"] if len(command.params) > len(arguments) else []), *map(_argument, arguments)])
    if isinstance(command, click.Group):
        usage += " COMMAND"
    yield f"`{usage}`\n"
    yield _prose(command.help or "") + "\n"
    rows = [_row(parameter) for parameter in command.params if isinstance(parameter, click.Option) and not parameter.hidden]
    if rows:
        yield "| option | what |\n|---|---|\n" + "\n".join(rows) + "\n"
    if isinstance(command, click.Group):
        for its_name in sorted(command.commands):
            yield from _described(f"{name} {its_name}", command.commands[its_name], level + 1)


def _argument(argument: click.Argument) -> str:
    written = argument.metavar or (argument.name or "").upper()
    many = "..." if argument.nargs != 1 and not written.endswith("...") else ""
    return f"[{written}]{many}" if not argument.required and not written.startswith("[") else f"{written}{many}"


def _prose(text: str) -> str:
    r"""A docstring as Markdown: paragraphs on one line each, what stands below \b as it is."""
    paragraphs = []
    for paragraph in inspect.cleandoc(text).split("\n\n"):
        if paragraph.startswith("\b"):
            paragraphs.append("```\n" + paragraph.removeprefix("\b").strip("\n") + "\n```")
        else:
            paragraphs.append(" ".join(paragraph.split()).replace("<", "&lt;"))
    return "\n\n".join(paragraphs)


def _row(option: click.Option) -> str:
    names = ", ".join([*option.opts, *option.secondary_opts])
    value = "" if option.is_flag else " " + _value(option)
    text = " ".join((option.help or "").split())
    default = option.default
    if (
        option.show_default
        and isinstance(default, str | int | float)
        and not isinstance(default, bool)
        and "[default" not in text
    ):
        text += f" [default: {default}]"
    if option.required:
        text += " [required]"
    if option.multiple and "several times" not in text:
        text += " May be given several times."
    cells = (f"`{names}{value}`", text.strip().replace("<", "&lt;"))
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"


def _value(option: click.Option) -> str:
    if option.metavar:
        return option.metavar
    if isinstance(option.type, click.Choice):
        return "[" + "|".join(map(str, option.type.choices)) + "]"
    return {"integer": "N", "integer range": "N", "float": "X", "float range": "X", "path": "PATH"}.get(option.type.name, "TEXT")


if __name__ == "__main__":
    PATH.write_text(reference(), encoding="utf-8")
