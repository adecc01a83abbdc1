"""What a training took is counted over all of its starts."""

import json
import time

from benchmarks.trainings import Seconds


def test_seconds_of_a_training_are_summed_over_its_starts_and_imports_are_of_the_first(tmp_path, monkeypatch):
    path, now = tmp_path / "cpu_s.json", 3.0
    monkeypatch.setattr(time, "process_time", lambda: now)
    for first in (5.0, 4.0):  # each start counts from 0
        seconds, now = Seconds(path), 3.0
        for name, spent in (("writer", first), ("reader", 1.0)):
            with seconds.of(name):
                now += spent
    assert json.loads(path.read_text()) == {"writer": 3 + 5 + 3 + 4, "reader": 2}
