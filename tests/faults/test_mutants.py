import ast

import pytest

from tests.faults import mutation

from .mutants import MUTANTS, Mutant
from .mutation import ROOT, Outcome, copy_with, noticed_by


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.rule)
def test_every_mutant_finds_its_text_once_and_still_parses(mutant):
    text = (ROOT / mutant.file).read_text(encoding="utf-8")
    assert text.count(mutant.old) == 1
    ast.parse(text.replace(mutant.old, mutant.new))


def test_a_mutant_whose_text_is_gone_is_no_mutant(tmp_path):
    with pytest.raises(ValueError, match="0 times"):
        copy_with(Mutant("a rule", "cli.py", "no such text", ""), tmp_path / "tree")


def test_a_campaign_notices_that_nothing_is_synced(tmp_path, monkeypatch):
    monkeypatch.setitem(mutation.SHORT, "power_cuts", 40)
    copy_with(next(mutant for mutant in MUTANTS if mutant.rule == "a published name is synced"), tmp_path / "tree")
    assert noticed_by("power_cuts", tmp_path / "tree") == "lost"


def test_a_mutant_must_be_noticed_and_nothing_must_not():
    missed = {"power_cuts": "", "zombies": ""}
    assert not Outcome(MUTANTS[0], missed, 0.0).is_as_it_should_be
    assert Outcome(MUTANTS[0], {**missed, "zombies": "lost"}, 0.0).is_as_it_should_be
    assert Outcome(mutation.NOTHING, missed, 0.0).is_as_it_should_be
    assert not Outcome(mutation.NOTHING, {**missed, "zombies": mutation.NO_TIME}, 0.0).is_as_it_should_be
    assert not Outcome(MUTANTS[0], {**missed, "zombies": mutation.NO_TIME}, 0.0).is_as_it_should_be
