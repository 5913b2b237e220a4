"""The examples for other teams, each by itself, over what the real pipeline has written."""

import os
from collections.abc import Iterator
from email.message import EmailMessage
from pathlib import Path

import pytest

from cli.pipeline import Pipeline
from connectors.clamav_check import EICAR
from devstack.gmail.mailfiles import MailBytes, RawMail, read_mail
from devstack.gmail.server import GmailEmulator
from devstack.stack import Stack
from tests.followers import LABEL, Said, Scanner, expected, follows, java, node, python
from tests.pipelines import pipeline, settle
from tests.serving import served

pytestmark = pytest.mark.timeout(900)

MBOX = os.environ.get("CONSUMERS_MBOX")  # further mail, at full size


def _mail(number: int) -> MailBytes:
    mail = EmailMessage()
    mail["From"] = f"Sender <{'bert' if number else 'anna'}@example.com>"
    mail["Subject"] = f"Harbour report {number} \N{ANCHOR}"
    mail.set_content("The lock gate was opened.")
    content = EICAR if number == 1 else b"low water"
    mail.add_attachment(content, maintype="text", subtype="plain", filename=f"annex-{number}.txt")
    return MailBytes(mail.as_bytes())


@pytest.fixture(scope="module")
def running(stack: Stack, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pipeline]:
    mails: list[RawMail] = [_mail(number) for number in range(3)]
    if MBOX:
        mails += read_mail(Path(MBOX))
    emulator = GmailEmulator({"anna@example.com": mails}).start()
    try:
        with served(Scanner) as scanner:
            also = {"SCANNER": "http", "HTTP_SCANNER_URL": scanner}
            directory = tmp_path_factory.mktemp("run")
            with pipeline(None, directory, stack=stack, gmail=emulator.describe(), also=also) as made:
                made.start("source", "extract", "slow", "index")
                settle(made)
                yield made
    finally:
        emulator.stop()


@pytest.fixture(scope="module")
def wanted(running: Pipeline) -> Said:
    said = expected(running.kafka_bootstrap)
    assert len(said.labelled) == len(set(said.labelled)) > 2
    return said


def _environment(running: Pipeline) -> dict[str, str]:
    return {"KAFKA_BOOTSTRAP": running.kafka_bootstrap}


def test_python_with_aiokafka(running: Pipeline, wanted: Said, tmp_path: Path) -> None:
    follows(python("follow_aiokafka.py", LABEL), _environment(running), tmp_path, wanted)


def test_python_with_faust(running: Pipeline, wanted: Said, tmp_path: Path, unique_name: str) -> None:
    environment = {**_environment(running), "GROUP": unique_name}
    follows(python("follow_faust.py", "worker", "--without-web"), environment, tmp_path / "first", wanted)


@pytest.mark.full
def test_java(running: Pipeline, wanted: Said, tmp_path: Path) -> None:
    follows(java(tmp_path), _environment(running), tmp_path / "run", wanted)


@pytest.mark.full
def test_node(running: Pipeline, wanted: Said, tmp_path: Path) -> None:
    follows(node(tmp_path), _environment(running), tmp_path / "run", wanted)
