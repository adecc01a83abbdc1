"""Tests of the two kinds of errors that one line explains."""

import errno
import os

import pytest

from headstart.cli import _run
from headstart.experiments.config import head_config
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


@pytest.mark.parametrize("odd", ["\n", "\r", "\x1b", "\x85", "\u2028", "\u202e"], ids=ascii)
def test_an_error_is_one_line_whatever_name_stands_in_it(odd):
    with pytest.raises(HeadstartError) as raised:
        head_config({f"label_s{odd}moothing": 0.1})
    assert len(str(raised.value).splitlines()) == 1
    assert odd not in str(raised.value)


def test_backslashes_of_an_error_stay_as_they_are():
    assert str(HeadstartError(r"C:\data is gone")) == r"C:\data is gone"
