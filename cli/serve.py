"""``mailstream serve``: the search API and the page."""

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

import click

from cli.running import check_servers, run_until_signal, start_observing
from cli.settings import Settings, settings
from cli.status import MailboxProgress, Observer, Status
from connectors.elasticsearch import Index
from connectors.elasticsearch.callers import Callers
from connectors.encoder import open_encoder
from connectors.errors import ConfigurationError
from connectors.kafka import Table
from schemas import topics
from schemas.events import MailboxState
from search.access import Access
from search.answers import MailboxStatus, StatusAnswer
from search.authentication import Authentication, Issuer
from search.registry import Registry
from search.retrieval import Retrieval

log = logging.getLogger(__name__)

# The status asks Kafka and Elasticsearch a dozen things: pages that are open together share an answer.
STATUS_SECONDS = 3.0
# An open request is answered before the process ends.
GRACE_SECONDS = 10


@click.command()
@click.option("--host", help="Listen here instead of on SERVE_HOST.")
@click.option("--port", type=click.IntRange(0, 65_535), help="Instead of on SERVE_PORT; 0 takes a free one.")
def serve(host: str | None, port: int | None) -> None:
    """Serve the search page and its API.

    Callers need a token: see `mailstream token create`.

    Example: mailstream serve --port 8000
    """
    config = settings()
    start_observing(config)
    logging.getLogger("search.audit").setLevel(logging.INFO)
    run_until_signal(_serve(config, host or config.serve_host, config.serve_port if port is None else port))


async def _serve(config: Settings, host: str, port: int) -> None:
    import uvicorn

    from cli.slow_clients import PromptProtocol

    await check_servers(config)
    async with _application(config) as app:
        server = uvicorn.Server(
            uvicorn.Config(
                app,
                host=host,
                port=port,
                http=PromptProtocol,
                log_config=None,
                access_log=False,  # addresses of requests hold queries
                server_header=False,
                timeout_graceful_shutdown=GRACE_SECONDS,
                limit_concurrency=config.serve_connections,
                h11_max_incomplete_event_size=64 * 1024,
            )
        )
        try:
            socket = server.config.bind_socket()
        except SystemExit:
            raise ConfigurationError(f"port {port} of {host} cannot be used: is it taken?") from None
        click.echo("listening on http://{}:{}".format(*socket.getsockname()[:2]))
        task = asyncio.ensure_future(server._serve([socket]))  # ``serve`` would take the signals
        try:
            await asyncio.shield(task)
        finally:
            server.should_exit = True
            await task


@asynccontextmanager
async def _application(config: Settings) -> AsyncIterator[Any]:
    """The API over the deployment that the settings name."""
    from search.api import Services, create_api

    async with AsyncExitStack() as stack:
        table = await stack.enter_async_context(Table.open(config.kafka, topics.MAILBOXES.name))
        index = await stack.enter_async_context(Index.open(config.elasticsearch))
        callers = await stack.enter_async_context(Callers.open(config.elasticsearch))
        observer = await stack.enter_async_context(Observer.open(config))
        yield create_api(
            Services(
                index=index,
                retrieval=Retrieval(index, await asyncio.to_thread(open_encoder, config.encoder_name)),
                authentication=Authentication(callers, _issuer(config)),
                registry=Registry(table),
                status=StatusOfMailboxes(observer, index).of,
                requests_per_minute=config.serve_requests_per_minute,
                timeout_seconds=config.serve_timeout_seconds,
                audit_queries=config.serve_audit_queries,
            )
        )


def _issuer(config: Settings) -> Issuer | None:
    given = (config.oidc_issuer, config.oidc_audience, config.oidc_keys_url)
    if not any(given):
        return None
    issuer, audience, keys_url = given
    if not issuer or not audience or not keys_url:
        raise ConfigurationError("OIDC_ISSUER, OIDC_AUDIENCE and OIDC_KEYS_URL go together")
    return Issuer(issuer, audience, keys_url)


class StatusOfMailboxes:
    """The status as a caller may see it: of his mailboxes, and how much work waits in all."""

    def __init__(self, observer: Observer, index: Index) -> None:
        self._observer = observer
        self._index = index
        self._asking = asyncio.Lock()
        self._asked_at = float("-inf")
        self._status = Status([], {}, 0)

    async def of(self, access: Access) -> StatusAnswer:
        """How far the caller's mailboxes are. Raises UnavailableError."""
        async with self._asking:
            if time.monotonic() - self._asked_at > STATUS_SECONDS:
                self._status = await self._observer.status()
                self._asked_at = time.monotonic()
        mailboxes = [box for box in self._status.mailboxes if access.allows(box.mailbox_id)]
        messages, outcomes = await self._counts(access)
        return StatusAnswer(
            progress=_progress(mailboxes, sum(messages.values()), any(self._status.lag.values())),
            mailboxes=[_mailbox(box, messages.get(box.mailbox_id, 0)) for box in mailboxes],
            outcomes=outcomes,
            lag=self._status.lag,
        )

    async def _counts(self, access: Access) -> tuple[dict[str, int], dict[str, int]]:
        """Messages by mailbox, and attachments by outcome."""
        response = await self._index.search(
            {
                "query": {"bool": {"filter": access.clauses()}},
                "size": 0,
                "track_total_hits": False,
                "aggs": {
                    "messages": {
                        "filter": {"term": {"kind": "message"}},
                        "aggs": {"boxes": {"terms": {"field": "mailbox_id", "size": 10_000}}},
                    },
                    "outcomes": {"terms": {"field": "outcome", "size": 50}},
                },
            }
        )
        found = response["aggregations"]
        return (
            {bucket["key"]: bucket["doc_count"] for bucket in found["messages"]["boxes"]["buckets"]},
            {bucket["key"]: bucket["doc_count"] for bucket in found["outcomes"]["buckets"]},
        )


def _progress(mailboxes: Sequence[MailboxProgress], indexed: int, waiting: bool) -> float | None:
    """The part of the messages that can be found; None where nobody knows yet how many there are."""
    if all(box.complete for box in mailboxes) and not waiting:
        return 1.0
    total = sum(box.total if box.total is not None else box.listed for box in mailboxes)
    return min(indexed / total, 1.0) if total else None


def _mailbox(box: MailboxProgress, messages: int) -> MailboxStatus:
    return MailboxStatus(
        mailbox_id=box.mailbox_id,
        address=box.address,
        phase=_phase(box),
        listed=box.listed,
        total=box.total,
        read_at=box.updated_at,
        quota=box.quota_units,
        dead_letters=box.dead_letters,
        messages=messages,
    )


def _phase(box: MailboxProgress) -> str:
    if box.state != MailboxState.LIVE:
        return box.state
    if box.updated_at is None:
        return "waiting"
    if not box.complete:
        return "resyncing" if box.listing == "resync" else "listing"
    return "following"
