import psutil

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
