"""Who asks, and what he may see: a request's Authorization header becomes a caller with his ``Access``.

A caller comes with a token of ours, or with one of a trusted OpenID Connect issuer. Either way he is bound to
mailboxes by a record that only the command writes; nothing in a request can widen it.
"""

from __future__ import annotations

import asyncio
import hmac
import secrets
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import jwt

from connectors.errors import TokenForbiddenError, TokenRefusedError, UnavailableError
from schemas.callers import CallerRecord, email_caller_id, hash_secret
from schemas.events import now_milliseconds
from search.access import Access

TOKEN_PREFIX = "mst"  # noqa: S105 - how a token begins, so that a leaked one is recognised
# A revocation counts after this long at most; a page's dozen requests ask once.
REMEMBERED_SECONDS = 2.0
REMEMBERED_CALLERS = 10_000
# Signatures that an issuer may use: public keys only, so that nobody signs with what everybody can read.
ALGORITHMS = ("RS256", "RS384", "RS512", "ES256", "ES384", "PS256", "EdDSA")
CLOCK_SKEW_SECONDS = 10
KEYS_TIMEOUT_SECONDS = 10


@dataclass(frozen=True, slots=True)
class Caller:
    """Whoever asks, and the mailboxes that he may read."""

    caller_id: str
    access: Access


class CallerDirectory(Protocol):
    """Where caller records are read."""

    async def get(self, caller_id: str) -> CallerRecord | None:
        """The caller as he stands now. Raises UnavailableError."""


@dataclass(frozen=True, slots=True)
class Issuer:
    """A trusted OpenID Connect issuer: its name, our client id there, and where its keys are."""

    issuer: str
    audience: str
    keys_url: str


class Authentication:
    """Tells callers by the Authorization header."""

    def __init__(self, callers: CallerDirectory, issuer: Issuer | None = None) -> None:
        self._callers = callers
        self._issuer = issuer
        self._keys = (
            jwt.PyJWKClient(issuer.keys_url, timeout=KEYS_TIMEOUT_SECONDS) if issuer is not None else None
        )
        self._known: dict[str, tuple[float, Caller]] = {}

    async def caller(self, authorization: str | None) -> Caller:
        """Who this is.

        Raises TokenRefusedError for whoever is nobody (401), TokenForbiddenError for somebody without a
        mailbox (403), and UnavailableError.
        """
        scheme, _, token = (authorization or "").partition(" ")
        if scheme.lower() != "bearer" or not token:
            raise TokenRefusedError("send a token: Authorization: Bearer ...")
        now = time.monotonic()
        key = hash_secret(token)
        known = self._known.get(key)
        if known is not None and now - known[0] < REMEMBERED_SECONDS:
            return known[1]
        record = await self._by_token(token) if token.startswith(f"{TOKEN_PREFIX}_") else None
        if record is None:
            record = await self._by_issuer(token)
        boxes = record.mailbox_ids
        caller = Caller(record.caller_id, Access.everything() if boxes is None else Access.only(boxes))
        if len(self._known) >= REMEMBERED_CALLERS:
            self._known.clear()
        self._known[key] = (now, caller)
        return caller

    async def _by_token(self, token: str) -> CallerRecord:
        _, _, rest = token.partition("_")
        caller_id, _, secret = rest.partition("_")
        record = await self._callers.get(caller_id) if caller_id.isalnum() else None
        # The same work for a caller who is not there: the time must not tell.
        expected = record.secret_hash if record is not None and record.secret_hash else hash_secret("")
        matches = hmac.compare_digest(expected, hash_secret(secret))
        if record is None or record.secret_hash is None or not matches:
            raise TokenRefusedError("the token is unknown")
        if not record.is_valid(now_milliseconds()):
            raise TokenRefusedError("the token is revoked or expired")
        return record

    async def _by_issuer(self, token: str) -> CallerRecord:
        if self._issuer is None or self._keys is None:
            raise TokenRefusedError("the token is unknown")
        try:
            key = await asyncio.to_thread(self._keys.get_signing_key_from_jwt, token)
            claims = jwt.decode(
                token,
                key.key,
                algorithms=list(ALGORITHMS),
                audience=self._issuer.audience,
                issuer=self._issuer.issuer,
                leeway=CLOCK_SKEW_SECONDS,
                options={"require": ["exp", "iss", "aud"]},
            )
        except jwt.PyJWKClientConnectionError as error:
            raise UnavailableError("the issuer's keys cannot be had") from error
        except jwt.PyJWTError as error:
            raise TokenRefusedError("the token is malformed, forged, expired or for somebody else") from error
        email = claims.get("email")
        if not isinstance(email, str) or claims.get("email_verified") is not True:
            raise TokenForbiddenError("the issuer vouches for no e-mail address")
        record = await self._callers.get(email_caller_id(email))
        if record is None or not record.is_valid(now_milliseconds()):
            raise TokenForbiddenError("nobody has given you a mailbox: `mailstream token create --email`")
        return record


def new_token(
    name: str, mailbox_ids: Sequence[str] | None, expires_at: int | None = None
) -> tuple[CallerRecord, str]:
    """A caller and his token, which is shown once and kept nowhere."""
    caller_id, secret = secrets.token_hex(8), secrets.token_urlsafe(32)
    record = CallerRecord(
        caller_id=caller_id,
        name=name,
        mailbox_ids=None if mailbox_ids is None else tuple(mailbox_ids),
        secret_hash=hash_secret(secret),
        expires_at=expires_at,
    )
    return record, f"{TOKEN_PREFIX}_{caller_id}_{secret}"


def email_caller(
    name: str, email: str, mailbox_ids: Sequence[str] | None, expires_at: int | None = None
) -> CallerRecord:
    """A caller who signs in with the trusted issuer."""
    return CallerRecord(
        caller_id=email_caller_id(email),
        name=name,
        email=email.lower(),
        mailbox_ids=None if mailbox_ids is None else tuple(mailbox_ids),
        expires_at=expires_at,
    )
