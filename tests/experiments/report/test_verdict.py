"""The sentence at the top says no more than the numbers do."""

import pytest

from headstart.experiments.report.standings import Standing, Standings, standings_of
from headstart.experiments.report.verdict import Difference, Judged, frequent_confusions, verdict_of

RIDGE = Standing("ridge", True, 0.942, 0.910, 0.963, 0.945)
MLP = Standing("mlp-512", False, 0.939, 0.906, 0.960, 0.950)


def standing(name="mlp-512", value=0.939, low=0.906, high=0.960, is_baseline=False, validation=0.95):
    return Standing(name, is_baseline, value, low, high, validation)


def said(
    shown=MLP,
    others=(RIDGE,),
    units=309,
    unit_words="images",
    commonest=("7", 0.104),
    against=None,
    pairs=(),
    split="test",
    metric="accuracy",
    is_selected=True,
    unsure_of=(),
):
    standings = Standings(metric, split, 309, 310, shown, tuple(others))
    parts = verdict_of(Judged(standings, units, unit_words, commonest, against, pairs, unsure_of), is_selected)
    return "".join(part.words for part in parts), [part.words for part in parts if part.is_claim]


CLAIMS = {
    "intervals overlap": ({}, "not clearly better than ridge"),
    "paired difference is above zero": ({"against": Difference(0.03, 0.01, 0.05)}, "better than ridge"),
    "paired difference is below zero": ({"against": Difference(-0.03, -0.05, -0.01)}, "worse than ridge"),
    "paired difference holds zero": ({"against": Difference(0.01, -0.01, 0.03)}, "not clearly better than ridge"),
    "paired difference touches zero": ({"against": Difference(0.01, 0.0, 0.03)}, "not clearly better than ridge"),
    "interval lies above": ({"others": [standing("ridge", 0.8, 0.75, 0.85, True, 0.81)]}, "better than ridge"),
    "interval lies below": ({"others": [standing("ridge", 0.99, 0.98, 0.995, True, 0.99)]}, "worse than ridge"),
    "interval holds the commonest class": ({"commonest": ("yes", 0.95)}, "no better than always saying 'yes'"),
    "interval is below the commonest class": ({"commonest": ("yes", 0.97)}, "worse than always saying 'yes'"),
    "few images": ({"units": 29}, "too few to tell"),
    "few groups": ({"units": 12, "unit_words": "groups"}, "too few to tell"),
    "no number": ({"shown": standing(value=None, low=None, high=None)}, "cannot be said"),
    "correlation that may be none": (
        {"metric": "pearson", "commonest": None, "shown": standing(value=0.1, low=-0.1, high=0.3)},
        "no better than chance",
    ),
    "a baseline that is as good as what was trained": (
        {"shown": standing("ridge", is_baseline=True), "others": [standing("linear", 0.93, 0.90, 0.95)]},
        "not clearly better than linear",
    ),
}


@pytest.mark.parametrize(("given", "claim"), CLAIMS.values(), ids=CLAIMS)
def test_the_claim_follows_from_the_numbers(given, claim):
    _, claims = said(**given)
    assert claims[1:] == [claim]


def test_enough_images_are_thirty():
    assert said(units=30)[1][1] == "not clearly better than ridge"


def test_the_best_baseline_is_the_one_that_validation_likes_best_not_test():
    lucky = standing("lda", 0.99, 0.98, 1.0, True, 0.80)
    assert said(others=[lucky, RIDGE])[1] == ["mlp-512", "not clearly better than ridge"]


def test_a_score_without_a_test_split_is_said_to_flatter():
    assert "no test split" in said(split="val")[0]
    assert "no test split" not in said(split="test")[0]


def test_a_head_that_was_not_chosen_is_not_said_to_be():
    words, _ = said(is_selected=False)
    assert "validation chose another head" in words
    assert "was chosen" not in words


def test_no_mistake_is_said():
    assert "none is wrong" in said(pairs=[])[0]


PAIRS = {
    "one pair": ([("4", "7")] * 3 + [("a", "b"), ("c", "d")], [("4", "7", 3)]),
    "two pairs that have nothing to do with each other": (
        [("4", "7")] * 3 + [("8", "9")] * 2 + [("a", "b")],
        [("4", "7", 3), ("8", "9", 2)],
    ),
    "both directions count": ([("4", "7"), ("7", "4"), ("a", "b")], [("4", "7", 2)]),
    "spread over many": ([(f"{i}", f"{i + 1}") for i in range(0, 40, 2)], []),
    "less than a tenth": ([("4", "7")] * 2 + [(f"{i}", f"{i + 1}") for i in range(10, 50, 2)], []),
    "three of four": (
        [("a", "b")] * 5 + [("c", "d")] * 4 + [("e", "f")] * 3 + [("g", "h")] * 2,
        [("a", "b", 5), ("c", "d", 4), ("e", "f", 3)],
    ),
}


@pytest.mark.parametrize(("pairs", "named"), PAIRS.values(), ids=PAIRS)
def test_the_pairs_of_classes_that_are_confused_often_are_named(pairs, named):
    assert frequent_confusions(pairs) == named


def test_each_number_in_the_sentence_is_of_its_own_pair():
    words, _ = said(pairs=[("4", "7")] * 3 + [("9", "8")] * 2 + [("a", "b")])
    assert "The 6 mistakes of mlp-512: 3 between '4' and '7'; 2 between '8' and '9'; 1 between others." in words


def test_what_is_between_others_says_how_often_the_most_frequent_of_them_is():
    words, _ = said(pairs=[("a", "b")] * 5 + [("c", "d")] * 4 + [("e", "f")] * 3 + [("h", "g"), ("g", "h"), ("i", "j")])
    assert "3 between 'e' and 'f'; 3 between others, at most 2 between any two." in words


def test_of_pairs_that_are_as_frequent_all_are_named_or_none():
    tied = [("c", "d")] * 2 + [("e", "f")] * 2 + [("g", "h")] * 2
    assert frequent_confusions([("a", "b")] * 3 + tied) == [("a", "b", 3)]
    assert len(frequent_confusions([("a", "b")] * 3 + tied[:4])) == 3


def test_why_the_best_on_validation_was_not_chosen_is_said():
    wide = standing("wide", validation=0.96)
    assert "none against" in said(unsure_of=["of a file that was changed"])[0]
    words, _ = said(unsure_of=["wide"], others=[RIDGE, wide])
    assert "wide did better there (96.0 % against 95.0 %), but that may be luck, so the simpler one is taken." in words


def test_of_few_mistakes_no_sentence_is_made():
    assert "mistakes" not in said(pairs=[("4", "7")] * 3)[0]


def entry(kind, name, test, val):
    def metrics(value):
        return {"images": 10, "accuracy": value, "accuracy_interval": [value - 0.1, value + 0.1]}

    return {kind: name, "val": metrics(val), "test": metrics(test)}


def test_standings_are_of_the_test_split_the_best_first():
    metrics = {
        "heads": [entry("head", "a", 0.7, 0.8), entry("head", "b", 0.9, 0.6), {"head": "diverged", "has_diverged": True}],
        "baselines": [entry("baseline", "ridge", 0.8, 0.7)],
        "rows": {"train": 5, "val": 10, "test": 10, "images": 25},
    }
    standings = standings_of(metrics, "a")
    assert (standings.split, standings.shown.value, standings.shown.on_validation) == ("test", 0.7, 0.8)
    assert [(each.name, each.is_baseline) for each in standings.others] == [("b", False), ("ridge", True)]
