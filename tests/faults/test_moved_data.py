"""The campaign itself, short: `make identity` runs it in full."""

import subprocess
import sys

from tests.support import ROOT

SHORT = ("--story", "short", "--count", "10", "--seed", "5")


def test_photos_that_move_while_commands_are_killed_stay_the_same_photos():
    # In a process of its own: it forks, and here other tests may have left threads.
    command = [sys.executable, "-m", "tests.faults.moved_data", *SHORT]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=300, check=False)
    rows = [line for line in done.stdout.splitlines() if line.startswith("| moved data |")]
    assert done.returncode == 0, done.stdout + done.stderr
    assert int(rows[0].split("|")[2]) >= 5  # kills that met a living command
