"""One extract worker a test, over stand-ins."""

from pathlib import Path

import pytest

from streams import message as message_module
from streams.attempts import Attempts
from streams.dead_letters import DeadLetters
from streams.documents import Documents
from streams.extract import Extract
from streams.message import MessageExtractor
from tests.extracting import PARTITIONS, Broker, Client, Engine, Mailboxes


@pytest.fixture
def broker() -> Broker:
    return Broker()


@pytest.fixture
def client() -> Client:
    return Client()


@pytest.fixture
def mailboxes(client: Client) -> Mailboxes:
    return Mailboxes(client)


@pytest.fixture
def engine() -> Engine:
    return Engine()


@pytest.fixture
def attempts_path(tmp_path: Path) -> Path:
    return tmp_path / "attempts.json"


@pytest.fixture(autouse=True)
def _impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(message_module, "PATIENCE_SECONDS", 0.0)


@pytest.fixture
def extract(broker: Broker, mailboxes: Mailboxes, engine: Engine, attempts_path: Path) -> Extract:
    documents = Documents(broker, PARTITIONS)  # type: ignore[arg-type]
    return Extract(
        mailboxes,  # type: ignore[arg-type]
        MessageExtractor(engine, documents),  # type: ignore[arg-type]
        documents,
        DeadLetters(broker, "fast"),  # type: ignore[arg-type]
        Attempts(attempts_path),
        "fast",
    )
