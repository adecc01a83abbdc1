"""Charts draw the numbers that lie beside them."""

import re
from collections import Counter
from dataclasses import replace
from xml.etree import ElementTree

import numpy as np
import pytest

from headstart.experiments.data.feature_source import ArrayFeatures
from headstart.experiments.data.training_data import TrainingData
from headstart.experiments.report.anytime import anytime_curve
from headstart.experiments.report.figures.charts import (
    NARROW,
    WIDE,
    classes_chart,
    learning_chart,
    reliability_chart,
    standings_chart,
    timeline_chart,
)
from headstart.experiments.report.figures.svg import apart, ticks
from headstart.experiments.report.projection import fitted, maps_of
from headstart.experiments.report.standings import Standing, Standings
from headstart.experiments.report.timeline import JobSpan, Timeline
from tests.experiments.samples import clouds


def training(count):
    data = clouds(count)
    return TrainingData(data.source, data.targets, data.train, data.val)


def standings(count):
    others = tuple(Standing(f"head {i}", i % 2 == 0, 0.9 - i / 100, 0.8, 0.95, 0.9) for i in range(count))
    return Standings("accuracy", "test", 100, 100, Standing("shown", False, 0.1, 0.05, 0.2, 0.95), others)


def drawn(chart, width):
    return ElementTree.fromstring(chart.draw(width).file())


@pytest.mark.parametrize("width", [WIDE, NARROW])
@pytest.mark.parametrize("count", [0, 1, 5, 300])
def test_the_shown_head_is_drawn_however_many_others_are_better(count, width):
    chart = standings_chart(standings(count))
    texts = [element.text for element in drawn(chart, width).iter() if element.tag.endswith("text")]
    assert "shown" in texts
    assert len(chart.numbers) == count + 1


def test_f1_lies_within_its_interval_and_the_worst_class_is_first():
    matrix = [[8, 2, 0], [0, 10, 0], [0, 0, 0]]
    per_class = {"a": {"f1": 16 / 18, "images": 10}, "b": {"f1": 20 / 22, "images": 10}, "never": {"f1": 0.0, "images": 0}}
    rows = classes_chart(per_class, matrix).numbers
    assert [row["class"] for row in rows] == ["a", "b"]  # a class that is nowhere has no score
    assert all(row["low"] < row["f1"] < row["high"] for row in rows)


def test_reliability_counts_every_image_once():
    confidence = [0.05, 0.5, 0.55, 0.999, 1.0]
    points = reliability_chart(confidence, [False, True, False, True, True]).numbers
    assert sum(point["images"] for point in points) == 5
    assert points[-1]["right"] == 1.0


def test_jobs_of_two_workers_stand_in_two_rows():
    jobs = tuple(JobSpan(f"job_{i:06d}", i % 2, 1.0 + i, 1.0, 64, int(i == 3), 10**8) for i in range(6))
    root = drawn(timeline_chart(Timeline(jobs, 2, None, 6.0)), WIDE)
    rectangles = [element for element in root.iter() if element.tag.endswith("rect")]
    assert len({float(each.get("y")) for each in rectangles}) == 2
    assert [each.get("class") for each in rectangles].count("bar wrong") == 1


def test_ticks_are_round_and_within():
    assert ticks(0.8031, 0.9512, 4) == [0.85, 0.9, 0.95]
    assert ticks(3.0, 3.0) == [3.0]


def test_labels_are_moved_apart_in_their_order():
    moved = apart([10, 11, 50], 15, 0, 100)
    assert moved == [10, 25, 50]
    assert apart([95, 96, 97], 15, 0, 100) == [70, 85, 100]


def test_maps_are_the_same_for_the_same_features_and_keep_clouds_apart():
    data = clouds(300)
    everything = np.arange(len(data.source))
    first, again = maps_of(data.source, everything, everything), maps_of(data.source, everything, everything)
    assert [each.name for each in first] == ["t-SNE", "PCA"]
    for one, other in zip(first, again, strict=True):
        np.testing.assert_array_equal(one.points, other.points)
        assert one.points.min() >= 0
        assert one.points.max() <= 1


@pytest.mark.parametrize("rows", [np.zeros((3, 4)), np.eye(5, 4), np.zeros((40, 4))], ids=["three equal", "five", "forty equal"])
def test_few_or_equal_images_have_a_map(rows):
    maps = maps_of(ArrayFeatures(rows.astype(np.float16)), np.arange(len(rows)), np.arange(len(rows)))
    assert all(np.isfinite(each.points).all() for each in maps)


def test_points_are_scaled_alike_on_both_axes():
    points = fitted(np.array([[0.0, 0.0], [10.0, 0.0], [0.0, 5.0]]))
    assert np.ptp(points[:, 0]) == pytest.approx(1.0)
    assert np.ptp(points[:, 1]) == pytest.approx(0.5)


def test_the_anytime_curve_ends_with_all_images_and_its_first_points_know_only_the_first():
    data = training(600)
    curve = anytime_curve(data, np.arange(len(data.source), dtype=float))
    assert [point.images for point in curve] == sorted({point.images for point in curve})
    assert curve[-1].images == len(data.train) + len(data.val)
    assert curve[-1].judged == len(data.val)
    assert all(point.low <= point.accuracy <= point.high for point in curve)


def test_later_images_change_nothing_in_what_was_known_before():
    data = training(600)
    arrival = np.arange(len(data.source), dtype=float)
    whole = anytime_curve(data, arrival)
    half = whole[len(whole) // 2]
    used = np.sort(np.concatenate([data.train, data.val]))
    late = set(used[np.argsort(arrival[used])][half.images :].tolist())
    spoiled = np.array(data.source.take(np.arange(len(data.source))))
    spoiled[sorted(late)] = 0
    again = anytime_curve(replace(data, source=ArrayFeatures(spoiled)), arrival)
    assert again[len(whole) // 2] == half


def test_the_epoch_that_was_kept_is_marked_for_every_head_that_is_named():
    courses = {name: {"epochs": [{"epoch": e, "val_score": e / 10} for e in range(9)]} for name in ("one", "two")}
    chart = learning_chart({"monitor": "accuracy", "heads": courses}, "a baseline", {"one": 3, "two": None})
    notes = [each.text for each in drawn(chart, WIDE).iter() if each.tag.endswith("title")]
    assert [note for note in notes if note and note.startswith("kept")] == ["kept: epoch 4"]


def test_line_dot_and_name_of_a_head_have_one_colour_that_no_other_has():
    courses = {name: {"epochs": [{"epoch": e, "val_score": e / 10} for e in range(9)]} for name in ("one", "two", "shown")}
    chart = learning_chart({"monitor": "accuracy", "heads": courses}, "shown", dict.fromkeys(courses, 3))
    coloured = [each for each in drawn(chart, WIDE).iter() if re.search("hue|chosen", each.get("class", ""))]
    styles = Counter(each.get("class").removeprefix("line ").removesuffix(" bold") for each in coloured)
    assert styles == {"hue0": 3, "hue1": 3, "chosen": 3}


@pytest.mark.parametrize("others", [0, 3], ids=["one head", "with baselines"])
def test_what_the_standings_are_of_is_written_below_them(others):
    words = [each.text for each in drawn(standings_chart(standings(others)), WIDE).iter() if each.text]
    assert f"Accuracy on test images{'; grey: baselines' if others else ''}" in words
