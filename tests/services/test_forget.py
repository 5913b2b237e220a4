"""What deleted messages said leaves the topic after a while, and a rebuilt index knows no difference."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import Any

from cli.pipeline import Pipeline
from connectors.elasticsearch import Index
from connectors.encoder import HashEncoder
from connectors.kafka import Producer, Send
from devstack.gmail.server import GmailEmulator
from devstack.stack import Stack
from schemas import topics
from schemas.identity import document_id, message_key
from schemas.registers import AnyRegister, ContentRegister, DeletedRegister, LabelsRegister
from streams.documents import Documents
from streams.forget import sweep
from streams.index import FORGET_MILLISECONDS, Indexer
from tests.commands import command
from tests.compaction import compact_soon, compacted
from tests.pipelines import documents, pipeline
from tests.records import read_all
from tests.reindex_run import Model
from tests.standins import Letters, records_of

WAIT_SECONDS = 120.0
MARK = b"fleeting"  # stands in what the first message says, and nowhere else


def _deleted(registers: Sequence[AnyRegister], history_id: int = 500) -> DeletedRegister:
    message_id = registers[0].message_id
    return DeletedRegister(mailbox_id="box", message_id=message_id, epoch=1, history_id=history_id)


def _seen(registers: Sequence[AnyRegister], history_id: int = 900) -> LabelsRegister:
    owner = {"mailbox_id": "box", "message_id": registers[0].message_id}
    return LabelsRegister(**owner, epoch=1, history_id=history_id, label_ids=("INBOX",))


def _three() -> tuple[list[AnyRegister], list[AnyRegister]]:
    """The registers of a message with an attachment that will be deleted, and those of one that stays."""
    model = Model(seed=1, messages=2)
    going = model.arrive(steady=False)
    model.messages = 5
    return going, model.arrive(steady=True)


async def _until(true: Callable[[], Awaitable[bool]]) -> None:
    deadline = time.monotonic() + WAIT_SECONDS
    while not await true():
        assert time.monotonic() < deadline
        await asyncio.sleep(0.5)


def test_the_index_worker_forgets_and_the_topic_is_rid_of_it(stack: Stack, tmp_path: Path) -> None:
    also = {"DELETED_CONTENTS_DAYS": "0", "TOPIC_PARTITIONS": "2"}
    with (
        GmailEmulator({"anna@example.com": []}) as emulator,
        pipeline(None, tmp_path, stack=stack, gmail=emulator.describe(), also=also) as running,
    ):
        running.start("index")
        before = asyncio.run(_forgotten_twice(running))
        code, output, errors = command(running, "reindex", "--json")
        assert code == 0, output + errors
        assert documents(running) == before
        asyncio.run(_comes_back(running))


async def _forgotten_twice(running: Pipeline) -> dict[str, Any]:
    going, staying = _three()
    contents = [register for register in going if isinstance(register, ContentRegister)]
    assert len(contents) == 2
    async with Producer(running.kafka_bootstrap) as producer, Index.open(running.elasticsearch_url) as index:
        log = Documents(producer, await producer.partitions(topics.DOCUMENTS.name))
        await log.send([*going, *staying, _deleted(going)])

        async def all_null() -> bool:
            latest = dict(await read_all(running.kafka_bootstrap, topics.DOCUMENTS.name))
            return all(latest.get(register.key) is None for register in contents)

        async def is_marked() -> bool:
            return await _is_forgotten(index, going)

        await _until(all_null)
        await _until(is_marked)
        await log.send(contents)  # a slow extraction ends a month late
        assert not await all_null()
        await _until(all_null)
        await _until(is_marked)

        async def is_gone() -> bool:
            records = await read_all(running.kafka_bootstrap, topics.DOCUMENTS.name)
            return not any(MARK in (value or b"") for _, value in records)

        await compact_soon(running.kafka_bootstrap, [topics.DOCUMENTS])
        await compacted(running.kafka_bootstrap, [topics.DOCUMENTS], is_gone)
        latest = dict(await read_all(running.kafka_bootstrap, topics.DOCUMENTS.name))
        own = {key: value for key, value in latest.items() if key.startswith(_key(going)) and value}
        assert {key.partition("/")[2] for key in own} == {"deleted", "labels"}
        assert all(latest[register.key] for register in staying)
        await index.refresh()
    found = await asyncio.to_thread(documents, running)
    assert len(found) == 2
    return found


async def _comes_back(running: Pipeline) -> None:
    """The rebuilt index knows of the deletion; what is seen and read again is found again."""
    going, _ = _three()
    async with Producer(running.kafka_bootstrap) as producer, Index.open(running.elasticsearch_url) as index:
        [stored] = (await index.read([_document(going)], ["live", "text"])).values()
        assert stored.source == {"live": False}
        log = Documents(producer, await producer.partitions(topics.DOCUMENTS.name))
        await log.send([_seen(going), *going])

        async def is_found() -> bool:
            await index.refresh()
            return await index.count({"match": {"text": MARK.decode()}}) == 1

        await _until(is_found)


def _key(registers: Sequence[AnyRegister]) -> str:
    return message_key("box", registers[0].message_id)


def _document(registers: Sequence[AnyRegister]) -> str:
    return document_id("box", registers[0].message_id)


async def _is_forgotten(index: Index, registers: Sequence[AnyRegister]) -> bool:
    fields = ["live", "registers", "parts", "forget_at"]
    [stored] = (await index.read([_document(registers)], fields)).values()
    source = stored.source
    nothing = not source["registers"]["passed_over"] and not source["parts"] and not source["live"]
    return bool(nothing and source.get("forget_at") is None)


class Nulls:
    """A producer that keeps what it is to send, and lets something happen before that."""

    def __init__(self, meanwhile: Callable[[], Awaitable[None]] | None = None) -> None:
        self.keys: list[str] = []
        self._meanwhile = meanwhile

    async def partitions(self, _: str) -> int:
        return 1

    async def send(self, sends: Sequence[Send]) -> None:
        if self._meanwhile is not None:
            await self._meanwhile()
        assert all(send.value is None for send in sends)
        self.keys += [send.key for send in sends]


def _indexer(index: Index, forget_milliseconds: int) -> Indexer:
    letters: Any = Letters()
    return Indexer(index, HashEncoder(), letters, 10, forget_milliseconds=forget_milliseconds)


async def test_a_deletion_of_late_keeps_what_it_may_need(index: Index) -> None:
    going, _ = _three()
    producer: Any = Nulls()
    await _indexer(index, FORGET_MILLISECONDS).handle(records_of([*going, _deleted(going)]))
    await index.refresh()
    assert await sweep(index, producer) == 0
    assert producer.keys == []


async def test_the_time_counts_from_the_record_and_not_from_its_replay(index: Index) -> None:
    going, _ = _three()
    producer: Any = Nulls()
    long_ago = int(time.time() * 1000) - FORGET_MILLISECONDS - 1
    await _indexer(index, FORGET_MILLISECONDS).handle(records_of([*going, _deleted(going)], 0, long_ago))
    await index.refresh()
    assert await sweep(index, producer) == 1
    names = {key.partition("/")[2] for key in producer.keys}
    assert names == {"content/", "content/2"}
    await index.refresh()
    assert await sweep(index, producer) == 0  # once


async def test_a_message_seen_while_it_is_forgotten_is_shown_as_soon_as_it_is_read(index: Index) -> None:
    going, _ = _three()
    indexer = _indexer(index, 0)

    async def seen() -> None:
        await indexer.handle(records_of([_seen(going)], 10))

    producer: Any = Nulls(seen)
    await indexer.handle(records_of([*going, _deleted(going)]))
    await index.refresh()
    assert await sweep(index, producer) == 0  # it was heard of
    await indexer.handle(records_of(going, 20))
    [stored] = (await index.read([_document(going)], ["live", "parts", "forget_at"])).values()
    assert stored.source["live"] and stored.source["parts"] == ["2"]
    assert stored.source.get("forget_at") is None
