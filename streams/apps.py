"""The three Faust apps, a few lines each: what they consume, and which pipeline settles it."""

import asyncio
import logging
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import faust
from aiokafka.errors import KafkaConnectionError
from faust.types import TP

from connectors.broker import Broker, broker
from connectors.elasticsearch import Index, Server
from connectors.encoder import open_encoder
from connectors.errors import MailstreamError
from connectors.kafka import Producer, Record, Table
from connectors.spending import Spending
from connectors.tail import tail
from schemas import topics
from schemas.events import MailboxRecord
from schemas.headers import is_live
from schemas.languages import DEFAULT_LANGUAGES, analyzer_for
from schemas.registers import split_key
from streams.attempts import Attempts
from streams.dead_letters import DeadLetters
from streams.documents import Documents
from streams.embeddings import OnceEncoder
from streams.encoder_process import EncoderProcess
from streams.ephemeral import EphemeralAttachmentHandler
from streams.extract import Extract
from streams.forget import sweep_for_ever
from streams.forward import DocumentsLog
from streams.gone import Gone
from streams.index import Indexer, outlasting
from streams.mailboxes import Mailbox, Mailboxes
from streams.message import MessageExtractor
from streams.once import Once
from streams.settle import (
    Ahead,
    BatchLimits,
    create_app,
    in_group,
    settle_batches,
    settle_each,
)
from streams.suspects import Suspects

log = logging.getLogger(__name__)

# Events that one worker holds un-acked: ids only, so a label change finds a place behind many fetches.
EVENTS_IN_FLIGHT = 1_000
BACKFILL_IN_FLIGHT = 500
# Registers merged and written together. Bytes bound the memory, records the time until an ack.
BATCHES = BatchLimits(records=200, size_bytes=2 * 1024 * 1024, in_flight=4)


@dataclass(frozen=True, slots=True)
class WorkerConfig:
    """What the workers need to know. ``state_directory`` outlives a process, not the machine."""

    kafka: Broker | str
    elasticsearch: Server | str
    state_directory: Path
    open_mailbox: Callable[[MailboxRecord, bytes | None], Mailbox]
    on_part: Callable[[float], None]  # hears which part (0-1] of all partitions is this worker's
    open_once: Callable[[], AbstractAsyncContextManager[Once | None]]
    open_engine: Callable[[Once | None], EphemeralAttachmentHandler]
    encoder: str
    max_chunks: int
    forget_milliseconds: int  # how long a deleted message is remembered
    languages: tuple[str, ...] = DEFAULT_LANGUAGES  # by tesseract's codes
    on_assigned: Callable[[Iterable[tuple[str, int]]], None] = lambda _: None  # hears topics and partitions
    before_stop: Callable[[], None] = lambda: None  # hears that the worker is about to end

    def app(self, group: str) -> faust.App:
        """An empty app of that consumer group."""
        app = create_app(group, self.kafka, self.state_directory / group)

        async def assigned(*arguments: Any, **_: Any) -> None:
            self.on_assigned((tp.topic, tp.partition) for tp in arguments[-1])

        app.on_partitions_assigned.connect(assigned)
        return app

    def attempts(self, group: str) -> Attempts:
        """Where that group's workers here count the events that they did not survive."""
        return Attempts(self.state_directory / f"{group}.attempts.json")


def extract_app(config: WorkerConfig) -> faust.App:
    """Changes and listings to registers: one pipeline, but a window for each, so that new mail overtakes."""
    app = config.app(topics.EXTRACT_GROUP)
    pipeline = _Pipeline(app, config, topics.CHANGES, topics.EXTRACT_GROUP, "fast")

    @app.agent(_topic(app, topics.CHANGES), concurrency=1)
    async def changes(stream: Any) -> None:
        async with pipeline.use() as extract:
            await settle_each(stream, extract.handle_change, EVENTS_IN_FLIGHT, "extract")

    @app.agent(_topic(app, topics.BACKFILL), concurrency=1)
    async def backfill(stream: Any) -> None:
        async with pipeline.use() as extract:
            await settle_each(stream, extract.handle_change, BACKFILL_IN_FLIGHT, "extract")

    return app


def slow_app(config: WorkerConfig) -> faust.App:
    """Deferred work (OCR, throttled fetches) to registers."""
    app = config.app(topics.SLOW_GROUP)
    pipeline = _Pipeline(app, config, topics.DEFERRED, topics.SLOW_GROUP, "slow")

    @app.agent(_topic(app, topics.DEFERRED), concurrency=1)
    async def slow(stream: Any) -> None:
        async with pipeline.use() as extract:
            await settle_each(stream, extract.handle_deferred, EVENTS_IN_FLIGHT, "slow")

    return app


def index_app(config: WorkerConfig) -> faust.App:
    """Registers to Elasticsearch."""
    app = config.app(topics.INDEX_GROUP)

    @app.agent(_topic(app, topics.DOCUMENTS), concurrency=1)
    async def index(stream: Any) -> None:
        async with (
            Producer(config.kafka) as producer,
            Index.open(config.elasticsearch) as client,
            Table.open(config.kafka, topics.MAILBOXES.name) as registry,
            config.open_once() as once,
            EncoderProcess(config.encoder) as beside,
        ):
            encoder = OnceEncoder(await asyncio.to_thread(open_encoder, config.encoder), once)
            await outlasting(partial(client.ensure, analyzer_for(config.languages), encoder.name))
            log.info("languages %s: embedding with %s", ", ".join(config.languages), encoder.name)
            letters = await DeadLetters.go_on(producer, config.kafka, "index")
            documents, gone = DocumentsLog(config.kafka, producer), Gone(registry, producer)
            attempts = config.attempts(topics.INDEX_GROUP)
            indexer = Indexer(
                *(client, encoder, letters, config.max_chunks, documents, gone),
                forget_milliseconds=config.forget_milliseconds,
                attempts=attempts,
                patient=OnceEncoder(beside, once),
            )
            suspects = Suspects(attempts, letters, indexer.handle)

            def owned() -> set[int]:
                assigned = app.consumer.assignment()
                return {tp.partition for tp in assigned if tp.topic == topics.DOCUMENTS.name}

            async def work(group: asyncio.TaskGroup) -> None:
                # One of the workers is enough.
                first = TP(topics.DOCUMENTS.name, 0)
                sweep = sweep_for_ever(client, producer, lambda: first in app.consumer.assignment())
                forgetting = group.create_task(sweep)
                ahead = Ahead(
                    lambda record: is_live(record.headers),
                    lambda: tail(config.kafka, topics.DOCUMENTS.name, owned, is_live),
                )
                await settle_batches(stream, suspects.handle, BATCHES, message_of, "index", ahead)
                forgetting.cancel()

            await in_group(work)

    return app


def message_of(record: Record) -> str:
    """The message key of a record of ``mail.documents``."""
    owner, _ = split_key(record.key)
    return owner


def _topic(app: faust.App, *wanted: topics.Topic) -> Any:
    return app.topic(*(topic.name for topic in wanted), key_type=bytes, value_type=bytes)


class _Pipeline:
    """The ``Extract`` of one app, open while an agent uses it, and told which part of the work is ours."""

    def __init__(
        self, app: faust.App, config: WorkerConfig, topic: topics.Topic, group: str, lane: str
    ) -> None:
        self._config = config
        self._topic = topic.name
        self._group = group
        self._lane = lane
        self._opening = asyncio.Lock()
        self._users = 0
        self._stack = AsyncExitStack()
        self._extract: Extract | None = None
        self._own: int | None = None
        self._all: int | None = None
        app.on_partitions_assigned.connect(self._assigned)

    @asynccontextmanager
    async def use(self) -> AsyncIterator[Extract]:
        """The pipeline, opened by the first that asks and closed by the last that leaves."""
        async with self._opening:
            if self._extract is None:
                self._extract = await self._open()
            self._users += 1
        try:
            yield self._extract
        finally:
            self._users -= 1
            if self._users == 0:
                self._extract = None
                await self._stack.aclose()

    async def _open(self) -> Extract:
        config, stack = self._config, self._stack
        producer = await stack.enter_async_context(Producer(config.kafka))
        mailboxes = await stack.enter_async_context(Mailboxes.follow(config.kafka, config.open_mailbox))
        once = await stack.enter_async_context(config.open_once())
        engine = await stack.enter_async_context(config.open_engine(once))
        documents = Documents(producer, await producer.partitions(topics.DOCUMENTS.name))
        self._all = await producer.partitions(self._topic)
        self._tell()
        spending = asyncio.create_task(Spending(producer, mailboxes.opened).run())
        stack.callback(spending.cancel)
        return Extract(
            mailboxes,
            MessageExtractor(engine, documents),
            documents,
            await DeadLetters.go_on(producer, config.kafka, self._lane),
            config.attempts(self._group),
            self._lane,
        )

    async def _assigned(self, *arguments: Any, **_: Any) -> None:
        self._own = sum(tp.topic == self._topic for tp in arguments[-1])
        self._tell()

    def _tell(self) -> None:
        if self._own and self._all:
            self._config.on_part(self._own / self._all)


class _Worker(faust.Worker):
    def __init__(self, app: faust.App, before_stop: Callable[[], None], **options: Any) -> None:
        super().__init__(app, **options)
        self._before_stop = before_stop

    async def on_stop(self) -> None:
        # Before anything else: each of its services says good-bye to Kafka, and waits for the answer.
        self._before_stop()
        await super().on_stop()


def run_worker(name: str, config: WorkerConfig, log_level: str) -> None:
    """Run one of the workers ("extract", "slow", "index") until a signal ends it; then exit the process."""
    app = {"extract": extract_app, "slow": slow_app, "index": index_app}[name](config)
    worker = _Worker(
        app,
        config.before_stop,
        loglevel=log_level,
        quiet=True,
        override_logging=False,
        redirect_stdouts=False,
    )
    try:
        worker.execute_from_commandline()
    except SystemExit as end:  # which is all that Faust says
        crash = worker.crash_reason or end.__context__
        if isinstance(crash, KafkaConnectionError):
            crash = asyncio.run(broker(config.kafka).absence(crash))
        if isinstance(crash, MailstreamError):
            raise crash from None
        raise
