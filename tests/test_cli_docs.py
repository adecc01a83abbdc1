"""docs/cli.md says what the commands say, of every command and option."""

import click
import pytest

from headstart.cli import COMMANDS, group
from tools.write_cli_docs import PATH, reference


def test_the_reference_is_what_the_commands_say_now():
    assert PATH.read_text(encoding="utf-8") == reference(), "stale: python -m tools.write_cli_docs"


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_and_option_stands_there_with_a_word_on_what_it_does(name):
    text = PATH.read_text(encoding="utf-8")
    assert f"## headstart {name}\n" in text
    command = group.get_command(click.Context(group), name)
    for parameter in command.params:
        if isinstance(parameter, click.Option) and not parameter.hidden:
            assert parameter.help, parameter.name
            assert f"`{', '.join([*parameter.opts, *parameter.secondary_opts])}" in text
