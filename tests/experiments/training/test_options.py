"""Options of a recipe, as its class and the classes below it declare them."""

from dataclasses import dataclass

import pytest

from headstart.experiments.training.options import RecipeOptions, SampleOptions, fields_of, option, options_from
from headstart.pipeline.errors import HeadstartError


@dataclass(frozen=True)
class Pictures(RecipeOptions):
    image_size: int = option(32, "pixels of an edge", at_least=16)


@dataclass(frozen=True)
class Large(Pictures):
    image_size: int = 256
    epochs: int = 3
    width: int = option(8, "channels")


@dataclass(frozen=True)
class Sampling(SampleOptions):
    seed: int = 7


def said_of(options, name):
    [field] = [field for field in fields_of(options) if field.name == name]
    return field.default, field.about.help, field.about.at_least


def test_another_default_keeps_what_the_nearest_base_says_of_the_option():
    assert said_of(Large, "image_size") == (256, "pixels of an edge", 16)
    assert said_of(Large, "epochs") == (3, "times that every training row is seen", 1)
    assert said_of(Sampling, "seed") == (7, "of everything that is drawn: the same seed, the same samples", 0)
    with pytest.raises(HeadstartError, match="image_size is 8, expected 16 or more"):
        options_from(Large, {"image_size": 8})


def test_options_of_its_own_come_first_those_of_a_base_before_them():
    assert [field.name for field in fields_of(Large)][:3] == ["image_size", "width", "epochs"]
