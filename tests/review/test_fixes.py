"""Every command that the review tells a reader to type exists, with the options it names."""

import re
from typing import Any

import pytest
import typer

from pilothouse.cli.main import app
from pilothouse.review.catalogue import ITEMS

COMMANDS = sorted({code for item in ITEMS for code in re.findall(r"`(pilothouse [^`]+)`", item.fix)})


@pytest.mark.parametrize("line", COMMANDS)
def test_the_command_exists(line):
    command: Any = typer.main.get_command(app)
    words = line.format(route="docs-answer", env="prod").split()[1:]
    while words and hasattr(command, "commands"):
        assert words[0] in command.commands, line
        command = command.commands[words.pop(0)]
    options = {name for parameter in command.params for name in (*parameter.opts, *parameter.secondary_opts)}
    assert {word for word in words if word.startswith("--")} <= options


def test_every_fix_that_can_be_typed_is():
    assert len(COMMANDS) >= 10
