"""What a library says on standard output while it is silenced appears nowhere, now or later; what we say does."""

import os
import subprocess
import sys

import pytest

from headstart.features.networks.quiet import silent_output
from tests.support import ROOT

WAYS = {
    "print": "print('noise')",
    "the-stream-itself": "sys.stdout.write('noise\\n'); sys.stdout.flush()",
    "python's-first-stream": "print('noise', file=sys.__stdout__, flush=True)",
    "python's-first-stream-unflushed": "print('noise', file=sys.__stdout__)",
    "a-system-call": "os.write(1, b'noise\\n')",
    "c-flushed": "libc.puts(b'noise'); libc.fflush(None)",
    "c-that-flushes-when-the-process-ends": "libc.puts(b'noise')",
    "a-child": "subprocess.run(['echo', 'noise'])",
    "an-error": "print('noise'); raise ValueError",
}
SCRIPT = """
import contextlib, ctypes, os, subprocess, sys
from headstart.features.networks.quiet import silent_output

libc = ctypes.CDLL(None)
print('before')
with contextlib.suppress(ValueError), silent_output():
    {way}
print('after')
"""


@pytest.mark.skipif(sys.platform == "win32", reason="its C library has no name there")
@pytest.mark.parametrize("way", WAYS.values(), ids=WAYS)
def test_nothing_of_a_silenced_library_appears(way):
    assert said(SCRIPT.format(way=way)) == ("before\nafter\n", "")


@pytest.mark.skipif(sys.platform == "win32", reason="its C library has no name there")
def test_without_standard_output_a_library_is_silenced_all_the_same():
    script = SCRIPT.format(way=WAYS["print"]).replace("print('before')", "os.close(1)").replace("print('after')", "")
    assert said(script) == ("", "")


def said(script: str) -> tuple[str, str]:
    # Unbuffered streams would hide what is held back.
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONUNBUFFERED"}
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=ROOT, env=environment, capture_output=True, text=True, check=True, timeout=60
    )
    return done.stdout, done.stderr


def test_silence_within_silence_ends_with_the_outer_one(capfd):
    with silent_output():
        with silent_output():
            print("noise")
        print("noise")
    print("heard")
    assert capfd.readouterr().out == "heard\n"
