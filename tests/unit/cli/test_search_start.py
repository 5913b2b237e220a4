"""A search from a terminal starts in a moment: it imports no more than it needs, and the model beside it."""

import os
import signal
import subprocess
import sys
import time
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner

from cli import mailbox, search
from connectors import encoder
from connectors.errors import ConfigurationError, UnavailableError
from schemas.events import MailboxRecord
from search.labels import LabelDirectories
from search.results import Results
from tests.processes import runs

HEAVY = {"numpy", "prometheus_client", "onnxruntime", "tokenizers", "aiokafka", "faust", "httpx", "requests"}
IMPORTED = f"""
import sys
from cli import search
from connectors.elasticsearch import Index
from search.retrieval import Retrieval
print(*sorted({HEAVY!r} & sys.modules.keys()))
"""
WAITING = """
import time
from cli.search import _ForkedEncoder
encoder = _ForkedEncoder("hash")
encoder.encode(["there"])
[process] = encoder._process._processes
print(process, flush=True)
time.sleep(60)
"""


def test_a_search_by_words_imports_no_model_and_no_broker() -> None:
    ran = subprocess.run([sys.executable, "-c", IMPORTED], capture_output=True, text=True, check=True)
    assert ran.stdout.split() == []


def test_vectors_from_the_process_beside_are_those_of_the_encoder() -> None:
    texts = ["penalty for late delivery", "holiday"]
    vectors = search._ForkedEncoder("hash").encode(texts)
    assert np.array_equal(np.array(vectors, np.float32), encoder.open_encoder("hash").encode(texts))


def test_what_its_loading_raises_is_raised_here(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(name: str) -> encoder.Encoder:
        raise ConfigurationError(f"the model of {name} cannot be read")

    monkeypatch.setattr(encoder, "open_encoder", missing)
    with pytest.raises(ConfigurationError, match="the model of minilm cannot be read"):
        search._ForkedEncoder("minilm").encode(["anything"])


def test_its_death_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(encoder, "open_encoder", lambda name: os._exit(1))
    with pytest.raises(UnavailableError, match="memory"):
        search._ForkedEncoder("minilm").encode(["anything"])


def test_it_ends_with_whoever_began_it() -> None:
    with subprocess.Popen([sys.executable, "-c", WAITING], stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout is not None
        process = int(parent.stdout.readline())
        assert runs(process)
        parent.send_signal(signal.SIGKILL)
    for _ in range(600):
        if not runs(process):
            return
        time.sleep(0.05)
    os.kill(process, signal.SIGKILL)
    pytest.fail("it outlived the search")


def test_a_mailbox_is_named_by_its_address_too(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[list[str] | None] = []

    async def find(*arguments: Any) -> tuple[Results, LabelDirectories]:
        asked.append(arguments[4])
        return Results([]), LabelDirectories({})

    async def registered(config: object) -> list[MailboxRecord]:
        return [MailboxRecord(mailbox_id="a" * 32, address="Anna@example.com")]

    monkeypatch.setattr(search, "find", find)
    monkeypatch.setattr(mailbox, "registered", registered)
    for name in ("anna@example.com", "forgotten"):
        assert CliRunner().invoke(search.search, ["boiler", "--mailbox", name]).exit_code == 0
    assert asked == [["a" * 32], ["forgotten"]]
    refused = CliRunner().invoke(search.search, ["boiler", "--mailbox", "nobody@example.com"])
    assert isinstance(refused.exception, ConfigurationError)
    assert "nobody@example.com" in str(refused.exception)
