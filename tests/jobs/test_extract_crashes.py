import signal

import pytest

from headstart import load_features
from headstart.pipeline.errors import HeadstartError
from headstart.pipeline.status import read_status
from tests.support import run_cli, spawn_python

from .extraction import digests, encoder_of, enqueue, work

WORK = """
from pathlib import Path
from headstart.pipeline.kinds import Settings
from headstart.pipeline.worker import Limits, Worker
from headstart.pipeline.workspace import open_workspace
Worker(open_workspace(Path(sys.argv[1])), Settings(device="cpu"), Limits(), lambda finished: print("heard", flush=True)).run()
"""


def test_killed_midway_and_resumed_gives_the_uninterrupted_bytes(finished, photos, tmp_path):
    workspace = enqueue(photos, tmp_path / "w", "--job-size", "64")
    worker = spawn_python(WORK, str(workspace.root))
    assert worker.stdout.readline() == "heard\n"
    worker.send_signal(signal.SIGKILL)
    worker.wait()
    assert 0 < next(iter(read_status(workspace).folders.values())).done <= 3
    assert work(workspace).is_drained
    assert digests(workspace) == digests(finished)
    done = run_cli("verify", "--deep", "--repair", "-w", workspace.root)
    assert "3 jobs sound" in done.stdout
    assert not list(workspace.root.rglob(".tmp-*"))
    assert not list(workspace.features.glob("encoder_*/claims/*/*"))


def test_verify_names_a_flipped_bit_and_repair_redoes_the_job(photos, tmp_path):
    workspace = enqueue(photos, tmp_path / "w")
    work(workspace)
    committed = digests(workspace)
    payload = sorted(workspace.features.glob("encoder_*/shards/*/*"))[1]
    data = bytearray(payload.read_bytes())
    data[-300] ^= 4
    payload.write_bytes(data)
    verified = run_cli("verify", "--deep", "-w", workspace.root)
    assert verified.returncode == 1
    assert f"{payload.name.split('.')[0]}  features/" in verified.stdout
    assert "sha256 differs" in verified.stdout
    with pytest.raises(HeadstartError, match="headstart verify --deep --repair"):
        load_features(encoder_of(workspace))
    repaired = run_cli("verify", "--deep", "--repair", "--device", "cpu", "-w", workspace.root)
    assert repaired.returncode == 0, repaired.stderr
    assert "1 job redone" in repaired.stdout
    assert digests(workspace) == committed
    assert run_cli("verify", "--deep", "-w", workspace.root).returncode == 0
