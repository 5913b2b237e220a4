"""What the tests of the whole path share: a pipeline over empty servers, and what it left in the index."""

import asyncio
import email
import mailbox
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager, nullcontext
from email.message import Message
from pathlib import Path
from typing import Any

from aiokafka.admin import AIOKafkaAdminClient
from elasticsearch import AsyncElasticsearch

from cli.pipeline import Pipeline
from cli.status import Observer, Status
from connectors.elasticsearch import Index
from devstack.stack import Stack, start_stack
from schemas import topics
from tests.records import read_all

STILL_SECONDS = 240.0
EMPTY_SECONDS = 60.0
# What may differ between two runs over the same mail.
VOLATILE = {"indexed_at", "seconds"}
# Where in the topic a register stands: a source that was killed says some things twice.
PLACES = {"offset", "offsets", "passed_over"}


@contextmanager
def pipeline(
    mail: Path | None,
    directory: Path,
    faults: Path | None = None,
    encoder: str = "hash",
    stack: Stack | None = None,
    **options: Any,
) -> Iterator[Pipeline]:
    """A pipeline whose topics and index begin empty: over ``stack``, emptied, or over servers of its own."""
    files = [mail] if mail is not None else []
    directory.mkdir(parents=True, exist_ok=True)
    with (
        start_stack() if stack is None else nullcontext(emptied(stack)) as servers,
        Pipeline(
            servers.kafka_bootstrap,
            servers.elasticsearch_url,
            files,
            directory,
            encoder=encoder,
            faults=faults,
            **options,
        ) as running,
    ):
        yield running


def emptied(stack: Stack) -> Stack:
    """The stack without any topic or index. One that is somebody else's is not emptied: the test fails."""
    assert stack.provider != "external", "run this with STACK=maven or STACK=testcontainers: it empties them"
    asyncio.run(_empty(stack))
    return stack


async def _empty(stack: Stack) -> None:
    admin = AIOKafkaAdminClient(bootstrap_servers=stack.kafka_bootstrap)
    await admin.start()
    try:
        deadline = time.monotonic() + EMPTY_SECONDS
        while found := [name for name in await admin.list_topics() if not name.startswith("__")]:
            assert time.monotonic() < deadline, f"topics stay: {found}"
            await admin.delete_topics(found)
            await asyncio.sleep(0.2)
    finally:
        await admin.close()
    async with AsyncElasticsearch(stack.elasticsearch_url) as client:
        indexes = [str(entry["index"]) for entry in await client.cat.indices(format="json")]  # type: ignore[index]
        if indexes:
            await client.indices.delete(index=",".join(indexes))


@asynccontextmanager
async def observed(running: Pipeline) -> AsyncIterator[Observer]:
    async with Observer.open(running.settings) as observer:
        yield observer


def settle(running: Pipeline) -> Status:
    """Wait until everything has arrived, as long as something moves."""

    async def wait() -> Status:
        async with observed(running) as observer:
            return await running.wait_until_settled(observer, STILL_SECONDS)

    return asyncio.run(wait())


def documents(running: Pipeline) -> dict[str, dict[str, Any]]:
    """Every live document by id, without what may differ between two runs."""

    async def read() -> dict[str, dict[str, Any]]:
        async with Index.open(running.settings.elasticsearch) as index:
            return {
                document.pop("_id"): {
                    name: _without(value, PLACES) if name == "registers" else value
                    for name, value in document.items()
                    if name not in VOLATILE
                }
                async for document in index.scan({"term": {"live": True}}, ["*"])
            }

    return asyncio.run(read())


def dead_letters(running: Pipeline) -> list[bytes]:
    """Every event that failed for good, as it was written."""
    written = asyncio.run(read_all(running.kafka_bootstrap, topics.DEAD_LETTERS.name))
    return [value or b"" for _, value in written]


def _without(fields: dict[str, Any], names: set[str]) -> dict[str, Any]:
    return {name: value for name, value in fields.items() if name not in names}


def attachments_in(path: Path) -> int:
    """Attachments of an mbox by the project's definition, counted with Python's ``email`` alone."""
    return sum(_attachments(email.message_from_bytes(mail.as_bytes())) for mail in mailbox.mbox(path))


def _attachments(part: Message) -> int:
    if part.get_content_maintype() == "multipart" and part.is_multipart():
        return sum(_attachments(child) for child in part.get_payload())  # type: ignore[arg-type,misc]
    is_text = part.get_content_maintype() in ("text", "multipart")
    return int(bool(part.get_filename()) or part.get_content_disposition() == "attachment" or not is_text)
