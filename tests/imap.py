"""What the tests of IMAP share: a mailbox opened, and what a subscriber of its history would know of it."""

import base64
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import httpx

from cli.pipeline import Pipeline, mailbox_id_of
from connectors.imap.mailbox import ImapMailbox
from connectors.imap.mailboxes import ImapMailboxes
from connectors.kafka import read_partition
from connectors.vault import Vault
from schemas import topics
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
