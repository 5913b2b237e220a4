"""The runbook names commands and options that exist, and the sections that operators look for."""

import re
from pathlib import Path

import click
import pytest

from cli.main import mailstream

PAGE = (Path(__file__).parents[3] / "docs/RUNBOOK.md").read_text()
NAMED = sorted(
    set(re.findall(r"(?:^|`|\$\(|= )(?:[A-Z_]+=\S+ )?(?:\$ )?mailstream ([a-z][^`#\n|)]*)", PAGE, re.M))
)
SECTIONS = (
    "Start",
    "Scale",
    "Upgrade without downtime",
    "Rotate keys",
    "Restore from nothing",
    "Lost Kafka topic",
    "GDPR purge",
    "Expired watches",
    "Growing lag",
    "Quota exhausted",
    "Poison storm",
)


@pytest.mark.parametrize("line", NAMED)
def test_a_command_exists_with_its_options(line: str) -> None:
    words = line.split()
    context = click.Context(mailstream)
    command: click.Command = mailstream
    while isinstance(command, click.Group) and words:
        found = command.get_command(context, words.pop(0))
        assert found is not None, line
        command = found
    known = {option for parameter in command.params for option in parameter.opts}
    assert {word for word in words if word.startswith("--")} <= known


def test_many_commands_are_looked_at() -> None:
    assert len(NAMED) > 20


@pytest.mark.parametrize("title", SECTIONS)
def test_a_section_is_there(title: str) -> None:
    assert re.search(rf"^## {title}$", PAGE, re.MULTILINE)
