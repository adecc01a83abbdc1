"""Every fault campaign at full size, then the mutants; the figures go into docs/reliability.md. Exits with 1 at any violation.

python -m tests.faults
"""

import argparse
import os
import platform
import re
import sys
import time
from importlib.metadata import version
from pathlib import Path

from headstart import __version__

from .mutation import heard
from .report import HEADER

ROOT = Path(__file__).resolve().parents[2]
PAGE = ROOT / "docs" / "reliability.md"
CAMPAIGNS = ("crowds", "zombies", "state_machine", "power_cuts", "system_calls", "kill_storm", "mutation")


def told(module: str, longest_s: float) -> tuple[int, str]:
    """Exit code and output of one campaign, which is also printed; it is ended after `longest_s`."""
    print(f"\npython -m tests.faults.{module}", flush=True)
    # The mutants end by themselves: they start processes that would outlive them.
    arguments = ["--minutes", str(longest_s / 60)] if module == "mutation" else []
    code, output = heard(["-m", f"tests.faults.{module}", *arguments], ROOT, longest_s + 60 * bool(arguments))
    print(output if code is not None else f"{output}\nended: the time is over", flush=True)
    return 1 if code is None else code, output


def tables(minutes: float) -> tuple[int, str]:
    """The worst exit code, and all figures as Markdown, after so many minutes at the latest."""
    begun = time.monotonic()
    outputs = {module: told(module, max(1.0, begun + 60 * minutes - time.monotonic())) for module in CAMPAIGNS}
    lines = [line for _, output in outputs.values() for line in output.splitlines()]
    rows = [line for line in lines if re.match(r"\| [a-z ]+ \| [\d,]+ \|", line)]
    mutants = [line for line in outputs["mutation"][1].splitlines() if line.startswith("|")]
    taken = (time.monotonic() - begun) / 60
    figures = [f"{conditions()}; {taken:.0f} minutes in all.", "\n".join([HEADER, *rows]), "\n".join(mutants)]
    is_whole = len(rows) == len(CAMPAIGNS) - 1
    return max(int(not is_whole), *(code for code, _ in outputs.values())), "\n\n".join(figures)


def conditions(workspaces: str = "") -> str:
    """Where and when the figures were measured. Args: workspaces: where these lay, if not where `scratch` puts them."""
    place = workspaces or ("in memory (tmpfs)" if os.access("/dev/shm", os.W_OK) else "on disk")
    when = time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime())
    cores = len(os.sched_getaffinity(0))
    libraries = ", ".join(f"{name} {version(name)}" for name in ("filelock", "hypothesis"))
    system = f"{platform.system()} {platform.release()}, {platform.machine()}, {cores} cores"
    return f"{when}: headstart {__version__}, Python {platform.python_version()}, {libraries}; {system}; workspaces {place}"


def write(figures: str, command: str = "make faults") -> None:
    """Puts what `command` measured into its place in docs/reliability.md."""
    page = PAGE.read_text(encoding="utf-8")
    pattern = rf"(?s)(<!-- figures: {command} -->\n).*?(<!-- end -->)"
    PAGE.write_text(re.sub(pattern, lambda match: f"{match[1]}{figures}\n{match[2]}", page), encoding="utf-8")


def write_table(header: str, rows: list[str], command: str, is_whole: bool, workspaces: str = "") -> None:
    """As `write`, of rows under `header`, each known by its first cell.

    Args:
        is_whole: False if there are others: those that stand there already are kept.
        workspaces: see `conditions`.
    """
    page = PAGE.read_text(encoding="utf-8")
    there = re.search(rf"(?s)<!-- figures: {command} -->\n(.*?)<!-- end -->", page)
    kept = there[1].splitlines() if there and not is_whole else []
    by_name = {row.split("|")[1]: row for row in [*(line for line in kept if line.startswith("|")), *rows]}
    body = [row for row in by_name.values() if row not in header.splitlines()]
    write("\n".join([f"{conditions(workspaces)}.\n", header, *body]), command)


def conclude(header: str, rows: list[str], said: str, violations: int, command: str, arguments: argparse.Namespace) -> int:
    """Prints how a campaign ended, writes its rows if that was asked for, and returns its exit status."""
    print(f"{said}, {violations} violations")
    if arguments.write:
        write_table(header, rows, command, is_whole=not arguments.only and arguments.share == (0, 1))
    return 1 if violations else 0


def add_share(parser: argparse.ArgumentParser) -> None:
    """`--share 2/3`: the second of three parts, for as many processes at once."""

    def share(text: str) -> tuple[int, int]:
        part, _, parts = text.partition("/")
        return int(part) - 1, int(parts)

    parser.add_argument("--share", type=share, default=(0, 1), help="K/N: part K of N of them")


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument(
        "--minutes", type=float, default=25, help="what has not ended by then is ended, and counts as a violation"
    )
    code, figures = tables(parser.parse_args().minutes)
    write(figures)
    print(f"{figures}\n\nwritten into {PAGE.relative_to(ROOT)}")
    return code


if __name__ == "__main__":
    sys.exit(main())
