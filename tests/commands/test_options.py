import pytest

from tests.support import run_python


@pytest.mark.parametrize("module", ["data.enqueue", "running.plan", "training.train_head", "running.work"])
def test_a_command_is_imported_where_click_has_no_types_with_a_subscript(module):
    code = f"""
import click
def refuse(cls, converted):
    raise TypeError("type 'ParamType' is not subscriptable")
click.ParamType.__class_getitem__ = classmethod(refuse)
import headstart.commands.{module}
"""
    status, _, errors = run_python(code)
    assert status == 0, errors
