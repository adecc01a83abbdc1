"""Tests of the two kinds of errors that one line explains."""

import errno
import os

import pytest

from headstart.cli import _run
from headstart.experiments.heads.trained_head import read_head
from headstart.pipeline.errors import ExplainedError, HeadstartError, TryLaterError, as_try_later


def test_a_disk_that_fails_for_a_moment_makes_no_head_a_damaged_one(tmp_path, monkeypatch):
    def fail(path, limit):
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    monkeypatch.setattr("headstart.pipeline.doors.reading.read", fail)
    with pytest.raises(TryLaterError, match="Input/output error"):
        read_head(tmp_path / "head.pt")


@pytest.mark.parametrize(
    ("error", "status"), [(HeadstartError("wrong"), 1), (TryLaterError("later"), 75)], ids=["mistake", "fault"]
)
def test_a_command_ends_with_one_line_and_the_status_of_either(monkeypatch, capsys, error, status):
    def fail(**options):
        raise error

    monkeypatch.setattr("headstart.cli.group.main", fail)
    assert (_run(), capsys.readouterr().err) == (status, f"error: {error}\n")


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EIO, errno.ESTALE], ids=lambda code: errno.errorcode[code])
def test_a_fault_of_the_disk_is_explained_but_no_mistake(code):
    later = as_try_later(OSError(code, os.strerror(code)), "cannot write x")
    assert isinstance(later, ExplainedError)
    assert not isinstance(later, HeadstartError)
