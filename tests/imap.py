"""What the tests of IMAP share: a mailbox opened, and what a subscriber of its history would know of it."""

import base64
import binascii
import random
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from email.message import EmailMessage
from email.policy import SMTP
from typing import Any

import httpx
import pytest

from cli.pipeline import Pipeline, mailbox_id_of
from connectors.gmail.message import MailMessage
from connectors.imap.mailbox import ImapMailbox
from connectors.imap.mailboxes import ImapMailboxes
from connectors.kafka import read_partition
from connectors.vault import Vault
from schemas import mime, topics
from schemas.events import ChangeKind, MailboxRecord, Observation
from schemas.identity import partition_for
from tests.pipelines import documents

RECORD = MailboxRecord(mailbox_id="box", address="anna@example.com", source="imap", exclude_labels=())


@asynccontextmanager
async def imap_mailbox(
    url: str, credentials: dict[str, Any], *, listens: bool = False, bytes_per_day: int = 10**9
) -> AsyncIterator[ImapMailbox]:
    """The mailbox of RECORD behind that server."""
    vault = Vault([base64.b64encode(bytes(32)).decode()])
    mailboxes = ImapMailboxes(vault, url, bytes_per_day, listens=listens)
    opened = mailboxes.open(RECORD, vault.seal(RECORD.mailbox_id, credentials).encode())
    try:
        yield opened
    finally:
        opened.close()


async def listed(mailbox: ImapMailbox, **asked: Any) -> list[str]:
    """Every message id of a listing."""
    ids: list[str] = []
    token: str | None = None
    while True:
        page = await mailbox.list_page(token, **asked)
        ids += [message_id for message_id, _ in page.messages]
        token = page.next_page_token
        if token is None:
            return ids


def large_mail() -> bytes:
    """7 MiB: large and small parts of every transfer encoding, nested ones too."""
    chance = random.Random(9)
    scan, table = chance.randbytes(2 * 2**20), chance.randbytes(2**20 + 1)
    inner = EmailMessage()
    inner["Subject"] = "inner"
    inner.set_content("a nested mail\n" * 100_000)
    inner.add_attachment(b"within", maintype="application", subtype="octet-stream", filename="within.bin")
    mail = EmailMessage()
    mail["Subject"], mail["From"] = "Größe", "anna@example.com"
    mail.set_content("the plain text, grün\n")
    mail.add_alternative("<p>the plain text, grün</p>", subtype="html")
    mail.add_attachment(scan, maintype="application", subtype="pdf", filename="scan größe.pdf")
    mail.add_attachment(table, maintype="application", subtype="octet-stream", filename="table.bin")
    mail.add_attachment("naïve = 1\n" * 200_000, subtype="csv", cte="quoted-printable", filename="naïve.csv")
    mail.add_attachment(inner)
    mail.add_attachment("small\n", filename="small.txt")
    coded = "".join(binascii.b2a_uu(b"old coding" * 4).decode() for _ in range(30_000))
    mail.add_attachment(f"begin 644 old.bin\n{coded}`\nend\n", filename="old.bin")
    [*_, last] = mail.iter_attachments()
    last.replace_header("Content-Transfer-Encoding", "x-uuencode")
    return mail.as_bytes(policy=SMTP)


async def assert_like_parsed(mailbox: ImapMailbox, message: MailMessage, raw: bytes) -> int:
    """What came, and comes in blocks, is what ``parse`` makes of the whole; returns how many do."""
    fetched, parsed = mime.walk(message.root), mime.walk(mime.parse(raw))
    assert [leaf.path for leaf in fetched] == [leaf.path for leaf in parsed]
    referenced = 0
    for leaf, expected in zip(fetched, parsed, strict=True):
        part = leaf.part
        if part.reference is not None:
            referenced += 1
            blocks = [block async for block in mailbox.attachment_stream(message.message_id, part.reference)]
            assert max(map(len, blocks)) <= 1.5 * 2**20, "a block, not the whole"
            assert part.size_bytes is not None
            part = replace(part, body=b"".join(blocks), reference=None)
            assert await mailbox.attachment(message.message_id, leaf.part.reference or "") == part.body
        assert replace(part, size_bytes=0) == replace(expected.part, size_bytes=0)
        assert part.size_bytes == pytest.approx(expected.part.size_bytes, rel=0.5)
    assert message.root.headers == mime.parse(raw).headers
    return referenced


class Follower:
    """Follows a mailbox's history from a position on; ``labels`` are those of each message that is there."""

    def __init__(self, mailbox: ImapMailbox) -> None:
        self.mailbox = mailbox
        self.history_id = 0
        self.state: str | None = None
        self.labels: dict[str, set[str]] = {}
        self.kinds: list[ChangeKind] = []

    async def begin(self) -> None:
        """Take a position, and what is there at it."""
        position = await self.mailbox.position()
        self.history_id, self.state = position.history_id, position.state
        self.labels = {message_id: set() for message_id in await listed(self.mailbox)}
        for label_id in await self.mailbox.labels():
            for message_id in await listed(self.mailbox, label_id=label_id):
                self.labels[message_id].add(label_id)

    async def follow(self) -> list[ChangeKind]:
        """Take everything that is new; returns what kinds of changes."""
        page = await self.mailbox.history_page(self.history_id, None)
        kinds = []
        for entry in page.entries:
            assert entry.history_id == page.history_id > self.history_id
            kinds.append(entry.kind)
            if entry.kind is ChangeKind.DELETE:
                self.labels.pop(entry.message_id, None)
            elif entry.kind is ChangeKind.LABELS:
                self.labels[entry.message_id] = set(entry.changed)
            elif entry.kind is ChangeKind.LABEL_ADDED:
                self.labels[entry.message_id] |= set(entry.changed)
            elif entry.kind is ChangeKind.LABEL_REMOVED:
                self.labels[entry.message_id] -= set(entry.changed)
        self.history_id = page.history_id
        self.state = page.state or self.state
        return kinds


WAIT_SECONDS = 90.0


class Control:
    """Changes the emulated mailbox."""

    def __init__(self, running: Pipeline) -> None:
        self._url = f"{running.gmail['url']}/_control"
        self.address = running.gmail["mailboxes"][0]["address"]

    def post(self, path: str, **sent: Any) -> Any:
        return httpx.post(f"{self._url}/mailboxes/{self.address}/{path}", **sent).raise_for_status().json()

    def delete(self, message_id: str) -> None:
        httpx.delete(f"{self._url}/mailboxes/{self.address}/messages/{message_id}").raise_for_status()

    def truth(self) -> dict[str, Any]:
        found: dict[str, Any] = httpx.get(f"{self._url}/truth").json()[self.address]
        return found

    def stats(self) -> dict[str, Any]:
        found: dict[str, Any] = httpx.get(f"{self._url}/stats").json()
        return found

    def faults(self, *faults: dict[str, Any]) -> None:
        httpx.put(f"{self._url}/faults", json=list(faults)).raise_for_status()


def eventually(condition: Callable[[], bool], what: str) -> None:
    deadline = time.monotonic() + WAIT_SECONDS
    while not condition():
        assert time.monotonic() < deadline, f"never: {what}"
        time.sleep(0.5)


def indexed_labels(running: Pipeline) -> dict[str, set[str]]:
    """Labels by message id, as the index has them."""
    return {
        document["message_id"]: set(document.get("label_ids", ()))
        for document in documents(running).values()
        if document["kind"] == "message"
    }


def mailbox_id(running: Pipeline) -> str:
    return mailbox_id_of(running.gmail["mailboxes"][0]["address"])


async def observations(running: Pipeline) -> list[Observation]:
    box = mailbox_id(running)
    partition = partition_for(box, running.settings.topic_partitions)
    return [
        Observation.decode(record.value or b"")
        async for record in read_partition(running.kafka_bootstrap, topics.OBSERVATIONS.name, partition)
        if record.key == box
    ]
