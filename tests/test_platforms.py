"""docs/platforms.md claims nothing that no test shows."""

import itertools
import re
from pathlib import Path

import pytest

from headstart.features.accelerators import DEVICE_KINDS
from tests.without_posix import FILES

ROOT = Path(__file__).parent.parent
LINES = (ROOT / "docs" / "platforms.md").read_text().splitlines()
ROWS = [
    [cell.strip() for cell in line.strip("| ").split(" | ")]
    for line, after in itertools.pairwise([*LINES, ""])
    if line.startswith("| ") and not after.startswith("|---")
]
CELLS = [(system, cell) for system, *cells in ROWS for cell in cells]


@pytest.mark.parametrize(("system", "cell"), CELLS)
def test_each_cell_says_how_it_is_known_and_names_tests_that_are_there(system, cell):
    word, tests = re.match(r"\w+", cell)[0], re.findall(r"`([^`]+)`", cell)
    assert word in ("shown", "simulated", "untried")
    assert bool(tests) is (word != "untried")
    assert all((ROOT / test).is_file() for test in tests)
    if (system, word) == ("Windows", "simulated"):
        assert set(tests) <= {*FILES, "tests/test_between_systems.py"}


def test_every_system_and_device_has_a_cell_for_each_column():
    assert {len(row) for row in ROWS} == {6}
    assert {kind for kind in DEVICE_KINDS if any(f"(`{kind}`)" in row[0] for row in ROWS)} == set(DEVICE_KINDS) - {"cpu"}
