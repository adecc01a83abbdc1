import ast

import pytest

from . import identity
from .identity import STAGES, Outcome, outcome_of, outcomes
from .identity_mutants import IDENTITY_MUTANTS
from .mutants import MUTANTS
from .mutation import NOTHING, ROOT


@pytest.mark.parametrize("mutant", IDENTITY_MUTANTS, ids=lambda mutant: mutant.rule)
def test_every_mutant_finds_its_text_once_and_still_parses(mutant):
    text = (ROOT / mutant.file).read_text(encoding="utf-8")
    assert text.count(mutant.old) == 1
    ast.parse(text.replace(mutant.old, mutant.new))


def test_no_rule_is_taken_away_twice():
    rules = [mutant.rule for mutant in (*MUTANTS, *IDENTITY_MUTANTS)]
    assert len(set(rules)) == len(rules)


def test_what_is_asked_is_there():
    asked = [word for arguments in STAGES.values() for word in arguments if word.startswith("tests/")]
    assert [word for word in asked if not (ROOT / word).exists()] == []


def test_a_mutant_must_be_noticed_and_nothing_must_not():
    assert Outcome(IDENTITY_MUTANTS[0], "kills", 0.0).is_as_it_should_be
    assert not Outcome(IDENTITY_MUTANTS[0], "", 0.0).is_as_it_should_be
    assert Outcome(NOTHING, "", 0.0).is_as_it_should_be
    assert not Outcome(NOTHING, "kills", 0.0).is_as_it_should_be


@pytest.mark.parametrize("mutant", [IDENTITY_MUTANTS[0], NOTHING], ids=["a rule", "nothing"])
def test_a_mutant_whose_time_is_over_is_neither_noticed_nor_unnoticed(mutant):
    outcome = Outcome(mutant, "", 0.0, ("kills",))
    assert not outcome.is_decided
    assert not outcome.is_as_it_should_be
    assert Outcome(IDENTITY_MUTANTS[0], "kills", 0.0, ("tests of features",)).is_as_it_should_be  # another stage decided


def _heard(codes, asked):
    """Stands for `heard`: answers with these exit codes in turn, and keeps how long each was given."""

    def heard(arguments, folder, longest_s):
        asked.append(longest_s)
        return codes.pop(0), ""

    return heard


@pytest.fixture
def asked(monkeypatch):
    seconds = []
    monkeypatch.setattr(identity, "copy_with", lambda mutant, tree: None)
    return seconds


def test_a_stage_without_time_is_passed_over_and_the_next_ones_are_asked(monkeypatch, asked):
    monkeypatch.setattr(identity, "heard", _heard([0, None, 1], asked))
    outcome = outcome_of(IDENTITY_MUTANTS[0])
    assert (outcome.noticed_by, outcome.unfinished) == ([*STAGES][2], ([*STAGES][1],))


def test_what_was_not_decided_is_tried_again_with_more_time(monkeypatch, asked):
    monkeypatch.setattr(identity, "heard", _heard([None] * len(STAGES) + [0, 1], asked))
    [outcome] = outcomes(IDENTITY_MUTANTS[:1])
    assert (outcome.noticed_by, outcome.unfinished) == ([*STAGES][1], ())
    assert min(asked[len(STAGES) :]) > max(asked[: len(STAGES)])
