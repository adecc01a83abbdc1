import numpy as np
import pytest

from headstart.experiments.data.feature_source import ArrayFeatures
from headstart.experiments.evaluation.metrics import probabilities_of
from headstart.experiments.serving.predict import answering, predict_images
from headstart.pipeline.errors import HeadstartError
from tests.experiments.made_heads import KINDS, made_head, rows


@pytest.mark.parametrize("kind", KINDS)
def test_answers_are_those_that_evaluation_judges(kind):
    head = made_head(kind)
    scores = head.scores(ArrayFeatures(rows().astype(np.float16)), np.arange(50))
    expected = probabilities_of(scores, head.config.output_for(head.task)) if head.task == "classification" else scores
    np.testing.assert_allclose(answering(head)(rows()), expected, atol=1e-6)


@pytest.mark.parametrize("kind", KINDS)
def test_an_answer_does_not_depend_on_its_batch(kind):
    answer = answering(made_head(kind))
    alone = np.concatenate([answer(row[None]) for row in rows()])
    np.testing.assert_allclose(alone, answer(rows()), rtol=1e-13)


def test_rows_of_another_length_are_refused():
    with pytest.raises(HeadstartError, match="takes rows of 8 numbers, got 7"):
        answering(made_head("deep softmax"))(rows(inputs=7))


def test_nothing_is_opened_for_no_images():
    assert list(predict_images(made_head("numbers"), [], None, [], lambda: pytest.fail("opened"))) == []
