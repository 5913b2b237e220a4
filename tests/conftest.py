"""What all tests share: one stack of real servers a session, and names that nobody else uses."""

import os
import sys
import uuid
from collections.abc import Generator, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import settings

from devstack.stack import Stack, start_stack

if TYPE_CHECKING:
    from devstack.sample.mailbox import SampleSummary

# One run of `make test` tries what another does; HYPOTHESIS_PROFILE=random looks further, as test-full does.
settings.register_profile("same", derandomize=True)
settings.register_profile("random", derandomize=False)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "same"))

# Elsewhere a test that asks for a server is in the wrong folder.
FOLDERS_WITH_SERVERS = {"services", "kill", "contract"}
_STACK = pytest.StashKey[Stack]()
# Why a process of xdist's broke off, which ends the run: it stands far above the end of the output otherwise.
_broken: list[str] = []
BROKEN_LINES = 12


@pytest.fixture(scope="session")
def stack(pytestconfig: pytest.Config) -> Iterator[Stack]:
    """A real Kafka and a real Elasticsearch. A stack that does not start fails the tests that need it."""
    with start_stack(brief=True) as servers:
        pytestconfig.stash[_STACK] = servers
        yield servers
    del pytestconfig.stash[_STACK]


@pytest.fixture
def kafka_bootstrap(stack: Stack) -> str:
    """Kafka's address."""
    return stack.kafka_bootstrap


@pytest.fixture
def elasticsearch_url(stack: Stack) -> str:
    """Elasticsearch's address."""
    return stack.elasticsearch_url


@pytest.fixture(scope="session")
def sample(tmp_path_factory: pytest.TempPathFactory) -> "tuple[Path, SampleSummary]":
    """The sample mailbox as an mbox file, for reading only; writing it takes two seconds."""
    from devstack.sample.mailbox import write_sample_mailbox  # a second that few need

    path = tmp_path_factory.mktemp("sample") / "sample.mbox"
    return path, write_sample_mailbox(path)


@pytest.fixture
def unique_name() -> str:
    """A name for the topics, groups and indexes of one test."""
    return f"test-{uuid.uuid4().hex[:12]}"


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Unit tests start no servers: fail before anything is started."""
    for item in items:
        folders = set(item.path.relative_to(config.rootpath).parts)
        if "stack" in getattr(item, "fixturenames", ()) and not folders & FOLDERS_WITH_SERVERS:
            raise pytest.UsageError(f"{item.nodeid} needs servers: move it to one of {FOLDERS_WITH_SERVERS}")


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Show what the servers said last where a test that uses them fails."""
    report = yield
    servers = item.config.stash.get(_STACK, None)
    if report.failed and servers is not None and "stack" in getattr(item, "fixturenames", ()):
        for server in (servers.kafka, servers.elasticsearch):
            report.sections.append((f"{server.name}'s log", server.log_tail()))
    return report


@pytest.hookimpl(wrapper=True)
def pytest_report_to_serializable() -> Generator[None, Any, Any]:
    """xdist takes no text that is not UTF-8, and ends the run over one: hostile names are written out."""
    return encodable((yield))


def encodable(data: Any) -> Any:
    """The same, every text in it such as UTF-8 has it."""
    if isinstance(data, str):
        return data.encode("utf-8", "backslashreplace").decode()
    if isinstance(data, dict):
        return {encodable(key): encodable(value) for key, value in data.items()}
    if isinstance(data, list | tuple):
        return [encodable(each) for each in data]
    return data


def pytest_internalerror(excrepr: object) -> None:
    """Keep it for the end."""
    _broken.append(str(excrepr))


def pytest_unconfigure() -> None:
    """Say what broke first: after an error of its own pytest writes no summary."""
    for line in _broken[0].strip().splitlines()[-BROKEN_LINES:] if _broken else ():
        sys.stderr.write(f"BROKE OFF {line}\n")
