"""Calls the command line in this process: importing torch takes longer than most tests."""

import contextlib
import io
import json
import sys
from typing import Any, NamedTuple
from unittest import mock

from headstart import cli


class Called(NamedTuple):
    status: int
    output: str
    errors: str

    @property
    def json(self) -> Any:
        return json.loads(self.output)

    @property
    def reason(self) -> str:
        """The one line that explains a mistake."""
        [line] = self.errors.strip().splitlines()
        assert line.startswith("error: ")
        return line.removeprefix("error: ")


def call(*arguments: object) -> Called:
    output, errors = io.StringIO(), io.StringIO()
    words = ["headstart", *map(str, arguments)]
    with mock.patch.object(sys, "argv", words), contextlib.redirect_stdout(output), contextlib.redirect_stderr(errors):
        status = cli._run()
    return Called(status, output.getvalue(), errors.getvalue())
