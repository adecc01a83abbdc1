import ast

import pytest

from .identity import STAGES, Outcome
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
