"""The examples for other teams, each by itself, over what the real pipeline has written."""

import os
import time
from collections.abc import Iterator
from email.message import EmailMessage
from pathlib import Path

import pytest

from cli.pipeline import Pipeline
from connectors.clamav_check import EICAR
from devstack.gmail.mailfiles import MailBytes, RawMail, read_mail
from devstack.gmail.server import GmailEmulator
from devstack.stack import Stack
from tests.followers import Said, Scanner, expected, follows, java, node, python
from tests.pipelines import pipeline, settle
from tests.serving import served

pytestmark = pytest.mark.timeout(900)

LABEL = "STARRED"  # what bears it was starred later: a single change above the snapshot
WAIT_SECONDS = 120.0
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
def written(stack: Stack, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, Said]]:
    """Kafka's address, and what is to be said: mail that was listed, then starred, and some deleted again."""
    mails: list[RawMail] = [_mail(number) for number in range(4)]
    if MBOX:
        mails += read_mail(Path(MBOX))
    with GmailEmulator({"anna@example.com": mails}) as emulator:
        mailbox = emulator.mailboxes["anna@example.com"]
        with served(Scanner) as scanner:
            also = {"SCANNER": "http", "HTTP_SCANNER_URL": scanner}
            directory = tmp_path_factory.mktemp("run")
            with pipeline(None, directory, stack=stack, gmail=emulator.describe(), also=also) as running:
                # Who reads the topic needs no index; but OCR, for further mail, tells when it is done.
                running.start(*(() if MBOX else ("source", "extract")))
                if MBOX:
                    settle(running)
                infected = {message_id for message_id, *_ in _wait(running, len(mails), starred=0).infected}
                first, second, deleted, *_ = (m.id for m in mailbox.messages() if m.id not in infected)
                for message_id in (first, second):
                    mailbox.modify(message_id, add=["STARRED"])
                mailbox.delete(deleted)
                yield running.kafka_bootstrap, _wait(running, len(mails) - 1, starred=2)


def _wait(running: Pipeline, messages: int, starred: int) -> Said:
    """Wait until the topic holds that much, and what was found in the attachments."""
    deadline = time.monotonic() + WAIT_SECONDS
    while True:
        said = expected(running.kafka_bootstrap, LABEL)
        if (sum(said.senders.values()), len(said.labelled)) == (messages, starred) and said.infected:
            return said
        running.check()
        assert time.monotonic() < deadline, said
        time.sleep(0.5)


def test_python_with_aiokafka(written: tuple[str, Said], tmp_path: Path) -> None:
    bootstrap, wanted = written
    follows(python("follow_aiokafka.py", LABEL), {"KAFKA_BOOTSTRAP": bootstrap}, tmp_path, wanted)


def test_python_with_faust(written: tuple[str, Said], tmp_path: Path, unique_name: str) -> None:
    bootstrap, wanted = written
    environment = {"KAFKA_BOOTSTRAP": bootstrap, "GROUP": unique_name, "LABEL": LABEL}
    follows(python("follow_faust.py", "worker", "--without-web"), environment, tmp_path, wanted)


@pytest.mark.full
def test_java(written: tuple[str, Said], tmp_path: Path) -> None:
    bootstrap, wanted = written
    follows(java(tmp_path, LABEL), {"KAFKA_BOOTSTRAP": bootstrap}, tmp_path / "run", wanted)


@pytest.mark.full
def test_node(written: tuple[str, Said], tmp_path: Path) -> None:
    bootstrap, wanted = written
    follows(node(tmp_path, LABEL), {"KAFKA_BOOTSTRAP": bootstrap}, tmp_path / "run", wanted)
