import sys

import psutil
import pytest

from headstart.pipeline.memory import available_bytes, peak_rss_bytes
from tests.support import run_python


def test_the_peak_is_at_least_what_was_held():
    before = peak_rss_bytes()
    held = bytearray(64 << 20)
    held[::4096] = bytes(len(held[::4096])).replace(b"\0", b"x")
    assert peak_rss_bytes() >= 64 << 20
    assert peak_rss_bytes() >= before


def test_the_peak_of_a_process_is_not_that_of_its_parent():
    held = bytearray(300 << 20)
    held[::4096] = bytes(len(held[::4096])).replace(b"\0", b"x")
    status, said, errors = run_python("from headstart.pipeline.memory import peak_rss_bytes; print(peak_rss_bytes())")
    assert status == 0, errors
    assert int(said) < 200 << 20


def test_what_is_available_is_what_psutil_says():
    before = psutil.virtual_memory().available
    said = available_bytes()
    assert abs(said - before) < 0.1 * psutil.virtual_memory().total


FAULTS_OF_BLOCKS = """
import resource, sys
from contextlib import nullcontext
import numpy as np
from headstart.pipeline.memory import freed_memory_kept
with freed_memory_kept() if sys.argv[1] == "kept" else nullcontext():
    np.ones(8_000_000)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(10):
        np.ones(8_000_000)
    print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
np.ones(8_000_000)
with open("/proc/self/statm") as status:
    print(int(status.read().split()[1]))
"""


@pytest.mark.skipif(sys.platform != "linux", reason="an option of glibc")
def test_blocks_that_are_freed_in_turn_are_not_made_anew_and_go_back_in_the_end():
    faults, pages = {}, {}
    for how in ("plain", "kept"):
        status, said, errors = run_python(FAULTS_OF_BLOCKS, how)
        assert status == 0, errors
        faults[how], pages[how] = map(int, said.split())
    assert faults["kept"] < faults["plain"] / 10
    assert pages["kept"] < pages["plain"] + 4096  # 16 MB
