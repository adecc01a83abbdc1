"""A part of `make outside`: what commands open, write and connect to, as strace sees it."""

from pathlib import Path

import pytest

from headstart.cli import COMMANDS

from .outside import Scene, commands, run, violations, why_not

SCENE = Scene(written=(Path("/w/workspace"),), read=(Path("/w/photos"),))


@pytest.mark.skipif(bool(why_not()), reason=why_not() or "it can run")
def test_enqueue_opens_no_socket_and_writes_nothing_outside():
    assert run(only=("enqueue",)) == []


def test_every_command_but_that_of_object_stores_is_looked_at():
    looked_at = {words[0] for words in commands(Path("/d/table.csv"), Path("/w"), Path("/o"))}
    assert looked_at == set(COMMANDS) - {"fetch"}  # of a place on a network that the user names


@pytest.mark.parametrize(
    ("line", "is_seen"),
    [
        ('7 openat(AT_FDCWD</w>, "/w/photos/a.png", O_RDONLY|O_CLOEXEC) = 3</w/photos/a.png>', False),
        ('7 openat(AT_FDCWD</w>, "/w/photos/a.png", O_WRONLY|O_CREAT, 0666) = 3', True),
        ('7 openat(AT_FDCWD</w>, "photos/../../elsewhere/.netrc", O_RDONLY) = 3', True),
        ('7 openat(5</w/workspace/features>, "x", O_WRONLY|O_CREAT|O_EXCL, 0666) = 3', False),
        ('7 unlinkat(5</w/photos>, "a.png", 0) = 0', True),
        ('7 renameat(5</w/workspace>, "x", 6</home/me>, "y") = 0', True),
        ('7 openat(AT_FDCWD</w>, "/home/me/.config/x", O_RDONLY) = -1 ENOENT (No such file or directory)', False),
        ("7 socket(AF_INET, SOCK_DGRAM|SOCK_CLOEXEC, IPPROTO_IP) = 3", True),
        ("7 socket(AF_UNIX, SOCK_STREAM|SOCK_CLOEXEC, 0) = 3", False),
    ],
)
def test_a_call_is_judged_by_where_it_leads(line, is_seen):
    assert bool(list(violations([line], SCENE, Path("/w")))) == is_seen
