import numpy as np
import pytest

from headstart.commands.output.evaluation import evaluation_lines
from headstart.experiments.evaluation.evaluate_run import RunEvaluation
from headstart.experiments.evaluation.metrics import classification_metrics
from headstart.experiments.runs.catalog import Chosen
from headstart.experiments.runs.database.database import Run


def judged(classes: int, label: str = "c{:02d}") -> RunEvaluation:
    """Class 7 is taken for class 3 thirty times, class 1 for class 2 five times; all else is right."""
    codes = np.repeat(np.arange(classes), 40)
    said = codes.copy()
    said[np.flatnonzero(codes == 7)[:30]] = 3
    said[np.flatnonzero(codes == 1)[:5]] = 2
    names = tuple(label.format(number) for number in range(classes))
    metrics = classification_metrics(np.eye(classes)[said] * 0.9 + 0.1 / classes, codes, names)
    run = Run(4, "exp_0002_many", "linear", "classification", {})
    return RunEvaluation(Chosen(run, None), "test", names, metrics, {}, True)


def test_of_many_classes_the_hardest_and_what_they_are_taken_for_are_shown():
    lines = list(evaluation_lines(judged(60)))
    start = lines.index("the 10 hardest of 60 classes (--json has all)")
    assert lines[start + 2].startswith("c07 ")
    assert len([line for line in lines[start + 2 :] if line.startswith("c")]) == 10
    start = lines.index("most frequent confusions, of 35 (--json has the whole matrix)")
    assert lines[start + 1 :] == ["    30  c07 taken for c03", "     5  c01 taken for c02"]


@pytest.mark.parametrize("columns", [40, 80, 200])
def test_a_confusion_matrix_is_shown_where_it_fits(monkeypatch, columns):
    monkeypatch.setenv("COLUMNS", str(columns))
    lines = list(evaluation_lines(judged(12, "class{:02d}")))
    matrix = "confusion matrix: a line for each true class, a column for each answer"
    assert (matrix in lines) == (columns == 200)
    assert max(map(len, lines)) <= max(columns, 80)


def test_no_class_name_breaks_a_line():
    lines = list(evaluation_lines(judged(10, "a\nb\x1b[31m{}")))
    assert all("\n" not in line and "\x1b" not in line for line in lines)
