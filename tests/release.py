"""What a release left on its servers: recorded once, out of a real run, and put back for tests of later code.

    python -m tests.release DIRECTORY     (in a checkout of that release)

writes ``mail.jsonl.gz`` (a mailbox, invented), ``topics.jsonl.gz`` (every record of every topic, where it
stood, and how far each group had come) and ``index.jsonl.gz`` (every index: settings, mapping, aliases,
documents with their vectors).
"""

import asyncio
import base64
import gzip
import json
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Iterable, Iterator
from contextlib import asynccontextmanager, contextmanager
from email.message import EmailMessage
from pathlib import Path
from typing import Any

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from elasticsearch import AsyncElasticsearch

from devstack.gmail.mailfiles import MailBytes
from devstack.gmail.server import GmailEmulator
from devstack.sample import documents, scans
from devstack.sample.model import Attachment
from devstack.stack import Stack
from schemas import mapping, topics
from tests.commands import command
from tests.pipelines import pipeline, settle

ANNA = "anna@example.com"
MAILS = 20
# What may be lost at any time.
_LEFT_OUT = (mapping.CACHE_INDEX,)
_OF_A_TEMPLATE = ("index_patterns", "template", "priority", "version", "allow_auto_create")
_SETTINGS = ("number_of_shards", "analysis", "mapping", "sort", "max_result_window", "query")


def mail(number: int, subject: str) -> bytes:
    """One of the mailbox's mails; the first have attachments."""
    message = EmailMessage()
    message["From"] = f"Carla Example <carla{'@'}example.com>"
    message["To"] = f"Anna Example <{ANNA}>"
    message["Date"] = f"Mon, {2 + number:02} Feb 2026 10:00:00 +0100"
    message["Message-ID"] = f"<release-{number}@example.com>"
    message["Subject"] = f"{subject} {number}"
    message.set_content(f"This is about the {subject} number {number}: see you on Monday.\n")
    if number == 0:
        _attach(message, documents.word("contract.docx", "Contract", "Granite is delivered in May."))
    elif number == 1:
        _attach(message, scans.scanned_image("scan.png", 1, "An invoice of March", "Total 4,711"))
    elif number == 2:
        inner = EmailMessage()
        inner["Subject"] = "the forwarded mail"
        inner.set_content("Words of the mail that was forwarded.\n")
        inner.add_attachment("Words of a file in it.", filename="inner.txt")
        message.add_attachment(inner)
    elif number < 6:
        message.add_attachment(f"Annex {number}: dredging.", filename=f"annex-{number}.txt")
    return message.as_bytes()


def _attach(message: EmailMessage, attachment: Attachment) -> None:
    main, _, sub = attachment.media_type.partition("/")
    message.add_attachment(attachment.render(), main, sub, filename=attachment.name)


@contextmanager
def mailbox(directory: Path) -> Iterator[GmailEmulator]:
    """The mailbox at its start. What is done to it gives the same ids every time."""
    raws = [base64.b64decode(line) for line in read(directory / "mail.jsonl.gz")]
    with GmailEmulator({ANNA: [MailBytes(raw) for raw in raws[:MAILS]]}) as emulator:
        yield emulator


def live(emulator: GmailEmulator, directory: Path) -> None:
    """What happened to it while the release was in use."""
    anna = emulator.mailboxes[ANNA]
    ids = sorted(message.id for message in anna.messages())
    label = anna.label_id("Projects/Harbour")
    anna.modify(ids[0], add=["STARRED"])
    anna.modify(ids[1], remove=["INBOX"])
    anna.modify(ids[2], add=[label])
    anna.delete(ids[3])
    anna.add(base64.b64decode(read(directory / "mail.jsonl.gz")[MAILS]), ["INBOX"])


def write(path: Path, lines: Iterable[Any]) -> None:
    """JSON lines, the same bytes for the same lines."""
    text = "".join(json.dumps(line, ensure_ascii=False, sort_keys=True) + "\n" for line in lines)
    path.write_bytes(gzip.compress(text.encode(), 9, mtime=0))


def read(path: Path) -> list[Any]:
    """The lines of such a file."""
    return [json.loads(line) for line in gzip.decompress(path.read_bytes()).splitlines()]


def record(directory: Path) -> None:
    """Run today's code over a mailbox and keep what it leaves."""
    directory.mkdir(parents=True, exist_ok=True)
    raws = [*(mail(number, "harbour") for number in range(MAILS)), mail(MAILS, "news")]
    write(directory / "mail.jsonl.gz", [base64.b64encode(raw).decode() for raw in raws])
    with (
        mailbox(directory) as emulator,
        tempfile.TemporaryDirectory() as run,
        pipeline(None, Path(run), gmail=emulator.describe(), also={"AUDIT_HOURS": "0"}) as running,
    ):
        running.start()
        settle(running)
        live(emulator, directory)
        time.sleep(5)  # the source polls every second
        settle(running)
        assert command(running, "token", "create", "a reader", "--all-mailboxes")[0] == 0
        running.stop()
        write(directory / "topics.jsonl.gz", asyncio.run(_records(running.kafka_bootstrap)))
        write(directory / "index.jsonl.gz", asyncio.run(_indexes(running.elasticsearch_url)))


@asynccontextmanager
async def _admin(kafka: str) -> AsyncIterator[AIOKafkaAdminClient]:
    admin = AIOKafkaAdminClient(bootstrap_servers=kafka)
    await admin.start()
    try:
        yield admin
    finally:
        await admin.close()


async def _records(kafka: str) -> list[Any]:
    lines: list[Any] = []
    consumer = AIOKafkaConsumer(bootstrap_servers=kafka, enable_auto_commit=False)
    await consumer.start()
    try:
        await consumer._client.force_metadata_update()
        # Before the first is assigned: from then on the client knows of no other.
        partitions = {topic.name: sorted(consumer.partitions_for_topic(topic.name)) for topic in topics.ALL}
        for name, numbers in partitions.items():
            lines.append({"topic": name, "partitions": len(numbers)})
            assignment = [TopicPartition(name, number) for number in numbers]
            consumer.assign(assignment)
            await consumer.seek_to_beginning(*assignment)
            ends = await consumer.end_offsets(assignment)
            while [tp for tp in assignment if await consumer.position(tp) < ends[tp]]:
                for found in (await consumer.getmany(timeout_ms=500)).values():
                    lines += map(_line, found)
    finally:
        await consumer.stop()
    async with _admin(kafka) as admin:
        for group, _ in topics.STAGES.values():
            offsets = await admin.list_consumer_group_offsets(group)
            lines += [
                {"group": group, "topic": tp.topic, "partition": tp.partition, "offset": committed.offset}
                for tp, committed in sorted(offsets.items())
            ]
    return lines


def _line(found: Any) -> dict[str, Any]:
    return {
        "topic": found.topic,
        "partition": found.partition,
        "offset": found.offset,
        "key": (found.key or b"").decode(),
        "value": None if found.value is None else base64.b64encode(found.value).decode(),
        "headers": [[name, value.decode("latin-1")] for name, value in found.headers],
    }


async def _indexes(url: str) -> list[Any]:
    lines: list[Any] = []
    async with AsyncElasticsearch(url) as client:
        templates = await client.indices.get_index_template()
        lines += [
            {"template": each["name"], "body": each["index_template"]}
            for each in templates["index_templates"]
        ]
        for name, described in (await client.indices.get(index="*")).items():
            if name in _LEFT_OUT or name.startswith("."):
                continue
            settings = {k: v for k, v in described["settings"]["index"].items() if k in _SETTINGS}
            parts = {"mappings": described["mappings"], "aliases": described["aliases"], "settings": settings}
            lines.append({"index": name, **parts})
            await client.indices.refresh(index=name)
            answer = await client.search(
                index=name, query={"match_all": {}}, size=1_000, source={"exclude_vectors": False}
            )
            hits = sorted(answer["hits"]["hits"], key=lambda hit: hit["_id"])
            lines += [{"index": name, "id": hit["_id"], "source": hit["_source"]} for hit in hits]
    return lines


async def restore(stack: Stack, directory: Path) -> None:
    """Put a release's state onto empty servers: the records at their offsets, the groups where they were."""
    await _restore_topics(stack.kafka_bootstrap, read(directory / "topics.jsonl.gz"))
    await _restore_indexes(stack.elasticsearch_url, read(directory / "index.jsonl.gz"))


async def _restore_topics(kafka: str, lines: list[Any]) -> None:
    async with _admin(kafka) as admin:
        made = [
            NewTopic(
                line["topic"],
                line["partitions"],
                1,
                topic_configs={"cleanup.policy": "compact", "max.message.bytes": str(16 << 20)},
            )
            for line in lines
            if "partitions" in line
        ]
        await admin.create_topics(made)
    producer = AIOKafkaProducer(bootstrap_servers=kafka, max_request_size=16 << 20, compression_type="zstd")
    await producer.start()
    try:
        for line in lines:
            if "key" in line:
                sent = await producer.send_and_wait(
                    line["topic"],
                    None if line["value"] is None else base64.b64decode(line["value"]),
                    line["key"].encode(),
                    line["partition"],
                    headers=[(name, value.encode("latin-1")) for name, value in line["headers"]],
                )
                assert sent.offset == line["offset"], "a record must stand where it stood"
    finally:
        await producer.stop()
    groups: dict[str, dict[TopicPartition, int]] = {}
    for line in lines:
        if "group" in line:
            place = TopicPartition(line["topic"], line["partition"])
            groups.setdefault(line["group"], {})[place] = line["offset"]
    for group, offsets in groups.items():
        consumer = AIOKafkaConsumer(bootstrap_servers=kafka, group_id=group, enable_auto_commit=False)
        await consumer.start()
        try:
            consumer.assign(list(offsets))
            await consumer.commit(offsets)
        finally:
            await consumer.stop()


async def _restore_indexes(url: str, lines: list[Any]) -> None:
    async with AsyncElasticsearch(url, request_timeout=120) as client:
        for line in lines:
            if "template" in line:
                given = {name: line["body"][name] for name in _OF_A_TEMPLATE if name in line["body"]}
                await client.indices.put_index_template(name=line["template"], **given)
            elif "mappings" in line:
                parts = {name: line[name] for name in ("mappings", "aliases", "settings")}
                await client.indices.create(index=line["index"], **parts)
            else:
                await client.index(index=line["index"], id=line["id"], document=line["source"])
        await client.indices.refresh()


if __name__ == "__main__":
    record(Path(sys.argv[1]))
