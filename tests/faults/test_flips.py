"""A sample of `make flips`: a flipped bit of any file is noticed with one line, or without any effect."""

from .flips import run


def test_a_flipped_bit_of_any_file_is_noticed_or_without_effect():
    outcomes = run(bits=2)
    assert len(outcomes) > 25
    assert {
        outcome.target.name: (outcome.silent, outcome.errors) for outcome in outcomes if outcome.silent or outcome.errors
    } == {}
    assert sum(outcome.noticed for outcome in outcomes) > 20
