"""docs/api.md says what the docstrings say, of everything that the package offers."""

import headstart
from tools.write_api_docs import PATH, api_reference


def test_the_reference_is_what_the_docstrings_say_now():
    assert PATH.read_text(encoding="utf-8") == api_reference(), "stale: python -m tools.write_api_docs"


def test_every_public_name_stands_there_and_has_a_docstring():
    text = PATH.read_text(encoding="utf-8")
    for name in headstart._PUBLIC:
        assert f"### {name}\n" in text
        assert getattr(headstart, name).__doc__, name


def test_what_the_package_offers_and_what_it_names_are_the_same():
    assert sorted(headstart.__all__) == sorted([*headstart._PUBLIC, "__version__"])
