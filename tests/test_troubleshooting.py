"""docs/troubleshooting.md is found by a message, so each message in it must be one that is said."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
ROOMS = ("commands", "experiments", "features", "jobs", "pipeline")
SHORTEST = 8  # letters of a part that is looked for


def messages():
    """Of each row the texts in its first column that are messages."""
    rows = re.findall(r"^\| (`.*?) \|", (ROOT / "docs" / "troubleshooting.md").read_text(), re.MULTILINE)
    return [message for row in rows for message in re.findall(r"`([^`]+)`", row) if " " in message]


@pytest.fixture(scope="module")
def said():
    """All source as one text, in which a literal that goes on in the next line is whole."""
    source = "\n".join(path.read_text() for room in ROOMS for path in sorted((ROOT / room).rglob("*.py")))
    return re.sub(r'"\s*\n\s*f?"', "", source)


@pytest.mark.parametrize("message", messages())
def test_a_message_in_troubleshooting_is_one_that_is_said(said, message):
    parts = [part.strip(" :") for part in re.split(r"\.\.\.", message)]
    looked_for = [part for part in parts if len(part) >= SHORTEST]
    assert looked_for, message
    assert [part for part in looked_for if part not in said] == []
