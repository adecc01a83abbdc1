"""Every fault campaign at full size, then the mutants; the figures go into docs/reliability.md. Exits with 1 at any violation.

python -m tests.faults
"""

import os
import platform
import re
import subprocess
import sys
import time
from importlib.metadata import version
from pathlib import Path

from headstart import __version__

from .report import HEADER

ROOT = Path(__file__).resolve().parents[2]
PAGE = ROOT / "docs" / "reliability.md"
CAMPAIGNS = ("kill_storm", "system_calls", "power_cuts", "zombies", "state_machine")
HUNG_S = 600.0


def heard(module: str) -> tuple[int, str]:
    """Exit code and output of one campaign, which is also shown while it runs."""
    command = [sys.executable, "-m", f"tests.faults.{module}"]
    print(f"\npython -m tests.faults.{module}", flush=True)
    process = subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, text=True, timeout=HUNG_S, check=False)
    print(process.stdout, flush=True)
    return process.returncode, process.stdout


def tables() -> tuple[int, str]:
    """The worst exit code, and all figures as Markdown."""
    begun = time.monotonic()
    told = [heard(module) for module in CAMPAIGNS]
    rows = [line for _, output in told for line in output.splitlines() if re.match(r"\| [a-z ]+ \| [\d,]+ \|", line)]
    code, mutants = heard("mutation")
    worst = max([code, *(code for code, _ in told), int(len(rows) != len(CAMPAIGNS))])
    minutes = (time.monotonic() - begun) / 60
    sections = [f"{conditions()}; {minutes:.0f} minutes in all.", "\n".join([HEADER, *rows]), mutants.strip()]
    return worst, "\n\n".join(sections)


def conditions() -> str:
    """Where and when the figures were measured."""
    memory = "in memory (tmpfs)" if os.access("/dev/shm", os.W_OK) else "on disk"
    when = time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime())
    cores = len(os.sched_getaffinity(0))
    libraries = ", ".join(f"{name} {version(name)}" for name in ("filelock", "hypothesis"))
    system = f"{platform.system()} {platform.release()}, {platform.machine()}, {cores} cores"
    return f"{when}: headstart {__version__}, Python {platform.python_version()}, {libraries}; {system}; workspaces {memory}"


def write(figures: str) -> None:
    page = PAGE.read_text(encoding="utf-8")
    pattern = r"(?s)(<!-- figures: make faults -->\n).*?(\n<!-- end -->)"
    PAGE.write_text(re.sub(pattern, lambda match: match[1] + figures + match[2], page), encoding="utf-8")


def main() -> int:
    code, figures = tables()
    write(figures)
    print(f"{figures}\n\nwritten into {PAGE.relative_to(ROOT)}")
    return code


if __name__ == "__main__":
    sys.exit(main())
