"""Purge on real servers: nothing of one of three mailboxes is left, and nothing brings it back."""

import asyncio
import json
import os
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from elasticsearch import AsyncElasticsearch

from cli.pipeline import Pipeline, mailbox_id_of
from connectors.elasticsearch import Index
from connectors.elasticsearch.versions import Versions
from connectors.kafka import Producer, Send
from devstack.gmail.mailfiles import MailBytes
from devstack.gmail.server import GmailEmulator
from devstack.servers import LocalServer
from devstack.stack import Stack
from schemas import mapping, topics
from schemas.events import ChangeKind, MessageChange, SyncRequest
from schemas.identity import message_key, partition_for
from schemas.outcomes import Outcome
from schemas.registers import ContentRegister, LabelsRegister, MessageContent, content_version
from streams import purge
from tests.commands import command
from tests.compaction import compact_soon, compacted
from tests.pipelines import pipeline, settle
from tests.records import read_all

pytestmark = pytest.mark.timeout(600)

ADDRESSES = ("anna@example.com", "bert@example.com", "carla.markova@example.com")
PURGED = ADDRESSES[2]
MARKS = (b"xylophone", b"carla.markova", b"Markova", b"quittance")  # text, address, name, file name
MAILS = 6
WAIT_SECONDS = 120.0
COMPACTED = (topics.MAILBOXES, topics.CURSORS, topics.DOCUMENTS)


def _mail(address: str, number: int) -> MailBytes:
    mark = b"xylophone " if address == PURGED else b"harbour "
    name = b"Carla Markova" if address == PURGED else b"Somebody Else"
    lines = [
        b"From: " + name + b" <" + address.encode() + b">",
        b"Subject: %d " % number + mark,
        b"MIME-Version: 1.0",
        b"Content-Type: multipart/mixed; boundary=b\n",
        b"--b\nContent-Type: text/plain\n\nbody %d " % number + mark,
        b"--b\nContent-Type: text/plain; name=quittance-%d.txt" % number,
        b"Content-Disposition: attachment; filename=quittance-%d.txt\n" % number,
        b"annex " + mark + b"\n--b--\n",
    ]
    return MailBytes(b"\n".join(lines))


def test_a_purged_mailbox_leaves_nothing_and_does_not_come_back(
    stack: Stack, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    mail = {address: [_mail(address, n) for n in range(MAILS)] for address in ADDRESSES}
    also = {"AUDIT_HOURS": "0", "DRAFT_QUIET_SECONDS": "0", "TOPIC_PARTITIONS": "2"}
    with (
        GmailEmulator(mail) as emulator,
        pipeline(None, tmp_path, stack=stack, gmail=emulator.describe(), also=also) as running,
    ):
        asyncio.run(compact_soon(running.kafka_bootstrap, COMPACTED))
        running.start()
        settle(running)
        kept = {address: asyncio.run(_count(running, address)) for address in ADDRESSES}
        assert set(kept.values()) == {2 * MAILS}
        # Looking where it will be looked again finds them now.
        assert asyncio.run(_cached(running)) > 0
        assert _on_disk(stack, tmp_path)
        with monkeypatch.context() as patched:
            patched.setattr(purge, "EXPUNGE_SECONDS", 0.0)  # the last purge waits for the files, once
            _one_message_goes(running, emulator)
            _the_mailbox_goes(running)
        _again(running)
        asyncio.run(_late_events(running, emulator))
        _nobody_brings_it_back(running)
        asyncio.run(_nothing_is_left(running))
        deadline = time.monotonic() + WAIT_SECONDS
        while left := _on_disk(stack, tmp_path):
            assert time.monotonic() < deadline, left
            time.sleep(1)
        for address in ADDRESSES[1:2]:
            assert asyncio.run(_count(running, address)) == kept[address]


def _one_message_goes(running: Pipeline, emulator: GmailEmulator) -> None:
    """A message of another mailbox: an audit that repairs lists it as no difference."""
    message_id = emulator.mailboxes[ADDRESSES[0]].messages()[0].id
    arguments = ("mailbox", "purge", ADDRESSES[0], "--message", message_id, "--yes", "--json")
    code, output, _ = command(running, *arguments)
    receipt = json.loads(output)
    assert (code, receipt["complete"], receipt["message_id"]) == (0, True, message_id)
    assert receipt["removed"]["records of mail.documents"] >= 3  # labels, body, attachment
    code, output, _ = command(running, "audit", ADDRESSES[0], "--repair", "--json")
    report = json.loads(output)
    assert (code, report["missing"], report["stale"]) == (0, 0, 0)
    assert report["index_messages"] == MAILS - 1
    _, output, _ = command(running, "trace", ADDRESSES[0], message_id, "--json")
    assert "suppress list" in json.loads(output)["diagnosis"]


def _the_mailbox_goes(running: Pipeline) -> None:
    code, output, _ = command(running, "mailbox", "purge", PURGED, "--yes", "--json")
    receipt = json.loads(output)
    assert (code, receipt["complete"], receipt["epoch"]) == (0, True, 2)
    assert receipt["removed"]["documents of mail-v000001"] == 2 * MAILS
    assert receipt["removed"]["records of mail.documents"] == 3 * MAILS
    assert (receipt["removed"]["credentials"], receipt["removed"]["cursors"]) == (1, 1)
    for mark in MARKS:
        assert mark.decode() not in output
    month = 30 * topics.DAY_MILLISECONDS
    assert all(until <= receipt["finished_at"] + month for until in receipt["expires"].values())


def _again(running: Pipeline) -> None:
    """Given again, as after a crash, it finds nothing more."""
    code, output, _ = command(running, "mailbox", "purge", mailbox_id_of(PURGED), "--yes", "--json")
    again = json.loads(output)
    assert (code, again["epoch"], again["in_segments"]) == (0, 2, 0)
    assert not any(again["removed"].values())


async def _late_events(running: Pipeline, emulator: GmailEmulator) -> None:
    """What was on its way: an event, a fetch that had begun before, a request to list everything again."""
    mailbox_id, message = mailbox_id_of(PURGED), emulator.mailboxes[PURGED].messages()[0]
    owner = {"mailbox_id": mailbox_id, "message_id": message.id}
    text = "xylophone, late"
    late = ContentRegister(
        **owner,
        version=content_version(1, Outcome.TEXT, text),
        message=MessageContent(subject="Markova", text=text),
    )
    labels = LabelsRegister(**owner, epoch=1, history_id=10**9, label_ids=("INBOX",))
    change = MessageChange(**owner, kind=ChangeKind.UPSERT, epoch=1, history_id=10**9)
    request = SyncRequest(mailbox_id=mailbox_id, kind="resync", request_id="late")
    async with Producer(running.kafka_bootstrap) as producer:
        partitions = await producer.partitions(topics.DOCUMENTS.name)
        own = partition_for(message_key(mailbox_id, message.id), partitions)
        await producer.send(
            [
                Send(topics.DOCUMENTS.name, labels.key, labels.encode(), own),
                Send(topics.DOCUMENTS.name, late.key, late.encode(), own),
                Send(topics.CHANGES.name, mailbox_id, change.encode()),
                Send(topics.SYNC_REQUESTS.name, mailbox_id, request.encode()),
            ]
        )
    emulator.mailboxes[PURGED].add(_mail(PURGED, 99).content, ["INBOX"], emulator.clock())


def _nobody_brings_it_back(running: Pipeline) -> None:
    for name, words in ((PURGED, "no mailbox has"), (mailbox_id_of(PURGED), "was purged")):
        code, _, errors = command(running, "audit", name, "--repair")
        assert code == 1
        assert words in errors
    code, _, errors = command(running, "mailbox", "unpark", mailbox_id_of(PURGED))
    assert (code, "was purged" in errors) == (1, True)
    settle_deadline = time.monotonic() + WAIT_SECONDS
    while any(asyncio.run(_lag(running)).values()):
        assert time.monotonic() < settle_deadline
        time.sleep(0.5)
    assert asyncio.run(_count(running, PURGED)) == 0
    assert asyncio.run(_count(running, PURGED, live=False)) == 0


async def _lag(running: Pipeline) -> dict[str, int]:
    from cli.status import Observer

    async with Observer.open(running.settings) as observer:
        return (await observer.status()).lag


async def _count(running: Pipeline, address: str, *, live: bool = True) -> int:
    query: list[dict[str, Any]] = [{"term": {"mailbox_id": mailbox_id_of(address)}}]
    if live:
        query.append({"term": {"live": True}})
    async with Index.open(running.elasticsearch_url) as index:
        await index.refresh()
        return await index.count({"bool": {"filter": query}})


async def _nothing_is_left(running: Pipeline) -> None:
    """No mark in any record that the broker still has, once it has compacted; none in the index; and no
    deleted document left in its segments."""
    async with (
        Index.open(running.elasticsearch_url) as index,
        Versions.open(running.elasticsearch_url) as all_,
    ):
        everything = json.dumps([document async for document in index.scan({"match_all": {}}, ["*"])])
        for mark in MARKS[:3]:
            assert mark.decode() not in everything
        [version] = await all_.all()
        stats = await all_._client.indices.stats(index=version.name, metric="docs")
        assert stats["_all"]["total"]["docs"]["deleted"] == 0
    assert await _cached(running) == 0

    async def unmarked() -> bool:
        return not await _marked(running)

    await compacted(running.kafka_bootstrap, COMPACTED, unmarked)


async def _cached(running: Pipeline) -> int:
    """How many entries of the content cache bear a mark."""
    async with AsyncElasticsearch(running.elasticsearch_url) as client:
        await client.indices.refresh(index=mapping.CACHE_INDEX, ignore_unavailable=True)
        answer = await client.search(index=mapping.CACHE_INDEX, size=1_000, ignore_unavailable=True)
        entries = [json.dumps(hit["_source"]).encode() for hit in answer["hits"]["hits"]]
    return sum(any(mark in entry for mark in MARKS) for entry in entries)


def _on_disk(stack: Stack, directory: Path) -> list[Path]:
    """Files of servers and workers with a mark that is not compressed: names, terms, small records."""
    servers = [s.directory for s in (stack.kafka, stack.elasticsearch) if isinstance(s, LocalServer)]
    found = []
    for base in (directory, *servers):
        for directory_name, _, names in os.walk(base):  # says nothing of directories that go meanwhile
            for path in (Path(directory_name, name) for name in names):
                with suppress(OSError):  # servers remove files all the time
                    if any(mark in path.read_bytes() for mark in MARKS[:3]):
                        found.append(path)
    return found


async def _marked(running: Pipeline) -> dict[str, int]:
    """How many records of each topic bear a mark that is only the purged mailbox's."""
    found = {}
    for topic in topics.ALL:
        records = await read_all(running.kafka_bootstrap, topic.name)
        count = sum(
            any(mark in (value or b"") for mark in MARKS[:3])
            or (b"quittance" in (value or b"") and mailbox_id_of(PURGED).encode() in (value or b""))
            for _, value in records
        )
        if count:
            found[topic.name] = count
    return found
