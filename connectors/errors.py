"""Every error of this project, in one tree. ``transient`` says whether trying again may help, and
``backoff_seconds`` when.

Library errors are mapped to these once, at the edge where the library is called. What is not a failure
(a refused attachment, an infected one, a truncated text) is a value, see ``schemas.outcomes``.
"""

import random
from typing import Literal


class MailstreamError(Exception):
    """Base of all. ``transient`` is data on the class, so that one retry rule serves every caller."""

    transient: bool = False
    retry_after_seconds: float | None = None

    def __init__(self, message: str, *, retry_after_seconds: float | None = None) -> None:
        super().__init__(message)
        if retry_after_seconds is not None:
            self.retry_after_seconds = retry_after_seconds


def backoff_seconds(failures: int, longest: float, first: float = 1.0) -> float:
    """How long to wait after so many failures in a row: ``first``, doubled for each, ``longest`` at most; up
    to half of it less, so that not all come again at the same moment."""
    return min(first * 2.0 ** min(failures, 32), longest) * random.uniform(0.5, 1.0)


class ConfigurationError(MailstreamError):
    """What the operator gave does not work: a setting, a file, a missing program. Says what to do."""


class TopicMissingError(ConfigurationError):
    """A topic that must be there is not: nobody has made it, or Kafka has just started and knows none yet."""


class UnavailableError(MailstreamError):
    """A server of ours (Kafka, Elasticsearch) does not answer. Stop un-acked; nothing is lost."""

    transient = True


class ScannerUnavailableError(UnavailableError):
    """The malware scanner does not answer, or not now. Only attachments wait for it, the rest goes on."""


class ScannerDroppedError(ScannerUnavailableError):
    """The scanner hung up on a document: it was ended meanwhile, or the document ended it."""


class ScannerFullError(ScannerDroppedError):
    """The scanner has no room left for a document: its directory is full, or the document takes it all."""


# --- Gmail ---------------------------------------------------------------------------------------------


class GmailError(MailstreamError):
    """Gmail answered with an error that has no class of its own. Permanent: asking again will not help."""


class GmailUnavailableError(GmailError):
    """5xx, a broken connection, a truncated body."""

    transient = True


class FailedPreconditionError(GmailUnavailableError):
    """400 FAILED_PRECONDITION: healthy mailboxes answer it now and then, one without Gmail always."""


class RateLimitedError(GmailError):
    """403 ``rateLimitExceeded``/``userRateLimitExceeded`` or 429; Google may name a time to wait.

    ``scope`` says whose limit it was: the ``mailbox``'s, the ``project``'s, or that on ``concurrency``.
    """

    transient = True
    scope: Literal["mailbox", "project", "concurrency"] = "mailbox"


class NotFoundError(GmailError):
    """404: the message, attachment or label is gone."""


class HistoryExpiredError(GmailError):
    """404 from history.list: the cursor is older than what Gmail keeps. Calls for a resync."""


class PageTokenExpiredError(GmailError):
    """400 for a page token: the listing must be started again."""


class EpochEndedError(GmailError):
    """What was known of a mailbox means nothing any more (UIDVALIDITY): it begins again, in a new epoch."""


class AuthorizationError(GmailError):
    """401, 403 without a quota reason, or ``invalid_grant``: the mailbox must be parked and looked at."""


class TokenRefusedError(MailstreamError):
    """A caller's token is missing, malformed, forged or expired: he is nobody (401)."""


class TokenForbiddenError(MailstreamError):
    """A caller's token is authentic, and not for what he asks (403)."""


# --- Elasticsearch -------------------------------------------------------------------------------------


class ConflictError(MailstreamError):
    """Somebody wrote the document first (compare-and-set failed): read again, merge, write again."""

    transient = True


class IndexReplacedError(UnavailableError):
    """Another index takes the place of the one written to, or has taken it: read and merge again there."""


class RejectedDocumentError(MailstreamError):
    """Elasticsearch refuses this one document for good (mapping, size). Its neighbours are unharmed."""


class DocumentTooLargeError(RejectedDocumentError):
    """The document is larger than a request may be, or than the server's memory for one write."""


# --- Kafka ---------------------------------------------------------------------------------------------


class UndecodableEventError(MailstreamError):
    """A record's bytes are no event of this topic's schema. Goes to the dead letters with its reason."""


class ForeignEventError(UndecodableEventError):
    """A record's headers name another schema, or a newer version: to be replayed after an upgrade."""
