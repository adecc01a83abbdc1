"""A picture that takes hours costs `predict` one row, and ^C ends it whatever it is doing."""

import contextlib
import json
import os
import signal
import subprocess
import sys
import time

import psutil
import pytest

from tests.features.samples import endless_jpeg
from tests.support import ROOT, run_cli


@pytest.fixture
def bomb(tmp_path):
    path = tmp_path / "bomb.jpg"
    path.write_bytes(endless_jpeg())
    return path


def test_a_picture_that_takes_hours_costs_its_own_row(trained, pictures, bomb):
    others = sorted(pictures.rglob("*.png"))[:2]
    arguments = ["predict", others[0], bomb, bomb, others[1], "--json", "-w", trained.root]
    done = run_cli(*arguments, HEADSTART_PICTURE_S="2")
    assert done.returncode == 1, done.stderr
    said = json.loads(done.stdout)["predictions"]
    assert [bool(row.get("error")) for row in said] == [False, True, True, False]
    assert [row["error"]["code"] for row in said[1:3]] == ["killed", "killed"]
    assert all(row["error"]["reason"].startswith("decoding it ") for row in said[1:3])


@pytest.mark.skipif(os.name == "nt", reason="this system has no SIGINT for one process")
def test_an_interrupt_ends_it_while_a_decoder_is_at_work(trained, bomb):
    command = [sys.executable, str(ROOT / "cli.py"), "predict", str(bomb), "-w", str(trained.root)]
    environment = {**os.environ, "HEADSTART_PICTURE_S": "3600"}
    with interruptible(command, environment) as process:
        seen = psutil.Process(process.pid)
        while sum(seen.cpu_times()[:2]) < 4:  # far more than it takes to begin
            assert process.poll() is None
            time.sleep(0.1)
        process.send_signal(signal.SIGINT)
        assert process.wait(60) in (-signal.SIGINT, 130)


@contextlib.contextmanager
def interruptible(command, environment):
    """A process that ^C reaches, also where these tests run in the background, which ignores it; gone at the end."""
    previous = signal.signal(signal.SIGINT, signal.default_int_handler)
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env=environment)
    signal.signal(signal.SIGINT, previous)
    try:
        yield process
    finally:
        process.kill()
        process.wait()
