"""The three Faust apps, a few lines each: what they consume, and which pipeline settles it."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import faust

from connectors.elasticsearch import Index
from connectors.encoder import open_encoder
from connectors.kafka import Producer
from schemas import topics
from schemas.events import MailboxRecord
from streams.attempts import Attempts
from streams.dead_letters import DeadLetters
from streams.documents import Documents
from streams.ephemeral import EphemeralAttachmentHandler
from streams.extract import Extract
from streams.index import Indexer
from streams.mailboxes import Mailbox, Mailboxes
from streams.message import MessageExtractor
from streams.settle import create_app, settle_batches, settle_each

EXTRACT_GROUP = "mailstream-extract"
SLOW_GROUP = "mailstream-slow"
INDEX_GROUP = "mailstream-index"

# Events that one worker holds un-acked: ids only, so a label change finds a place behind many fetches.
EVENTS_IN_FLIGHT = 1_000
# Registers merged and written together. Bytes bound the memory, records the time until an ack.
BATCH_RECORDS = 200
BATCH_BYTES = 2 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class WorkerConfig:
    """What the workers need to know. ``state_directory`` outlives a process, not the machine."""

    kafka_bootstrap: str
    elasticsearch_url: str
    state_directory: Path
    open_mailbox: Callable[[MailboxRecord, bytes | None], Mailbox]
    open_engine: Callable[[], EphemeralAttachmentHandler]
    encoder: str
    max_chunks: int

    def app(self, group: str) -> faust.App:
        """An empty app of that consumer group."""
        return create_app(group, self.kafka_bootstrap, self.state_directory / group)


def extract_app(config: WorkerConfig) -> faust.App:
    """Changes and listings to registers."""
    app = config.app(EXTRACT_GROUP)

    @app.agent(_topic(app, topics.CHANGES, topics.BACKFILL), concurrency=1)
    async def extract(stream: Any) -> None:
        async with _extract(config, EXTRACT_GROUP, "fast") as pipeline:
            await settle_each(stream, pipeline.handle_change, EVENTS_IN_FLIGHT)

    return app


def slow_app(config: WorkerConfig) -> faust.App:
    """Deferred work (OCR, throttled fetches) to registers."""
    app = config.app(SLOW_GROUP)

    @app.agent(_topic(app, topics.DEFERRED), concurrency=1)
    async def slow(stream: Any) -> None:
        async with _extract(config, SLOW_GROUP, "slow") as pipeline:
            await settle_each(stream, pipeline.handle_deferred, EVENTS_IN_FLIGHT)

    return app


def index_app(config: WorkerConfig) -> faust.App:
    """Registers to Elasticsearch."""
    app = config.app(INDEX_GROUP)

    @app.agent(_topic(app, topics.DOCUMENTS), concurrency=1)
    async def index(stream: Any) -> None:
        async with (
            Producer(config.kafka_bootstrap) as producer,
            Index.open(config.elasticsearch_url) as client,
        ):
            encoder, _ = await asyncio.gather(
                asyncio.to_thread(open_encoder, config.encoder), client.ensure()
            )
            indexer = Indexer(client, encoder, DeadLetters(producer, "index"), config.max_chunks)
            await settle_batches(stream, indexer.handle, BATCH_RECORDS, BATCH_BYTES)

    return app


def _topic(app: faust.App, *wanted: topics.Topic) -> Any:
    return app.topic(*(topic.name for topic in wanted), key_type=bytes, value_type=bytes)


@asynccontextmanager
async def _extract(config: WorkerConfig, group: str, lane: str) -> AsyncIterator[Extract]:
    async with AsyncExitStack() as stack:
        producer = await stack.enter_async_context(Producer(config.kafka_bootstrap))
        mailboxes = await stack.enter_async_context(
            Mailboxes.follow(config.kafka_bootstrap, config.open_mailbox)
        )
        engine = await stack.enter_async_context(config.open_engine())
        documents = Documents(producer, await producer.partitions(topics.DOCUMENTS.name))
        yield Extract(
            mailboxes,
            MessageExtractor(engine, documents),
            documents,
            DeadLetters(producer, lane),
            Attempts(config.state_directory / f"{group}.attempts.json"),
            lane,
        )


def run_worker(name: str, config: WorkerConfig, log_level: str) -> None:
    """Run one of the workers ("extract", "slow", "index") until a signal ends it; then exit the process."""
    app = {"extract": extract_app, "slow": slow_app, "index": index_app}[name](config)
    faust.Worker(
        app, loglevel=log_level, quiet=True, override_logging=False, redirect_stdouts=False
    ).execute_from_commandline()
