import json
from dataclasses import replace

import pytest

from headstart.commands.output import forecast
from headstart.commands.output.forecast import planned_against_actual
from headstart.features.planning.forecast import Forecast, keep_forecast, read_forecast
from headstart.pipeline.status import Status
from headstart.pipeline.tally import Tally

FOLDER = "features/encoder_small-01234567"
FINGERPRINT = "0123456789abcdef" * 4
PREDICTED = Forecast(begin_s=2.0, image_s=0.5, job_size=10, peak_rss_bytes=300_000_000, peak_vram_bytes=None)


@pytest.fixture
def planned(workspace):
    (workspace.root / FOLDER).mkdir(parents=True)
    (workspace.root / FOLDER / "encoder.json").write_text(json.dumps({"fingerprint": FINGERPRINT}))
    keep_forecast(workspace, FINGERPRINT, PREDICTED)
    return workspace


def lines(workspace, items, vram=0):
    status = Status({("extract", FOLDER): Tally(peak_vram_bytes=vram)})
    return list(planned_against_actual(workspace, items, 61.0, status))


def test_the_plan_stands_beside_what_it_came_to(planned, monkeypatch):
    monkeypatch.setattr(forecast, "peak_rss_bytes", lambda: 280_000_000)
    assert lines(planned, {FOLDER: 110}) == ["planned for 110 images: 52s, 0.30 GB; it took 1m 01s, 0.28 GB"]


def test_on_a_gpu_its_memory_stands_there_too(planned):
    keep_forecast(planned, FINGERPRINT, replace(PREDICTED, peak_vram_bytes=3_000_000_000))
    [line] = lines(planned, {FOLDER: 110}, vram=2_900_000_000)
    assert line.endswith("; on the GPU 3.00 GB, it took 2.90 GB")


@pytest.mark.parametrize(
    "items",
    [
        pytest.param({}, id="nothing was done"),
        pytest.param({FOLDER: 0}, id="only failures"),
        pytest.param({FOLDER: 5, "features/other": 5}, id="two encoders"),
        pytest.param({"experiments/exp_0001_a": 5}, id="no encoder"),
    ],
)
def test_what_was_not_planned_is_not_compared(planned, items):
    assert lines(planned, items) == []


WORDS = '{"begin_s": "1", "image_s": 1.0, "job_size": 1, "peak_rss_bytes": 1, "peak_vram_bytes": null}'


@pytest.mark.parametrize("text", [None, "", "[]", "{", '{"begin_s": 1}', '{"unknown": 1}', WORDS])
def test_a_plan_that_is_missing_or_damaged_is_none(planned, text):
    [path] = planned.features.glob("plans/*")
    if text is None:
        path.unlink()
    else:
        path.write_text(text)
    assert read_forecast(planned, FINGERPRINT) is None
    assert lines(planned, {FOLDER: 110}) == []
