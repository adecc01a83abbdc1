from importlib import metadata

from headstart.pipeline.versions import versions_of
from tests.support import run_python


def test_versions_stand_in_the_order_asked_for_under_the_names_of_packages():
    assert list(versions_of("pillow", "numpy").items()) == [(name, metadata.version(name)) for name in ("pillow", "numpy")]


def test_a_module_that_does_not_say_its_version_has_that_of_its_package():
    assert versions_of("filelock", "typing_extensions") == {
        name: metadata.version(name) for name in ("filelock", "typing_extensions")
    }


def test_the_installed_packages_are_not_searched_where_a_module_says_its_version():
    asked = "import sys; from headstart.pipeline.versions import versions_of; versions_of('pillow')"
    status, output, errors = run_python(f"{asked}; print('importlib.metadata' in sys.modules)")
    assert (status, output.strip()) == (0, "False"), errors
