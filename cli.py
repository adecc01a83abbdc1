"""The command line: `python cli.py COMMAND` in a checkout, `headstart COMMAND` after an install."""

from __future__ import annotations

import _signal as interrupts  # type: ignore[import-not-found]  # `signal` itself would first import enum, for a tenth of the start
import os

if __name__ == "__main__" and interrupts.getsignal(interrupts.SIGINT) is interrupts.default_int_handler:
    # ^C while the rest is imported, which is most of the start, would end in a traceback of the interpreter.
    interrupts.signal(interrupts.SIGINT, lambda number, frame: os._exit(128 + number))

import contextlib
import io
import sys
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING

import click

from headstart import __version__
from headstart.commands.output.terminal import say
from headstart.pipeline.doors.python import forget_current_folder
from headstart.pipeline.errors import ExplainedError, as_explained
from headstart.pipeline.text import Screen

if TYPE_CHECKING:
    from headstart.pipeline.supervisor import Supervision

# In the order in which a newcomer needs them, each with the wing of `commands` that holds it.
COMMANDS = {
    "demo": "running",
    "plan": "running",
    "ingest": "data",
    "enqueue": "data",
    "work": "running",
    "launch": "running",
    "status": "running",
    "watch": "seeing",
    "doctor": "running",
    "train-head": "training",
    "train": "training",
    "make": "running",
    "runs": "seeing",
    "evaluate": "seeing",
    "predict": "seeing",
    "sample": "seeing",
    "export": "seeing",
    "export-features": "seeing",
    "rank": "seeing",
    "report": "seeing",
    "audit": "seeing",
    "pause": "running",
    "allow": "running",
    "retry": "running",
    "verify": "running",
    "data": "data",
    "clean": "data",
    "sync": "data",
    "fetch": "data",
    "remove": "data",
}


_RESTARTED = "HEADSTART_RESTARTED"
# ^C ends these wherever they are, in a decoder or a graph, too: what they write appears whole or not at all.
_AT_ONCE = ("status", "runs", "evaluate", "predict", "sample", "rank", "export", "report", "audit")


class _Commands(click.Group):
    """Imports a command's module when that command is asked for, not before."""

    def list_commands(self, context: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, context: click.Context, name: str) -> click.Command | None:
        if name not in COMMANDS:
            return None
        command = import_module(f"headstart.commands.{COMMANDS[name]}.{name.replace('-', '_')}").command
        assert isinstance(command, click.Command)
        return command


@click.group(cls=_Commands, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
@click.version_option(__version__, prog_name="headstart")
@click.option("-w", "--workspace", metavar="DIR", help="For whichever command follows; may stand behind it, too.")
@click.pass_context
def group(context: click.Context, workspace: str | None) -> None:
    """Image features and small heads as resumable micro-jobs: kill it anywhere, start it again, it goes on.

    \b
    headstart enqueue photos/          split the images into jobs
    headstart work                     do the jobs; from a shell, cron or a loop, several at once
    headstart status                   see where it stands
    headstart train-head --ablation    train heads on the features that are there
    headstart predict new/             say what the best of them sees in other images
    """
    named = context.invoked_subcommand or ""
    command = group.get_command(context, named)
    if workspace is not None and command is not None and all(parameter.name != "workspace" for parameter in command.params):
        raise click.UsageError(f"{named} makes a workspace of its own: leave -w out")


def main() -> None:
    """Does what the command line says, and ends the process."""
    status = exit_status()
    try:
        if sys.stderr is not None:
            sys.stderr.flush()
    except OSError:
        sys.stderr = None  # else the interpreter tries again at its end, and exits with 120
    if "torch" in sys.modules:
        _end(status)
    sys.exit(status)


def exit_status() -> int:
    """Does what the command line says, in a process that goes on."""
    _spell_every_name()
    forget_current_folder()
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(AttributeError):  # a path may hold bytes that no terminal can print
            stream.reconfigure(errors="backslashreplace")  # type: ignore[union-attr]
    sys.stdout, sys.stderr = (Screen(stream) if stream is not None else None for stream in (sys.stdout, sys.stderr))
    arguments = sys.argv[1:]
    if _command(arguments) in _AT_ONCE and interrupts.getsignal(interrupts.SIGINT) != interrupts.SIG_IGN:
        interrupts.signal(interrupts.SIGINT, interrupts.SIG_DFL)
    return _supervised() if _is_work(arguments) else _run()


def _end(status: int) -> None:
    """What the interpreter does at its end, except to take all that torch is made of apart: that takes up to half a second.

    Returns where the interpreter has an error to tell.
    """
    import atexit
    import threading

    try:
        threading._shutdown()  # type: ignore[attr-defined]  # waits for threads
        atexit._run_exitfuncs()
        for stream in (sys.stdout, sys.stderr):
            if stream is not None:
                stream.flush()
    except (OSError, ValueError, KeyboardInterrupt):
        return
    os._exit(status)


def _spell_every_name() -> None:
    """Starts again in Python's UTF-8 mode where the locale's encoding cannot spell every name: no image is to blame for that."""
    if os.name == "posix" and sys.getfilesystemencoding() != "utf-8" and _RESTARTED not in os.environ:
        os.environ.update({"PYTHONUTF8": "1", _RESTARTED: "1"})
        os.execv(sys.executable, [sys.executable, "-X", "utf8", *sys.orig_argv[1:]])  # noqa: S606 - itself


def _command(arguments: list[str]) -> str:
    """Which command will run, '' if help is asked for. Nothing is parsed yet, for a worker's parent has to stay small."""
    if "--help" in arguments or "-h" in arguments:
        return ""
    words = iter(arguments)
    for word in words:
        if word in ("-w", "--workspace"):
            next(words, None)
        elif not word.startswith("-"):
            return word
    return ""


def _is_work(arguments: list[str]) -> bool:
    return _command(arguments) == "work"


def _supervised() -> int:
    from headstart.pipeline.supervisor import supervised

    return supervised(_run)


def _run(supervision: Supervision | None = None) -> int:
    try:
        result = group.main(prog_name="headstart", standalone_mode=False, obj=supervision)
        return result if isinstance(result, int) else 0
    except click.ClickException as error:
        shown = io.StringIO()
        error.show(shown)
        for line in shown.getvalue().rstrip("\n").split("\n"):
            say(line)
        return error.exit_code
    except (click.Abort, KeyboardInterrupt):
        return 130
    except BrokenPipeError:
        # The reader left (`headstart status | head`); a second failure at interpreter exit would print a traceback.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except Exception as error:
        return _explained(error)


def _explained(error: Exception) -> int:
    """Says on one line what went wrong; returns the exit code."""
    known: Exception | None = as_explained(error)
    if isinstance(known, ExplainedError):
        say(f"error: {known}")
        return known.exit_code
    say(f"bug: {type(error).__name__}: {error}")
    try:
        say(f"The traceback is in {_log()}. Please report it.")
    except OSError as fault:
        say(f"The traceback could not be kept ({fault.strerror}); run it again with TMPDIR set to a folder that has room")
    return 3


def _log() -> Path:
    import tempfile
    import traceback

    descriptor, name = tempfile.mkstemp(prefix="headstart-bug-", suffix=".log")
    with os.fdopen(descriptor, "w", errors="backslashreplace") as file:
        file.write(f"headstart {__version__}, Python {sys.version}\n{' '.join(sys.argv)}\n\n{traceback.format_exc()}")
    return Path(name)


if __name__ == "__main__":
    if interrupts.getsignal(interrupts.SIGINT) != interrupts.SIG_IGN:
        interrupts.signal(interrupts.SIGINT, interrupts.default_int_handler)
    main()
