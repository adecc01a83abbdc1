"""What `doctor --gpu` says of a GPU, with a stand-in for the device and for the commands that it runs."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from headstart.features.acceptance import gpu_acceptance
from headstart.features.acceptance.gpu_acceptance import Scene, accept_gpu, check_halving, check_heads_killed, draw_photos
from headstart.features.planning.machine import NOTE, OK, WRONG
from headstart.pipeline.errors import HeadstartError
from tests.features.extraction.test_vram_budget import FakeGpu


class Process:
    """A command that runs until it is killed, or has ended already."""

    def __init__(self, ended):
        self.ended, self.killed = ended, False

    def poll(self):
        return 0 if self.ended or self.killed else None

    def kill(self):
        self.killed = True

    def wait(self):
        return 0


class Commands:
    """Stands in for the commands: a training writes its weights; one that begins leaves a checkpoint."""

    def __init__(self, ended=False, differs=False):
        self.ended, self.differs, self.runs = ended, differs, 0

    def run(self, words):
        self.runs += 1
        weights = "another" if self.differs and self.runs > 1 else "weights"
        self.write(words, "best_head.pt", weights)
        self.write(words, "course.json", f"run {self.runs}, which takes its own time")

    def begin(self, words):
        self.write(words, "step_0000000005.abc.pt", "state")
        return Process(self.ended)

    def write(self, words, name, content):
        folder = self.root(words) / "experiments" / "exp_0001_accept" / "checkpoints"
        folder.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(content)

    def root(self, words):
        return Path(words[words.index("-w") + 1])


def scene(tmp_path, **given):
    (tmp_path / "capped").mkdir()
    return Scene(tmp_path, **given)


@pytest.mark.parametrize(
    ("given", "state", "says"),
    [
        pytest.param({}, OK, "killed after a checkpoint; 1 file equal", id="the same bits"),
        pytest.param({"differs": True}, WRONG, "different", id="other bits"),
        pytest.param({"ended": True}, NOTE, "too late", id="over before it was killed"),
    ],
)
def test_a_training_that_was_killed_must_end_in_the_same_bits(tmp_path, given, state, says):
    commands = Commands(**given)
    [line] = check_heads_killed(scene(tmp_path, run=commands.run, begin=commands.begin))
    assert line.state == state
    assert says in line.measured


def facts(**changed):
    return {"vram_process_bytes": 3 * 10**9, "peak_vram_reserved_bytes": 2 * 10**9, "vram_cap_bytes": 3 * 10**9} | changed


@pytest.mark.parametrize(
    ("told", "state", "says"),
    [
        pytest.param([facts()], OK, "by NVML", id="within it"),
        pytest.param([facts(), facts(vram_process_bytes=5 * 10**9)], WRONG, "5.00 GB by NVML", id="one job beyond it"),
        pytest.param([facts(vram_process_bytes=None)], OK, "NVML does not say", id="a driver that does not tell"),
        pytest.param([facts(peak_vram_reserved_bytes=4 * 10**9)], WRONG, "by NVML", id="beyond the cap"),
        pytest.param([facts(peak_vram_reserved_bytes=0)], WRONG, "by NVML", id="nothing was on the GPU at all"),
    ],
)
def test_memory_is_judged_by_what_the_worst_job_held(told, state, says):
    line = gpu_acceptance._within_budget(told, 4 * 10**9)
    assert line.state == state
    assert says in line.measured


class Gpu(FakeGpu):
    """Features of an image do not depend on its batch; a broken one gives others to images in small batches."""

    def __init__(self, is_broken=False):
        super().__init__()
        self.is_broken = is_broken

    def encode(self, images):
        super().encode(images)
        rows = images.reshape(len(images), -1)[:, :2].astype(np.float32) + 1
        return rows[:, ::-1] * [[1, -1]] if self.is_broken and len(images) == 1 else rows

    def close(self):
        pass


@pytest.mark.parametrize(("is_broken", "state"), [(False, OK), (True, WRONG)], ids=["sound", "other features"])
def test_a_batch_that_does_not_fit_is_halved_and_every_image_keeps_its_features(tmp_path, is_broken, state):
    (tmp_path / "capped" / "features" / "encoder_x").mkdir(parents=True)
    [line] = check_halving(Scene(tmp_path, encoder_in=lambda folder: Gpu(is_broken)))
    assert line.state == state
    assert "256 images in batches of " in line.measured


def test_a_check_that_fails_is_a_line_and_the_next_goes_on(tmp_path, monkeypatch):
    def refuse(words):
        raise HeadstartError("the driver is gone")

    monkeypatch.setattr(gpu_acceptance, "find_spec", lambda name: None)
    lines = list(accept_gpu(replace(scene(tmp_path), run=refuse, photos=3, encoder_in=lambda folder: Gpu())))
    assert [line.state for line in lines] == [WRONG, WRONG, WRONG, WRONG, NOTE, WRONG, WRONG]
    assert lines[0].measured == "the driver is gone"


def test_photos_are_drawn_in_classes_and_alike_each_time(tmp_path):
    for name in "xy":
        draw_photos(tmp_path / name, 6)
    drawn = [{path.relative_to(tmp_path / name): path.read_bytes() for path in (tmp_path / name).rglob("*.jpg")} for name in "xy"]
    assert len(drawn[0]) == 6
    assert drawn[0] == drawn[1]
    assert {path.parent.name for path in drawn[0]} == {"a", "b", "c"}


@pytest.mark.parametrize(
    ("seconds", "state"),
    [
        pytest.param(10**-9, OK, id="faster than the encoder alone can be"),
        pytest.param(10**6, NOTE, id="waiting for images nearly always"),
    ],
)
def test_how_much_a_gpu_waits_is_told_by_the_encoder_alone(tmp_path, monkeypatch, seconds, state):
    (tmp_path / "whole" / "features" / "encoder_x").mkdir(parents=True)
    jobs = [{"items": 64, "facts": {"seconds": each, "batch_size": 8}} for each in (10**3, seconds, seconds)]
    monkeypatch.setattr(gpu_acceptance, "_marker_facts", lambda root: jobs)
    gpu = Gpu()
    gpu.cap(10**12)
    [line] = gpu_acceptance.check_waiting(Scene(tmp_path, encoder_in=lambda folder: gpu))
    assert line.state == state


def test_images_without_features_are_told_with_what_work_said(tmp_path):
    (tmp_path / "queued").mkdir()
    said = "job_000000  failed: ValueError: no such device  [0/1]\nerror: later"
    scene = Scene(tmp_path, run=lambda words: said, photos=3)
    with pytest.raises(HeadstartError, match="0 of 3 images have features after headstart work: ValueError: no such device"):
        gpu_acceptance._extracted(scene, "capped", [])
