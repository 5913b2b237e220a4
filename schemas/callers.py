"""Who may search what: the callers of the search API, as they stand in Elasticsearch.

A caller proves himself by a token of ours, of which only a hash is kept, or by the e-mail address that a
trusted OpenID Connect issuer vouches for.
"""

import hashlib

from schemas.events import NOW, Event

CALLERS_INDEX = "mailstream-callers-v1"


class CallerRecord(Event):
    """One caller and the mailboxes that he may search."""

    caller_id: str  # says nothing about the person: it stands in logs
    name: str
    mailbox_ids: tuple[str, ...] | None = None  # None: all mailboxes
    secret_hash: str | None = None  # SHA-256 of the token's secret, 256 random bits; None: signs in by e-mail
    email: str | None = None  # lower case
    created_at: int = NOW
    expires_at: int | None = None  # milliseconds; None: never
    revoked_at: int | None = None

    def is_valid(self, at: int) -> bool:
        """Whether the caller may come in at that moment (milliseconds)."""
        return self.revoked_at is None and (self.expires_at is None or at < self.expires_at)


def email_caller_id(email: str) -> str:
    """The caller id of who signs in by e-mail: the same for the same address, and not the address."""
    return "oidc-" + hashlib.sha256(email.lower().encode()).hexdigest()[:16]


def hash_secret(secret: str) -> str:
    """What is kept of a token's secret. It is random and long: a plain hash cannot be guessed back."""
    return hashlib.sha256(secret.encode()).hexdigest()
