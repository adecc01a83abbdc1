"""Runs `train-head` quickly."""

import json

from click.testing import CliRunner

from headstart.commands.training import train_head

QUICK = ("--epochs", "2", "--batch-size", "32")


def run(root, *arguments):
    """Standard output of the command in this process, which has torch already."""
    words = [*map(str, arguments), *([] if "--epochs" in arguments else QUICK), "-w", str(root)]
    return CliRunner().invoke(train_head.command, words, standalone_mode=False)


def record(root, *arguments):
    done = run(root, *arguments, "--json")
    assert done.exception is None, done.exception
    return json.loads(done.stdout)
