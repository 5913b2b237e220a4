"""What docs and help name exists: commands with their options, files, make's targets, links; one version."""

import importlib.util
import re
import shlex
import tomllib
from collections.abc import Iterator
from pathlib import Path

import click
import pytest
import yaml

from benchmarks.__main__ import benchmarks
from cli.main import mailstream

ROOT = Path(__file__).parents[2]
PAGES = {
    str(path.relative_to(ROOT)): path.read_text()
    for pattern in ("*.md", "docs/*.md", "docs/performance/*.md", "helm/README.md", "examples/README.md")
    for path in sorted(ROOT.glob(pattern))
}
RUNBOOK = PAGES["docs/RUNBOOK.md"]
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
BENCHMARKS = {name for name, _ in benchmarks()}
_FENCE = re.compile(r"^```[^\n]*\n(.*?)^```", re.MULTILINE | re.DOTALL)
# Up to a comment, a pipe, a redirection, or the end of what quotes the command.
_COMMAND = re.compile(
    r"(?:^|[\s(\"/])(?<!template )(?<!install )mailstream +([a-z][^`\n#)]*?)(?= +[|<>#;]|`|\n|\)|$)"
)


def quoted(text: str) -> Iterator[str]:
    """What stands in backticks, each as one line."""
    return (" ".join(found.split()) for found in re.findall(r"`([^`]+)`", _FENCE.sub("", text)))


def lines(text: str) -> Iterator[str]:
    """The lines of blocks of code."""
    for block in _FENCE.findall(text):
        yield from block.replace("\\\n", " ").splitlines()


def resolved(words: list[str]) -> list[click.Command]:
    """The command that words begin with, taken from them; all of them where one is a|b|c."""
    commands: list[click.Command] = [mailstream]
    context = click.Context(mailstream)
    while words and isinstance(commands[0], click.Group):
        found = [commands[0].get_command(context, name) for name in words[0].split("|")]
        commands = [command for command in found if command is not None]
        assert len(commands) == len(found), words[0]
        del words[0]
    return commands


def parsed(line: str) -> None:
    """Fails where the command would refuse its words: an unknown option, one too many, one missing."""
    words = shlex.split(line)
    for command in resolved(words):
        assert not isinstance(command, click.Group), line
        context = click.Context(command)
        given, left, _ = command.make_parser(context).parse_args(list(words))
        assert not left, (line, left)
        missing = [
            option.name for option in command.params if option.required and not given.get(option.name or "")
        ]
        assert not missing, (line, missing)


WRITTEN_OUT = sorted({m for text in PAGES.values() for line in lines(text) for m in _COMMAND.findall(line)})
MENTIONED = sorted({m for text in PAGES.values() for said in quoted(text) for m in _COMMAND.findall(said)})


@pytest.mark.parametrize("line", WRITTEN_OUT)
def test_a_command_of_a_block_would_be_taken(line: str) -> None:
    parsed(line)


@pytest.mark.parametrize("line", MENTIONED)
def test_a_command_in_a_sentence_exists_with_its_options(line: str) -> None:
    words = re.sub(r"[\[\]]", " ", line).split()
    known = {option for command in resolved(words) for each in command.params for option in each.opts}
    assert {part for word in words for part in word.split("|") if part.startswith("--")} <= known


def test_many_commands_are_looked_at() -> None:
    assert len(WRITTEN_OUT) > 60
    assert len(MENTIONED) > 60


def commands(command: click.Command, name: str) -> Iterator[tuple[str, click.Command]]:
    if not isinstance(command, click.Group):
        yield name, command
        return
    context = click.Context(command)
    for inner in command.list_commands(context):
        found = command.get_command(context, inner)
        assert found is not None
        yield from commands(found, f"{name} {inner}")


@pytest.mark.parametrize(
    ("name", "command"), commands(mailstream, "mailstream"), ids=lambda value: str(value)
)
def test_help_has_an_example_that_would_be_taken(name: str, command: click.Command) -> None:
    _, example, said = (command.help or "").partition("Example: ")
    assert example
    found = _COMMAND.findall(" ".join(said.split()).replace(", and when that has been read:", " ;"))
    assert found
    assert any(f"mailstream {line}".startswith(name) for line in found)
    for line in found:
        parsed(line)


@pytest.mark.parametrize("page", PAGES)
def test_what_a_page_calls_is_there(page: str) -> None:
    """Targets of make, modules and scripts of Python, files of tests, and the other pages."""
    text = PAGES[page]
    code = "\n".join((*lines(text), *quoted(text)))
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    assert set(re.findall(r"^\W*make ([a-z-]+)", code, re.MULTILINE)) <= targets
    for module in re.findall(r"\bpython3? -m ((?:benchmarks|tests|cli|connectors)[\w.]*)", code):
        assert importlib.util.find_spec(module) is not None, module
    for named in re.findall(r"(?:^|\bpython -m )benchmarks ([a-z][\w|-]*)", code, re.MULTILINE):
        assert {name.replace("_", "-") for name in named.split("|")} <= BENCHMARKS, named
    for file in re.findall(r"(?:^|\s)((?:tests|scripts|examples|helm|docs)/[\w/.-]+\.\w+)", code):
        assert (ROOT / file).exists(), file
    for target in re.findall(r"\]\(([^)]+)\)", _FENCE.sub("", text)):
        path, _, anchor = target.partition("#")
        if "://" not in target:
            aim = ROOT / page if not path else (ROOT / page).parent / path
            assert aim.exists(), target
            assert not anchor or anchor in anchors(aim.read_text()), target


def anchors(text: str) -> set[str]:
    titles = re.findall(r"^#+ (.*)$", text, re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}


@pytest.mark.parametrize("title", SECTIONS)
def test_the_runbook_has_a_section(title: str) -> None:
    assert re.search(rf"^## {title}$", RUNBOOK, re.MULTILINE)


def test_there_is_one_version_and_the_changelog_begins_with_it() -> None:
    version = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    chart = yaml.safe_load((ROOT / "helm" / "Chart.yaml").read_text())
    assert (chart["version"], chart["appVersion"]) == (version, version)
    [first, *_] = re.findall(r"^## (\S+)", PAGES["CHANGELOG.md"], re.MULTILINE)
    assert first in (version, "Unreleased")
