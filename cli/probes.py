"""What a process says of itself over HTTP, on METRICS_PORT: ``/healthz``, ``/readyz`` and ``/metrics``; and
the watchdog that ends a process which comes on no further, so that its supervisor starts it again.

Alive is who comes on: a worker whose committed offsets move, or that has nothing before it; a source whose
rounds go on. Ready is who is answered by Kafka and Elasticsearch. While one of them is away nobody is called
dead: to be started again would not help him.
"""

from __future__ import annotations

import asyncio
import logging
import os
import socketserver
import threading
import time
from collections.abc import Callable, Iterable
from contextlib import AsyncExitStack
from typing import TYPE_CHECKING, Any, Protocol
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer, make_server

from prometheus_client import make_wsgi_app

from connectors.broker import Broker, broker
from connectors.elasticsearch import Index, Server
from connectors.errors import ConfigurationError, MailstreamError
from connectors.lag import LagMeter
from schemas import topics

if TYPE_CHECKING:
    from collections.abc import Mapping
    from wsgiref.types import StartResponse, WSGIEnvironment

log = logging.getLogger(__name__)

LOOK_SECONDS = 10.0
# An attachment may take the slow lane 15 minutes, and the next one, which was waiting behind it, as long.
STALLED_SECONDS = 1_800.0
ANSWER_SECONDS = 30.0
# What was seen longer ago says nothing of now.
_STALE_SECONDS = 2 * (LOOK_SECONDS + ANSWER_SECONDS)

Partition = tuple[str, int]


class Meter(Protocol):
    """What is asked of ``LagMeter``."""

    async def committed(self, group: str) -> Mapping[Any, int]:
        """The committed offsets by partition."""

    async def ends(self, names: Any) -> Mapping[Any, int]:
        """Where each partition ends."""

    async def behind(self, group: str, ends: Any) -> int:
        """Records before ``ends`` that are not committed."""


class Probes:
    """What is known of this process. ``look`` and the process itself write it, any thread reads it.

    ``group``: the consumer group whose offsets show that a worker comes on. ``judged``: standing still for
    ``stalled_seconds`` (0: however long) means to be dead; without a group the process must say ``moved``
    itself then.
    """

    def __init__(
        self,
        group: str | None = None,
        *,
        judged: bool = False,
        stalled_seconds: float = STALLED_SECONDS,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._group = group
        self.judged = stalled_seconds > 0 and (judged or group is not None)
        self._stalled_seconds = stalled_seconds
        self._clock = clock
        self._moved_at = self._looked_at = clock()
        self._partitions: frozenset[Partition] = frozenset()
        self._committed: dict[Any, int] = {}
        self._needs: str | None = None  # what it lacks
        self._seen_at: float | None = None  # None: nothing is needed

    def moved(self) -> None:
        """The process has come on."""
        self._moved_at = self._clock()

    def assigned(self, partitions: Iterable[Partition]) -> None:
        """These are this worker's partitions from now on."""
        self._partitions = frozenset((topic, partition) for topic, partition in partitions)
        self.moved()

    def dead(self) -> str | None:
        """Why the process should be ended; None: it is alive."""
        still_seconds = self._clock() - self._moved_at
        if not self.judged or still_seconds <= self._stalled_seconds:
            return None
        return f"nothing has moved for {still_seconds:.0f} s"

    def unready(self) -> str | None:
        """What is missing; None: ready."""
        if self._seen_at is not None and self._clock() - self._seen_at > _STALE_SECONDS:
            return "nobody has looked for a while"
        return self._needs

    def lacks(self, problem: str | None) -> None:
        """Note what a look has found. Who lacks something is not to blame for standing still."""
        self._needs, self._seen_at = problem, self._clock()
        if problem is not None:
            self.moved()

    async def look(self, meter: Meter) -> None:
        """Ask Kafka whether the committed offsets have moved. Raises UnavailableError, ConfigurationError."""
        if self._clock() - self._looked_at > _STALE_SECONDS:
            self.moved()  # we were stopped ourselves (SIGSTOP, a machine that slept), and so was the work
        self._looked_at = self._clock()
        if self._group is None:
            await meter.ends([topics.MAILBOXES.name])
            return
        ours = self._partitions
        known = await meter.committed(self._group)
        ends = await meter.ends(sorted({topic for topic, _ in ours} or _topics_of(self._group)))
        # Without a partition it is judged by all of them: it may be the group that nobody is assigned in.
        judged = {tp: end for tp, end in ends.items() if tp in ours or not ours}
        committed = {tp: offset for tp, offset in known.items() if tp in judged}
        waiting = await meter.behind(self._group, judged)
        if not waiting or committed != self._committed:
            self.moved()
        self._committed = committed

    def watch(self, kafka: Broker | str, elasticsearch: Server | str | None) -> None:
        """Look again and again, in a thread of its own, whatever the process does meanwhile; end it when it
        is dead. It is ended at once: what holds its loop would hold an orderly end, too."""
        self.lacks("nobody has looked yet")
        work = _watch(self, kafka, elasticsearch)
        threading.Thread(target=lambda: asyncio.run(work), name="probes", daemon=True).start()


def _topics_of(group: str) -> set[str]:
    """What a group consumes."""
    found = {topic for known, names in topics.STAGES.values() if known == group for topic in names}
    return found or {topics.MAILBOXES.name}


async def _watch(probes: Probes, kafka: Broker | str, elasticsearch: Server | str | None) -> None:
    while True:
        try:
            # Before a client of Kafka's writes into the log what the process itself is about to say.
            if (refusal := await broker(kafka).refusal()) is not None:
                raise refusal
            async with AsyncExitStack() as stack:
                meter = await stack.enter_async_context(LagMeter.open(kafka))
                index = None
                if elasticsearch is not None:
                    index = await stack.enter_async_context(Index.open(elasticsearch))
                while True:
                    async with asyncio.timeout(ANSWER_SECONDS):
                        await probes.look(meter)
                        if index is not None:
                            await index.exists()
                    probes.lacks(None)
                    if (problem := probes.dead()) is not None:
                        log.critical("%s, though there is work: ending, to be started again", problem)
                        os._exit(1)
                    await asyncio.sleep(LOOK_SECONDS)
        except MailstreamError as error:
            probes.lacks(str(error))
        except TimeoutError:
            probes.lacks(f"Kafka or Elasticsearch did not answer within {ANSWER_SECONDS:.0f} s")
        await asyncio.sleep(LOOK_SECONDS)


class _Server(socketserver.ThreadingMixIn, WSGIServer):
    daemon_threads = True


class _Handler(WSGIRequestHandler):
    def log_message(self, format: str, *args: Any) -> None:
        """Who asks every ten seconds is not worth a line."""


def serve_probes(port: int, probes: Probes) -> int:
    """Answer on ``port`` (0: a free one) in a thread; returns the port. Raises ConfigurationError."""
    metrics = make_wsgi_app()
    answers = {"/healthz": probes.dead, "/readyz": probes.unready}

    def answer(environ: WSGIEnvironment, respond: StartResponse) -> Iterable[bytes]:
        asked = answers.get(environ["PATH_INFO"])
        if asked is None:
            shown: Iterable[bytes] = metrics(environ, respond)
            return shown
        problem = asked()
        respond(
            "200 OK" if problem is None else "503 Service Unavailable",
            [("Content-Type", "text/plain; charset=utf-8")],
        )
        return [f"{problem or 'ok'}\n".encode()]

    try:
        server = make_server("", port, answer, _Server, _Handler)
    except OSError as error:
        raise ConfigurationError(f"METRICS_PORT {port} cannot be used: {error.strerror}") from error
    threading.Thread(target=server.serve_forever, name="metrics", daemon=True).start()
    return server.server_port
