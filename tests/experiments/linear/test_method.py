import sys

import pytest

import headstart.experiments.linear.methods
from headstart.experiments.config import BaselineOptions
from headstart.experiments.linear.baselines import fit_baselines
from headstart.experiments.linear.method import (
    is_baseline,
    known_methods,
    least_simplicity_of_trained,
    simplicity_of_baseline,
    title_of_baseline,
)
from headstart.pipeline.errors import HeadstartError
from tests.experiments.trainings import CLASSES, NUMBERS
from tests.support import run_python

SHIPPED = ("mean", "nearest-mean", "ridge", "lda", "logistic", "ridge-5-fold")
WHOLE = """
from headstart.experiments.linear.method import Baseline

SIMPLICITY = {simplicity}
PLACE = 25


def fit(fitting):
    import numpy as np

    from headstart.experiments.linear.closed_form import LinearHead

    shares = fitting.statistics.target_sums / fitting.statistics.count
    yield Baseline("{name}", {{}}, LinearHead(np.zeros((len(shares), fitting.source.embed_dim)), shares), {has_log_odds})
"""


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A folder whose modules are methods, too."""
    known = headstart.experiments.linear.methods.__path__
    monkeypatch.setattr(headstart.experiments.linear.methods, "__path__", [*known, str(tmp_path)])
    before = set(sys.modules)
    yield tmp_path
    for name in set(sys.modules) - before:
        if name.startswith("headstart.experiments.linear.methods."):
            del sys.modules[name]


def test_methods_that_ship_are_as_simple_as_they_always_were():
    assert [simplicity_of_baseline(name) for name in SHIPPED] == list(range(len(SHIPPED)))
    assert simplicity_of_baseline("of a later version") == len(SHIPPED) < least_simplicity_of_trained()


def test_each_method_that_ships_has_a_name_that_people_know():
    assert all(title_of_baseline(name) for name in SHIPPED)
    assert title_of_baseline("LDA").startswith("linear discriminant analysis: ")
    assert title_of_baseline("of a later version") == ""


def test_a_file_is_enough_for_a_baseline(folder):
    (folder / "commonest_class.py").write_text(WHOLE.format(name="commonest-class", simplicity=15, has_log_odds=True))
    fitted, _ = fit_baselines(CLASSES, BaselineOptions(logistic=True))
    assert [each.name for each in fitted] == ["ridge", "commonest-class", "logistic", "lda", "nearest-mean"]
    assert [each.name for each in fitted if each.has_log_odds] == ["commonest-class", "logistic"]
    assert [simplicity_of_baseline(name) for name in ("mean", "commonest-class", "nearest-mean")] == [0, 1, 2]
    assert title_of_baseline("commonest-class") == ""
    assert is_baseline("commonest-class")
    assert is_baseline("Commonest-Class")
    assert not is_baseline("commonest")


def test_a_module_whose_name_begins_with_an_underscore_is_no_method(folder):
    (folder / "_shared.py").write_text("raise AssertionError")
    assert len(known_methods()) == len(SHIPPED)


UNFINISHED = {
    "nothing": ("", r"unfinished\.py fits no baseline yet: SIMPLICITY is missing; PLACE is missing; fit\(fitting\) is missing"),
    "no place": ("SIMPLICITY = 1\ndef fit(fitting): ...\n", "yet: PLACE is missing. headstart.experiments.linear.method.Method"),
    "no number": ("SIMPLICITY = 'least'\nPLACE = 1\ndef fit(fitting): ...\n", "yet: SIMPLICITY is missing"),
    "other arguments": ("SIMPLICITY = PLACE = 1\ndef fit(): ...\n", r"yet: fit does not take \(fitting\)"),
}


@pytest.mark.parametrize(("text", "words"), UNFINISHED.values(), ids=UNFINISHED)
def test_an_unfinished_method_is_refused_by_what_it_lacks(folder, text, words):
    (folder / "unfinished.py").write_text(text)
    with pytest.raises(HeadstartError, match=words):
        known_methods()


def test_a_baseline_under_another_name_than_its_file_says_is_refused(folder):
    (folder / "commonest_class.py").write_text(WHOLE.format(name="ridge", simplicity=15, has_log_odds=False))
    with pytest.raises(HeadstartError, match="a method names a baseline 'ridge', expected commonest"):
        fit_baselines(NUMBERS)


def test_who_asks_which_there_are_loads_no_array():
    code = (
        "import sys; from headstart.experiments.linear.method import known_methods; print(len(known_methods()))\n"
        "print([name for name in ('numpy', 'scipy', 'sklearn', 'torch') if name in sys.modules])"
    )
    assert run_python(code) == (0, f"{len(SHIPPED)}\n[]\n", "")
