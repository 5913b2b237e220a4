"""Gmail's pushes: who sent one, what it says, and the hint it becomes.

A push is a hint that a mailbox has news, and nothing else: no cursor is ever moved by one. It may come twice,
late, early, or not at all.
"""

from __future__ import annotations

import asyncio
import json
import logging
import time
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import aiohttp
from google.auth import jwt
from google.auth.exceptions import GoogleAuthError

from connectors.errors import TokenForbiddenError, TokenRefusedError, UnavailableError
from connectors.gmail.message import decode_base64url
from connectors.kafka import Producer, Send, Table
from connectors.tracing import headers, span
from schemas import topics
from schemas.events import MailboxRecord, MailboxState, SyncRequest, now_milliseconds

log = logging.getLogger(__name__)

ISSUERS = frozenset({"https://accounts.google.com", "accounts.google.com"})
CLOCK_SKEW_SECONDS = 10
CERTIFICATES_SECONDS, CERTIFICATES_TIMEOUT_SECONDS = 3_600.0, 10.0
# A key id nobody knows may be a new one: look, but not as often as anybody can invent one.
UNKNOWN_KEY_SECONDS = 10.0
# A hint that has been passed on needs no repetition for that long. Then the source may have lost it.
FORWARDED_SECONDS = 60.0


class Certificates:
    """The signers' certificates by key id, fetched when they are needed and kept for up to an hour."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._known: Mapping[str, str] = {}
        self._fetched_at = float("-inf")
        self._fetching = asyncio.Lock()

    async def for_key(self, key_id: str | None) -> Mapping[str, str]:
        """All certificates, fresh if that key is not among them. Raises UnavailableError."""
        async with self._fetching:
            age_seconds = time.monotonic() - self._fetched_at
            unknown = key_id not in self._known and age_seconds > UNKNOWN_KEY_SECONDS
            if unknown or age_seconds > CERTIFICATES_SECONDS:
                self._known = await self._fetch()
                self._fetched_at = time.monotonic()
            return self._known

    async def _fetch(self) -> Mapping[str, str]:
        timeout = aiohttp.ClientTimeout(total=CERTIFICATES_TIMEOUT_SECONDS)
        try:
            async with aiohttp.ClientSession(timeout=timeout) as session, session.get(self._url) as response:
                response.raise_for_status()
                certificates: dict[str, str] = await response.json(content_type=None)
        except (aiohttp.ClientError, TimeoutError, ValueError) as error:
            raise UnavailableError(f"the certificates cannot be had: {type(error).__name__}") from error
        return certificates


class PushVerifier:
    """Tells an authentic push from any other. ``audience`` and ``service_account`` are the subscription's."""

    def __init__(self, certificates: Certificates, audience: str, service_account: str) -> None:
        self._certificates = certificates
        self._audience = audience
        self._service_account = service_account

    async def verify(self, authorization: str | None) -> None:
        """Check the Authorization header of a push.

        Raises TokenRefusedError where there is no token, or it is malformed, forged, expired or not Google's;
        TokenForbiddenError where it is somebody else's, or for somebody else; UnavailableError.
        """
        scheme, _, token = (authorization or "").partition(" ")
        if scheme.lower() != "bearer" or not token:
            raise TokenRefusedError("no token")
        try:
            key_id = jwt.decode_header(token).get("kid")  # type: ignore[no-untyped-call]
            certificates = await self._certificates.for_key(key_id)
            claims = jwt.decode(  # type: ignore[no-untyped-call]
                token, certs=certificates, clock_skew_in_seconds=CLOCK_SKEW_SECONDS
            )
        except (GoogleAuthError, ValueError, TypeError, AttributeError) as error:
            raise TokenRefusedError("the token is malformed, forged or expired") from error
        if claims.get("iss") not in ISSUERS:
            raise TokenRefusedError("the token is not Google's")
        if claims.get("aud") != self._audience:
            raise TokenForbiddenError("the token is for somebody else")
        if claims.get("email") != self._service_account or claims.get("email_verified") is not True:
            raise TokenForbiddenError("the token is somebody else's")


@dataclass(frozen=True, slots=True)
class Notice:
    """What a push says. ``published_at`` in milliseconds."""

    address: str
    history_id: int
    published_at: int


def read_notice(message: Any) -> Notice | None:
    """Read a PubsubMessage; None where it is no notice of Gmail's."""
    try:
        content = json.loads(decode_base64url(str(message["data"])))
        published = message.get("publishTime") or message.get("publish_time")
        at = int(datetime.fromisoformat(published).timestamp() * 1000) if published else now_milliseconds()
        # Gmail has been seen to send the historyId as a number and as a string.
        return Notice(str(content["emailAddress"]), int(content["historyId"]), at)
    except (KeyError, TypeError, ValueError, AttributeError):
        return None


def _hint(mailbox_id: str, notice: Notice) -> Send:
    hint = SyncRequest(mailbox_id=mailbox_id, history_id=notice.history_id, requested_at=notice.published_at)
    with span("push", mailbox_id=mailbox_id):
        return Send.event(topics.SYNC_REQUESTS.name, mailbox_id, hint, trace=headers())


class Hints:
    """Passes notices on to the sources that own the mailboxes."""

    def __init__(self, producer: Producer, registry: Table) -> None:
        self._producer = producer
        self._registry = registry
        self._mailboxes: dict[str, list[str]] | None = None  # lower-case address -> mailbox ids
        self._forwarded: dict[str, tuple[int, float]] = {}  # mailbox id -> (historyId, when)

    async def forward(self, notice: Notice) -> int:
        """Tell the owners; returns to how many mailboxes it was passed on. Raises UnavailableError.

        One that says nothing new is not repeated for a while; one that EQUALS the newest is, after that.
        """
        now = time.monotonic()
        new = []
        for mailbox_id in await self._ids_of(notice.address):
            history_id, at = self._forwarded.get(mailbox_id, (-1, 0.0))
            if notice.history_id > history_id or now - at > FORWARDED_SECONDS:
                new.append(mailbox_id)
        await self._producer.send([_hint(mailbox_id, notice) for mailbox_id in new])
        for mailbox_id in new:
            self._forwarded[mailbox_id] = (notice.history_id, now)
        return len(new)

    async def knows(self, address: str) -> bool:
        """Whether a live mailbox has this address. Raises UnavailableError."""
        return bool(await self._ids_of(address))

    async def _ids_of(self, address: str) -> list[str]:
        if await self._registry.refresh() or self._mailboxes is None:
            self._mailboxes = {}
            for key, value in self._registry.values.items():
                if "/" in key:
                    continue
                record = MailboxRecord.decode(value)
                if record.state is MailboxState.LIVE:
                    self._mailboxes.setdefault(record.address.lower(), []).append(record.mailbox_id)
            known = {mailbox_id for ids in self._mailboxes.values() for mailbox_id in ids}
            self._forwarded = {key: at for key, at in self._forwarded.items() if key in known}
        return self._mailboxes.get(address.lower(), [])
