"""The score while features come: that of ridge on what is there, of every image once, by one worker at a time."""

import dataclasses
import json

import numpy as np
import pytest

from headstart.experiments.data.statistics import gather_statistics
from headstart.experiments.evaluation.anytime import score as anytime_score
from headstart.experiments.evaluation.anytime.record import read_scores, score_path, write_scores
from headstart.experiments.evaluation.anytime.score import PENALTY, AnytimeScore, RunningStatistics
from headstart.experiments.linear.closed_form import fit_ridge_path
from headstart.features.manifest import adding
from headstart.pipeline.workspace import open_or_create_workspace
from tests.experiments.samples import clouds
from tests.features.packed import Extracted

LONG = 1000.0  # seconds that nothing takes


@pytest.fixture
def made(tmp_path):
    return Extracted(open_or_create_workspace(tmp_path / "w"), embed_dim=12, job_size=20)


def add(made, count=300, splits=None, labels=None, ordered=False):
    cloud = clouds(count)
    labels = labels or [cloud.targets.names[code] for code in cloud.targets.codes]
    order = np.argsort(labels, kind="stable") if ordered else np.arange(count)
    splits = splits or ["train", "train", "val"] * (count // 3)
    made.add(np.asarray(cloud.source.features)[order], [labels[i] for i in order], splits)
    return cloud


def opened(made):
    [dataset] = made.workspace.manifests.iterdir()
    return AnytimeScore(made.workspace, made.folder, dataset)


def test_statistics_that_grow_give_the_head_that_all_rows_at_once_give():
    cloud = clouds(900)
    running = RunningStatistics()
    names = np.array([cloud.targets.names[code] for code in cloud.targets.codes])
    for start in range(0, 900, 70):
        running.add(np.asarray(cloud.source.features)[start : start + 70], names[start : start + 70])
    whole = gather_statistics(cloud.source, cloud.targets, {"all": np.arange(900)})["all"]
    [expected] = fit_ridge_path(whole, (PENALTY,))
    np.testing.assert_allclose(running.ridge().weight, expected.weight, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(running.ridge().bias, expected.bias, rtol=1e-4, atol=1e-5)


def test_the_last_score_is_of_every_image_and_is_recorded(made):
    add(made)
    score = opened(made).score(LONG, is_last=True)
    assert (score.images, score.trained, score.judged, score.classes) == (300, 200, 100, 3)
    assert score.low <= score.accuracy <= score.high
    assert score.accuracy > 1 / 3
    [points] = read_scores(made.folder).values()
    assert points == [score]


def test_where_no_split_is_validation_one_image_in_ten_is_set_aside(made):
    add(made, 600, ["train"] * 600)
    score = opened(made).score(LONG, is_last=True)
    assert 30 <= score.judged <= 100
    assert score.trained + score.judged == 600


def test_images_that_were_set_aside_are_trained_on_once_validation_images_come(made):
    add(made, 600, ["train"] * 300 + ["val"] * 300)
    score = opened(made).score(LONG, is_last=True)
    assert (score.trained, score.judged) == (300, 300)


def test_the_next_worker_goes_on_and_keeps_what_was_said_before(made):
    add(made)
    first = opened(made)
    earlier = first.score(LONG)
    first.close()
    second = opened(made)
    made.add(np.asarray(clouds(90).source.features), ["a"] * 90, ["train"] * 90, names=[f"new_{i}.png" for i in range(90)])
    later = second.score(LONG, is_last=True)
    assert later.images == 390
    assert next(iter(read_scores(made.folder).values())) == [earlier, later]


def test_while_one_worker_scores_another_says_nothing(made):
    add(made)
    first, second = opened(made), opened(made)
    assert first.score(LONG) is not None
    assert second.score(LONG) is None
    first.close()
    assert second.score(LONG) is not None


NOTHING = {
    "too few images": {"count": 30},
    "no labels": {"labels": [""] * 300},
    "one class": {"labels": ["a"] * 300},
    "a label of its own for each image": {"labels": [f"{i}" for i in range(300)]},
    "test images alone": {"splits": ["test"] * 300},
}


@pytest.mark.parametrize("change", NOTHING.values(), ids=NOTHING)
def test_where_a_score_would_mean_nothing_there_is_none(made, change):
    add(made, **change)
    assert opened(made).look(LONG, True) == ""
    assert read_scores(made.folder) == {}


def test_no_time_no_score(made):
    add(made)
    score = opened(made)
    assert score.score(0.0) is None
    assert score.look(LONG, False).startswith("so far: ridge ")


def test_a_score_waits_until_a_quarter_more_is_there(made):
    add(made)
    score = opened(made)
    assert score.score(LONG) is not None
    made.add(np.asarray(clouds(30).source.features), ["a"] * 30, ["train"] * 30, names=[f"new_{i}.png" for i in range(30)])
    assert score.score(LONG) is None
    assert score.score(LONG, is_last=True).images == 330


def test_a_damaged_record_is_written_anew(made):
    add(made)
    path = score_path(made.folder, next(made.workspace.manifests.iterdir()).name)
    path.parent.mkdir()
    path.write_text("{")
    assert read_scores(made.folder) == {}
    assert opened(made).score(LONG) is not None
    assert len(next(iter(read_scores(made.folder).values()))) == 1


def test_a_record_does_not_grow_for_ever(made):
    add(made)
    score = opened(made).score(LONG)
    path = score_path(made.folder, "data")
    write_scores(made.workspace, path, [dataclasses.replace(score, images=i) for i in range(2000)])
    kept = json.loads(path.read_text())["scores"]
    assert len(kept) == 500
    assert kept[-1]["images"] == 1999


@pytest.fixture
def as_given(monkeypatch):
    """Rows stay in the order of their folders, which `enqueue` would mix."""
    monkeypatch.setattr(adding, "order_by_lots", lambda strata, lots, seed, salt: list(range(len(strata))))


@pytest.mark.usefixtures("as_given")
def test_a_folder_ordered_queue_ends_in_the_score_of_a_shuffled_one(made, tmp_path):
    """Early points of classes one after the other are easy; the interval of the last one holds what all images together give."""
    add(made, 600, ["train", "train", "val"] * 200, ordered=True)
    ordered = opened(made).score(LONG, is_last=True)
    other = Extracted(open_or_create_workspace(tmp_path / "other"), embed_dim=12, job_size=20)
    add(other, 600)
    shuffled = opened(other).score(LONG, is_last=True)
    assert ordered.low <= shuffled.accuracy <= ordered.high
    assert shuffled.low <= ordered.accuracy <= shuffled.high


@pytest.mark.usefixtures("as_given")
def test_while_classes_are_to_come_the_interval_holds_what_all_of_them_will_score(made):
    add(made, 600, ["train", "train", "val"] * 200, ordered=True)
    [dataset] = made.workspace.manifests.iterdir()

    class Early(AnytimeScore):
        def _new_jobs(self):
            yield from list(super()._new_jobs())[:13]

    early, last = Early(made.workspace, made.folder, dataset).score(LONG), opened(made).score(LONG, is_last=True)
    assert (early.coming, last.coming) == (1, 0)
    assert early.unseen == pytest.approx(1 / 3, abs=0.05)
    assert early.low <= last.accuracy <= early.high
    assert early.low < early.accuracy - early.unseen / 2
    assert f"2 of {last.classes} classes" in early.words


def test_labels_are_counted_as_they_are_now(made):
    cloud = clouds(30)
    features, names = np.asarray(cloud.source.features), [f"{i}.png" for i in range(30)]
    made.add(features, ["a"] * 20 + ["b"] * 10, names=names)
    made.add(features, ["a"] * 10 + ["c"] * 10 + ["b"] * 9 + [""], names=names, finish=False)
    manifest = opened(made)._manifest
    assert manifest.label_counts(manifest.parts[0].path.name) == {"a": 10, "c": 10, "b": 9}


def test_a_torn_shard_costs_its_own_images_alone(made):
    add(made)
    next(iter(sorted(made.folder.glob("shards/*/*")))).write_bytes(b"torn")
    assert opened(made).score(LONG, is_last=True).images == 280


def test_memory_is_bounded_by_what_is_kept(made, monkeypatch):
    monkeypatch.setattr(anytime_score, "_MOST_JUDGED", 40)
    add(made)
    score = opened(made).score(LONG, is_last=True)
    assert 40 <= score.judged < 60
    assert score.images == 300
