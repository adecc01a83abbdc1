import numpy as np
import pytest

from headstart.experiments.config import TrainingOptions
from headstart.experiments.data.statistics import standardization_from
from headstart.experiments.data.training_data import scaling_of
from headstart.experiments.heads.batches import BatchReader
from headstart.experiments.training.prefetch import ahead
from headstart.experiments.training.schedule import row_order
from tests.experiments.samples import clouds
from tests.experiments.trainings import data_of

DATA = data_of(clouds(60_000, embed_dim=2))  # 36,000 rows to learn from are shuffled in three goes


@pytest.mark.parametrize("by_blocks", [False, True])
@pytest.mark.parametrize("first", [0, 37, 160, 359])
def test_from_wherever_it_begins_an_epoch_has_the_rows_of_its_shuffle(first, by_blocks):
    options = TrainingOptions(epochs=2, batch_size=100, by_blocks=by_blocks)
    reader = BatchReader(DATA, scaling_of(DATA, standardization_from(DATA.source, DATA.train), False), options)
    found = {0: [], 1: []}
    for chunk in reader.chunks(0, first):
        found[chunk.epoch].append(chunk.features.numpy().copy())
    for epoch, begin in ((0, first * 100), (1, 0)):
        order = row_order(len(DATA.train), begin, len(DATA.train), options.seed, epoch, by_blocks)
        assert np.array_equal(np.concatenate(found[epoch]), DATA.source.take(DATA.train[order]))


def test_the_next_is_made_while_the_caller_works_and_no_more_than_that():
    made = []
    for count, found in enumerate(ahead(lambda place: (made.append(place), place)[1], range(5))):
        assert found == count
        assert len(made) <= count + 2
    assert made == list(range(5))
    assert list(ahead(str, [])) == []


def test_what_the_making_raises_reaches_the_caller():
    numbers = ahead(lambda number: 1 // number, [1, 0])
    assert next(numbers) == 1
    with pytest.raises(ZeroDivisionError):
        next(numbers)
