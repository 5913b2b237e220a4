"""``mailstream reprocess`` on the whole path: what timed out is read again in one fetch; the text wins."""

import asyncio
import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from email.message import EmailMessage
from pathlib import Path
from typing import Any

import pytest
from aiokafka import TopicPartition

from cli import reprocess
from cli.pipeline import Pipeline
from connectors.elasticsearch import Index
from connectors.encoder import HashEncoder
from connectors.errors import UnavailableError
from connectors.kafka import Producer, consumer
from connectors.lag import LagMeter
from devstack.stack import Stack
from schemas import topics
from schemas.events import Deferred, MailboxRecord
from schemas.outcomes import Outcome, Scan
from schemas.registers import (
    AnyRegister,
    AttachmentContent,
    ContentRegister,
    LabelsRegister,
    MessageContent,
    content_version,
)
from streams.documents import Documents
from streams.index import Indexer
from tests.files import picture
from tests.pipelines import documents, observed, pipeline, settle
from tests.records import read_all
from tests.standins import NoLetters, records_of

pytestmark = pytest.mark.timeout(600)

SENTENCES = {"2": "the harbour crane is repaired in may", "3": "seven bollards were painted green"}


@pytest.fixture(scope="module")
def mail(tmp_path_factory: pytest.TempPathFactory) -> Path:
    message = EmailMessage()
    message["From"], message["To"], message["Subject"] = "a@example.com", "b@example.com", "Two scans"
    message["Date"] = "Mon, 01 Jan 2024 10:00:00 +0000"
    message.set_content("see both")
    for path, text in SENTENCES.items():
        message.add_attachment(picture(text), maintype="image", subtype="png", filename=f"scan{path}.png")
    written = tmp_path_factory.mktemp("mail") / "one.eml"
    written.write_bytes(message.as_bytes())
    return written


@pytest.fixture(scope="module")
def timed_out(mail: Path, stack: Stack, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pipeline]:
    """A mailbox whose two scans are indexed as timed out, with nothing left to be done."""
    with pipeline(mail, tmp_path_factory.mktemp("run"), stack=stack) as running:
        running.start("source", "extract", "index")
        asyncio.run(_forget_deferred(running))
        assert {part["outcome"] for part in _parts(running).values()} == {"pending"}
        asyncio.run(_plant(running, _parts(running)))
        settle(running)
        yield running


async def _forget_deferred(running: Pipeline) -> None:
    """Once the scans wait for OCR: that work is taken for done."""
    async with observed(running) as observer, LagMeter.open(running.kafka_bootstrap) as meter:
        deadline = time.monotonic() + 240
        while True:
            with suppress(UnavailableError):  # an index that was made just now has no shard yet
                status = await observer.status()
                if status.lag == {"extract": 0, "slow": 2, "index": 0} and status.documents == 3:
                    break
            running.check()
            assert time.monotonic() < deadline, "the scans do not come to wait"
            await asyncio.sleep(0.5)
        ends = await meter.ends([topics.DEFERRED.name])
    async with consumer(
        running.kafka_bootstrap, group_id=topics.SLOW_GROUP, enable_auto_commit=False
    ) as client:
        client.assign([TopicPartition(tp.topic, tp.partition) for tp in ends])
        await client.commit(dict(ends))


async def _plant(running: Pipeline, parts: dict[str, dict[str, Any]]) -> None:
    async with Producer(running.kafka_bootstrap) as producer:
        sink = Documents(producer, await producer.partitions(topics.DOCUMENTS.name))
        for path, part in parts.items():
            content = AttachmentContent(
                filename=part["filename"], content_type="image/png", outcome=Outcome.TIMED_OUT
            )
            register = ContentRegister(
                mailbox_id=part["mailbox_id"],
                message_id=part["message_id"],
                part_path=path,
                version=content_version(1, Outcome.TIMED_OUT, "planted"),
                attachment=content,
            )
            await sink.send([register])


def _parts(running: Pipeline) -> dict[str, dict[str, Any]]:
    found = documents(running).values()
    return {item["part_path"]: item for item in found if item["kind"] == "attachment"}


def _reprocess(running: Pipeline, *arguments: str) -> dict[str, Any]:
    answer = subprocess.run(
        [sys.executable, "-m", "cli.main", "reprocess", *arguments, "--json"],
        capture_output=True,
        text=True,
        timeout=120,
        env={**os.environ, **running.environment},
        check=False,
    )
    assert answer.returncode == 0, answer.stderr
    described: dict[str, Any] = json.loads(answer.stdout)
    return described


def _deferred(running: Pipeline) -> list[Deferred]:
    records = asyncio.run(read_all(running.kafka_bootstrap, topics.DEFERRED.name))
    # The order over several partitions is nobody's promise.
    return sorted((Deferred.decode(value or b"") for _, value in records), key=Deferred.encode)


def test_what_timed_out_is_read_again(timed_out: Pipeline) -> None:
    assert {part["outcome"] for part in _parts(timed_out).values()} == {"timed_out"}
    before = _deferred(timed_out)

    asked = ("--outcome", "timed_out,unscanned")
    estimate = _reprocess(timed_out, *asked, "--dry-run")
    # One messages.get brings both scans.
    assert (estimate["documents"], estimate["messages"], estimate["units"]) == (2, 1, 20)
    assert estimate["queued"] == 0
    assert _reprocess(timed_out, "--engine-before", "2", "--dry-run")["documents"] == 3
    assert _reprocess(timed_out, "--engine-before", "1", "--dry-run")["documents"] == 0
    assert _deferred(timed_out) == before

    assert _reprocess(timed_out, *asked)["queued"] == 1
    [work] = [work for work in _deferred(timed_out) if work not in before]
    assert (work.reason, work.parts, work.fetch) == ("reprocess", {"2": 0, "3": 0}, "raw")
    timed_out.start("slow")
    settle(timed_out)
    found = _parts(timed_out)
    for path, sentence in SENTENCES.items():
        assert found[path]["outcome"] == "text"
        assert sentence in " ".join(found[path]["text"].split())
    assert _reprocess(timed_out, *asked)["documents"] == 0


# By part path: how it ended, what its scan said, and which engine read it.
ENDS = {
    "2": (Outcome.TEXT, Scan.CLEAN, 2),
    "3": (Outcome.BLOCKED, Scan.INFECTED, 1),
    "4": (Outcome.BLOCKED, Scan.UNSCANNED, 1),
    "5": (Outcome.CONTAINER, Scan.CLEAN, 1),
    "5/1": (Outcome.TIMED_OUT, Scan.CLEAN, 1),
    "5/2": (Outcome.TIMED_OUT, Scan.CLEAN, 1),
}


def _ended() -> Iterator[AnyRegister]:
    """A message with these parts."""
    owner = {"mailbox_id": "box", "message_id": "m1"}
    yield LabelsRegister(**owner, epoch=1, history_id=5, label_ids=("INBOX",))
    yield ContentRegister(
        **owner,
        version=content_version(1, Outcome.TEXT, "own"),
        message=MessageContent(text="see below", size_bytes=20_000_000),
    )
    for path, (outcome, scan, engine) in ENDS.items():
        yield ContentRegister(
            **owner,
            part_path=path,
            version=content_version(1, outcome, path, scan).model_copy(update={"engine": engine}),
            attachment=AttachmentContent(content_type="a/b", outcome=outcome, scan=scan),
        )


async def test_what_is_found_by_how_it_ended_how_it_was_scanned_and_which_engine_read_it(
    index: Index,
) -> None:
    indexer = Indexer(index, HashEncoder(), NoLetters(), max_chunks=9)  # type: ignore[arg-type]
    await indexer.handle(records_of(_ended()))
    await index.refresh()
    wanted = {"box": MailboxRecord(mailbox_id="box", address="a@example.com")}

    async def work(ends: tuple[str, ...], engine_before: int | None = None) -> list[tuple[Any, int]]:
        found = reprocess._found(index, reprocess._query(ends, engine_before, None), wanted)
        return [
            (item.parts, count)
            for item, count in await reprocess._deferred(index, [one async for one in found])
        ]

    # What a container holds is read with it; each part comes with the verdict that stands.
    assert await work(("timed_out", "unscanned")) == [({"4": 0, "5": 0}, 3)]
    assert await work(("infected",)) == [({"3": 1}, 1)]
    assert await work(("text",)) == [({"2": 0}, 1)]
    assert await work((), 2) == [({"": 0, "3": 1, "4": 0, "5": 0}, 6)]
    assert await work((), 1) == []
    assert await work(("text", "infected"), 2) == [({"3": 1}, 1)]
    wanted.clear()
    assert await work(("timed_out",)) == []
