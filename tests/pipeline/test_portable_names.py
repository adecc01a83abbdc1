"""Names that every system lets be."""

import pytest

from headstart.pipeline.portable_names import is_portable, portable_name


@pytest.mark.parametrize(
    "name", ["a", "residual_noise", "design_000001.png", "00000_sell_poster_0.1.png", "console", "com10", "a-b.C", "x" * 120]
)
def test_a_name_that_every_system_lets_be_stays(name):
    assert is_portable(name)
    assert portable_name(name) == name


@pytest.mark.parametrize(
    "name",
    [
        *("", ".", "..", ".hidden", "-x", "a.", "a ", "a/b", "a\\b", "a:b", "a*", "a?", "a|b", 'a"b', "<a>", "é", "a\n", "a\0b"),
        *(
            "con",
            "CON",
            "aux.txt",
            "Nul.tar.gz",
            "COM1",
            "lpt9.png",
            "conin$",
            "x" * 121,
            "x" * 110 + ".yz?",
            "日本.png",
            "\ud800",
        ),
    ],
)
def test_another_becomes_one_that_is(name):
    assert not is_portable(name)
    assert is_portable(portable_name(name))


def test_it_is_like_the_other_and_keeps_its_suffix():
    assert portable_name("residual_noise/level.png").startswith("residual_noise_level-")
    assert portable_name("residual_noise/level.png").endswith(".png")
    assert portable_name("aux.txt").startswith("aux-")


def test_different_texts_stay_different():
    texts = ["a/b", "a:b", "a b", "a_b", "CON", "con", "", ".", "a/b.png", "a:b.png"]
    assert len({portable_name(text) for text in texts}) == len(texts)
