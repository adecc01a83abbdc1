import json
import os
from pathlib import Path

import numpy as np
import pytest

from headstart import load_features
from headstart.features.images.decode import STATUS
from headstart.pipeline import suspect, worker
from headstart.pipeline.kinds import Settings
from headstart.pipeline.queue import Reader
from headstart.pipeline.status import failed_items, quarantined_jobs, read_status
from headstart.pipeline.worker import Limits, Worker, run_job
from tests.pipeline.suspects import die_holding
from tests.support import ROOT

from .extraction import KINDS, digests, draw, encoder_of, enqueue

MISHAPS = ROOT / "tests" / "killers"


@pytest.fixture
def few(tmp_path) -> Path:
    """40 pictures of two classes."""
    folder = tmp_path / "photos"
    for number in range(40):
        draw(folder / "ab"[number % 2] / f"{number:03d}.png", number)
    return folder


def work_on_suspects(workspace, monkeypatch):
    """Every job is done in a child, where Pillow has the faults of `tests/killers`."""
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(MISHAPS), str(ROOT)]))
    monkeypatch.setattr(suspect, "ITEM_BYTES", 400_000_000)
    monkeypatch.setattr(worker, "ITEM_S", 3.0)
    for job in Reader(workspace, KINDS):
        die_holding(workspace, job, times=2)
    assert Worker(workspace, Settings(device="cpu"), Limits(), lambda finished: None).run().is_drained


def test_an_image_that_crashes_hangs_or_eats_its_decoder_costs_only_its_own_row(few, tmp_path, monkeypatch):
    whole = enqueue(few, tmp_path / "whole", "--job-size", "20")
    for job in Reader(whole, KINDS):
        run_job(whole, job.job_id)
    expected = load_features(encoder_of(whole))
    killers = {"a/004.png": b"SEGFAULT", "a/010.png": b"HANG", "b/021.png": b"EAT10GB"}
    for name, word in killers.items():
        with (few / name).open("ab") as file:
            file.write(word)
    workspace = enqueue(few, tmp_path / "w", "--job-size", "20")
    work_on_suspects(workspace, monkeypatch)
    failed = {item.name: (item.code, item.reason) for _, item in failed_items(workspace)}
    assert failed == {
        "a/004.png": ("killed", "ended its process with SIGSEGV"),
        "a/010.png": ("killed", "did not end within 3 s"),
        "b/021.png": ("killed", "took more than 0.4 GB of memory"),
    }
    assert not list(quarantined_jobs(workspace))
    loaded = load_features(encoder_of(workspace))
    assert len(loaded.paths) == 37
    rows = dict(zip(expected.paths, expected.features, strict=True))
    assert all((rows[path] == row).all() for path, row in zip(loaded.paths, loaded.features, strict=True))
    codes = [code for path in workspace.root.rglob("*.npz") for code in np.load(path, allow_pickle=False)["status"]]
    assert sorted(codes) == [0] * 37 + [STATUS["killed"]] * 3


def test_innocent_suspects_give_the_bytes_that_they_always_give(photos, finished, tmp_path, monkeypatch):
    workspace = enqueue(photos, tmp_path / "w")
    work_on_suspects(workspace, monkeypatch)
    assert digests(workspace) == digests(finished)
    [tally] = read_status(workspace).folders.values()
    assert (tally.items_done, tally.items_failed) == (150, 0)
    [marker, *_] = sorted(workspace.root.rglob("*.done"))
    facts = json.loads(marker.read_text())["facts"]
    assert facts["deaths"] == 2
    assert facts["peak_rss_bytes"] > 30e6
