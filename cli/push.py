"""``mailstream push``: the way in for Gmail's notifications, by push or by pull."""

import asyncio
import json
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import click
from aiohttp import web

from cli.probes import Probes
from cli.running import run_until_signal, start_observing, watched
from cli.settings import Settings, settings
from connectors.errors import (
    ConfigurationError,
    MailstreamError,
    TokenForbiddenError,
    TokenRefusedError,
    UnavailableError,
    backoff_seconds,
)
from connectors.gmail.push import Certificates, Hints, PushVerifier, read_notice
from connectors.kafka import Producer, Table
from connectors.metrics import gmail_pushes_counter
from schemas import topics

log = logging.getLogger(__name__)

MAX_BODY_BYTES = 64 * 1024
# More at once are told to come again: Pub/Sub does.
MAX_REQUESTS_IN_FLIGHT = 200
# Within which a request's head must have come, and then its body: who sends a byte now and then keeps a
# connection for no longer.
HEAD_SECONDS, BODY_SECONDS = 30.0, 10.0
# What comes behind an answer is read for this long, so that its sender sees the answer.
LINGER_SECONDS = 1.0
EMPTY_PULL_SECONDS, MAX_BACKOFF_SECONDS = 1.0, 60.0


@click.command()
def push() -> None:
    """Take in Gmail's notifications: an endpoint for Pub/Sub, or, with PUBSUB_SUBSCRIPTION, by pulling.

    Example: PUSH_AUDIENCE=https://mail.example.com PUSH_SERVICE_ACCOUNT=push@p.iam.gserviceaccount.com
    mailstream push
    """
    config = settings()
    if config.pubsub_subscription is None and not (config.push_audience and config.push_service_account):
        raise ConfigurationError(
            "set PUSH_AUDIENCE and PUSH_SERVICE_ACCOUNT as in the push subscription,"
            " or PUBSUB_SUBSCRIPTION to pull"
        )
    if config.pubsub_subscription is not None and config.google_credentials_file is None:
        raise ConfigurationError("set GOOGLE_CREDENTIALS_FILE to the key file of an account that may pull")
    start_observing(config, watched(config, Probes(), elasticsearch=False))
    run_until_signal(_pull(config) if config.pubsub_subscription is not None else _serve(config))


@asynccontextmanager
async def _hints(config: Settings) -> AsyncIterator[Hints]:
    async with (
        Producer(config.kafka) as producer,
        Table.open(config.kafka, topics.MAILBOXES.name) as registry,
    ):
        yield Hints(producer, registry)


async def _serve(config: Settings) -> None:
    verifier = PushVerifier(
        Certificates(config.push_certificates_url),
        config.push_audience or "",
        config.push_service_account or "",
    )
    async with _hints(config) as hints:
        runner = endpoint(verifier, hints)
        await runner.setup()
        try:
            try:
                await web.TCPSite(runner, config.push_host, config.push_port).start()
            except OSError as error:
                raise ConfigurationError(
                    f"PUSH_PORT {config.push_port} cannot be used: {error.strerror}"
                ) from error
            log.warning("listening for pushes on %s:%s", *runner.addresses[0][:2])
            await asyncio.Event().wait()
        finally:
            await runner.cleanup()


def endpoint(verifier: PushVerifier, hints: Hints) -> web.AppRunner:
    """``application`` as it is served."""
    return web.AppRunner(
        application(verifier, hints),
        access_log=None,
        handle_signals=False,
        keepalive_timeout=HEAD_SECONDS,  # runs from the connection on, and until a head is complete
        lingering_time=LINGER_SECONDS,
    )


def application(verifier: PushVerifier, hints: Hints) -> web.Application:
    """The endpoint: POST / or /push takes a push, GET /healthz says that it could."""
    in_flight = asyncio.Semaphore(MAX_REQUESTS_IN_FLIGHT)

    async def take(request: web.Request) -> web.Response:
        if in_flight.locked():
            return _answer(503, "busy")
        async with in_flight:
            try:
                await verifier.verify(request.headers.get("Authorization"))
                async with asyncio.timeout(BODY_SECONDS):
                    body = await request.read()
                return await _take(body, hints)
            except TimeoutError:
                return _answer(408, "slow")
            except TokenRefusedError:
                return _answer(401, "refused")
            except TokenForbiddenError:
                return _answer(403, "forbidden")
            except UnavailableError as error:
                log.warning("a push cannot be passed on, and will come again: %s", error)
                return _answer(503, "unavailable")

    async def healthz(_request: web.Request) -> web.Response:
        return web.Response(text="ok")

    app = web.Application(client_max_size=MAX_BODY_BYTES)
    app.router.add_post("/", take)
    app.router.add_post("/push", take)
    app.router.add_get("/healthz", healthz)
    return app


async def _take(body: bytes, hints: Hints) -> web.Response:
    """An authentic push is acknowledged whatever it says: what is refused comes again for ever."""
    try:
        message = json.loads(body)["message"]
    except (ValueError, KeyError, TypeError):
        return _answer(204, "malformed")
    return _answer(204, await forward(message, hints))


async def forward(message: object, hints: Hints) -> str:
    """Pass a PubsubMessage on; returns what became of it. Raises UnavailableError."""
    notice = read_notice(message)
    if notice is None:
        return "malformed"
    if not await hints.knows(notice.address):
        return "unknown_mailbox"
    return "forwarded" if await hints.forward(notice) else "duplicate"


def _answer(status: int, outcome: str) -> web.Response:
    gmail_pushes_counter.labels(outcome=outcome).inc()
    return web.Response(status=status)


async def _pull(config: Settings) -> None:
    from connectors.gmail.pubsub import Subscription

    assert config.pubsub_subscription is not None
    assert config.google_credentials_file is not None
    subscription = Subscription(
        config.pubsub_subscription, config.google_credentials_file, config.pubsub_endpoint
    )
    failures = 0
    async with _hints(config) as hints:
        log.warning("pulling pushes from %s", config.pubsub_subscription)
        while True:
            try:
                received = await subscription.pull()
                for entry in received:
                    outcome = await forward(entry.get("message"), hints)
                    gmail_pushes_counter.labels(outcome=outcome).inc()
                if received:
                    await subscription.acknowledge([entry["ackId"] for entry in received])
                failures = 0
            except MailstreamError as error:
                if not error.transient:
                    raise
                failures += 1
                log.warning("pulling failed, and is tried again: %s", error)
            backoff = backoff_seconds(failures, MAX_BACKOFF_SECONDS)
            await asyncio.sleep(backoff if failures else 0.0 if received else EMPTY_PULL_SECONDS)
