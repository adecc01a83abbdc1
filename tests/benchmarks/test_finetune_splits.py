"""Killed in a training, the benchmark goes on with it when it is started again."""

import pytest

from benchmarks import finetune_splits
from benchmarks.finetune_splits import TRAININGS, on_split
from benchmarks.recipe_kills import photos
from tests.commands.calling import call


@pytest.fixture
def on_photos(tmp_path, monkeypatch):
    """`on_split` of a few photos and a small network, its commands in this process."""
    monkeypatch.setenv("HEADSTART_CONFIG", str(tmp_path / "configuration"))
    data = photos(tmp_path / "photos", count=20)

    def run(trainings, *more):
        def command(*words):
            done = call(*words, *(more if "train" in words else ()))
            if done.status:
                raise SystemExit(done.errors)
            return 1.5

        monkeypatch.setattr(finetune_splits, "cpu_seconds_of", command)
        on_split(data, "random:0", "test_resnet", tmp_path / "kept", 0, trainings)

    return run


def test_a_training_that_was_left_unfinished_goes_on_and_its_seconds_are_not_taken_for_all_of_it(on_photos, capsys):
    on_photos(TRAININGS[:1])
    with pytest.raises(SystemExit):
        on_photos(TRAININGS[1:2], "--time-limit", "0s")
    capsys.readouterr()
    on_photos(TRAININGS[:1])  # beside what is unfinished
    assert "started" not in capsys.readouterr().out
    on_photos(TRAININGS[1:2])
    said = capsys.readouterr().out
    assert "images-2 was started 2 times; its seconds are those of the last start" in said
    assert "split 0, images-2: head " in said
    assert "split 0, cut-2: head " not in said
