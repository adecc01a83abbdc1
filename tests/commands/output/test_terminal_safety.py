"""What a name that came with the data may do to a terminal: nothing."""

import tempfile

import pytest

from headstart.commands.running import status
from headstart.pipeline.kinds import load_kind
from headstart.pipeline.markers import FailedItem, Result, commit
from headstart.pipeline.text import printable
from tests.commands.calling import call
from tests.support import enqueue_fakes

EVIL = "\x1b]0;x\a\x1b[2J\x9b2J\r\njob_000009  quarantined: forged\u2028.jpg"


def acts(text):
    """Whether a terminal would do anything but show `text` line by line."""
    return any(not character.isprintable() for character in text.replace("\n", ""))


@pytest.fixture
def harmed(workspace):
    """A job with an item that failed, and one that was given up, both because of a file with an evil name."""
    done, given_up = enqueue_fakes(workspace, 20)
    failed = FailedItem(3, EVIL, "bad", f"cannot read {EVIL}")
    commit(workspace, done, "fingerprint of features/fake", Result(b"", ".txt", {}, 10, 9, (failed,)))
    workspace.claims(given_up).mkdir(parents=True)
    for attempt in (1, 2, 3):
        (workspace.claims(given_up) / f"{given_up.job_id}.g{attempt}.failed").write_text(f"ValueError: {EVIL}", newline="")
    return workspace


def test_status_shows_names_and_reasons_as_text_on_their_own_lines(harmed):
    shown = call("status", "--failed", "-w", harmed.root)
    assert not acts(shown.output)
    lines = shown.output.splitlines()
    assert [line for line in lines if "forged" in line] == lines[-2:]
    assert lines[-2].startswith(f"job_000000  {printable(EVIL)}  bad: cannot read \\x1b]0;x")
    assert lines[-1].startswith("job_000001  quarantined: ValueError: \\x1b]0;x")


def test_status_as_json_keeps_every_character(harmed):
    listed = call("status", "--failed", "--json", "-w", harmed.root)
    assert not acts(listed.output)
    assert [item["name"] for item in listed.json["failed_items"]] == [EVIL]


def test_a_worker_tells_of_a_failed_job_on_one_line(workspace, monkeypatch):
    enqueue_fakes(workspace, 10)

    def fail(session, job, check):
        raise ValueError(f"cannot read {EVIL}")

    monkeypatch.setattr(load_kind("fake")._Session, "compute", fail)
    told = call("work", "--max-jobs", "1", "-w", workspace.root).errors
    assert not acts(told)
    assert "failed: ValueError: cannot read \\x1b]0;x" in told


@pytest.mark.parametrize(
    ("arguments", "code", "lines"),
    [
        pytest.param(["status", "-w", EVIL], 1, 1, id="mistake"),
        pytest.param(["work", "\x1b]0;x\a.jpg"], 2, 4, id="usage: a shell wrote the names of files"),
    ],
)
def test_an_error_that_names_something_is_only_text(tmp_path, monkeypatch, arguments, code, lines):
    monkeypatch.chdir(tmp_path)
    said = call(*arguments)
    assert said.status == code
    assert not acts(said.errors)
    assert "\\x1b" in said.errors
    assert len(said.errors.splitlines()) == lines


def test_a_bug_report_is_only_text(tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))

    def fail(directory):
        raise ValueError(EVIL)

    monkeypatch.setattr(status, "chosen_workspace", fail)
    said = call("status")
    assert (said.status, acts(said.errors), len(said.errors.splitlines())) == (3, False, 2)
