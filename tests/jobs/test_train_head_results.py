import json
from dataclasses import replace

import pytest

from headstart.features.store.packing import open_cache

from .killed_head import OPTIONS
from .trained_head import begun, worked


def judged(training):
    return json.loads((training.experiment.folder / "metrics.json").read_text())


def test_a_training_begins_on_a_cache_whose_every_byte_was_compared(ready):
    begun(ready)
    [encoder] = ready.features.glob("encoder_*")
    part = open_cache(encoder).parts[0]
    path, offset = part.path, part.features.offset
    whole = path.read_bytes()
    path.unlink()  # a new file, not the one that is mapped
    path.write_bytes(whole[: offset + 1] + bytes([whole[offset + 1] ^ 1]) + whole[offset + 2 :])
    assert worked(ready)[0].jobs == 1
    assert path.read_bytes() == whole


def test_the_selected_head_is_compared_on_test_with_each_other_one(ready):
    training = begun(ready)
    worked(ready)
    notes = judged(training)
    accuracy = {entry["head"]: entry["test"]["accuracy"] for entry in notes["heads"]}
    accuracy |= {entry["baseline"]: entry["test"]["accuracy"] for entry in notes["baselines"]}
    best = accuracy.pop(notes["selected"])
    assert {one["than"] for one in notes["comparisons"]} == set(accuracy)
    for one in notes["comparisons"]:
        assert one["difference"] == pytest.approx(best - accuracy[one["than"]])


def test_each_baseline_has_its_own_numbers_and_all_that_a_trained_head_has(ready):
    training = begun(ready)
    worked(ready)
    baselines = {entry["baseline"]: entry["test"] for entry in judged(training)["baselines"]}
    assert len({json.dumps(metrics, sort_keys=True) for metrics in baselines.values()}) == 3
    assert set(baselines["lda"]) == set(judged(training)["heads"][0]["test"])


def test_of_many_states_a_finished_training_leaves_the_last(ready):
    training = begun(ready, options=replace(OPTIONS, checkpoint_s=0))
    worked(ready)
    assert len(list(training.experiment.folder.glob("checkpoints/step_*"))) == 1
