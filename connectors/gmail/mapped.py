"""What the Google libraries raise, as errors of our own tree: the one place where they are told apart."""

import http.client
import json
from collections.abc import Callable
from typing import Any, TypeVar

import httplib2
import requests
from google.auth.exceptions import GoogleAuthError, RefreshError, TransportError
from googleapiclient.errors import HttpError

from connectors.errors import (
    AuthorizationError,
    FailedPreconditionError,
    GmailError,
    GmailUnavailableError,
    MailstreamError,
    NotFoundError,
    RateLimitedError,
)

Result = TypeVar("Result")

# What Google says to a service account's assertion whose times are not about now.
_CLOCK_REFUSED = "Invalid JWT: Token must be a short-lived token"


def mapped(work: Callable[[], Result]) -> Result:
    """Run ``work`` and turn what the Google libraries raise into errors of our own tree."""
    try:
        return work()
    except HttpError as error:
        raise status_error(error.resp.status, error.content, error.resp) from error
    except RefreshError as error:
        if error.retryable:
            raise GmailUnavailableError(f"the token endpoint failed: {error}") from error
        if _CLOCK_REFUSED in str(error):
            # Nobody must look at the mailbox because a clock was wrong for a minute.
            raise GmailUnavailableError(f"this machine's clock is not Google's: {error}") from error
        raise AuthorizationError(f"Google refuses these credentials: {error}") from error
    except TransportError as error:
        raise GmailUnavailableError(f"the token endpoint does not answer: {error}") from error
    except GoogleAuthError as error:
        raise AuthorizationError(f"these credentials do not work: {error}") from error
    except (httplib2.HttpLib2Error, http.client.HTTPException, requests.RequestException, OSError) as error:
        raise GmailUnavailableError(f"Gmail does not answer: {type(error).__name__}: {error}") from error
    except json.JSONDecodeError as error:
        raise GmailUnavailableError("Gmail's answer broke off") from error


_PROJECT_REASONS = {"rateLimitExceeded", "dailyLimitExceeded", "quotaExceeded"}
_QUOTA_REASONS = {"userRateLimitExceeded", *_PROJECT_REASONS}


def status_error(status: int, content: bytes, headers: Any) -> MailstreamError:
    """The error that an answer other than 200 is."""
    reason, message = _reason(content)
    retry_after = headers.get("retry-after") if headers is not None else None
    wait_seconds = float(retry_after) if retry_after and str(retry_after).isdigit() else None
    text = f"Gmail answered {status} {reason}: {message}"
    if status == http.client.TOO_MANY_REQUESTS or reason in _QUOTA_REASONS:
        limited = RateLimitedError(text, retry_after_seconds=wait_seconds)
        if "concurrent" in message.lower():
            limited.scope = "concurrency"
        elif reason in _PROJECT_REASONS and wait_seconds is None:
            limited.scope = "project"
        return limited
    if status >= http.client.INTERNAL_SERVER_ERROR:
        return GmailUnavailableError(text, retry_after_seconds=wait_seconds)
    if status == http.client.NOT_FOUND:
        return NotFoundError(text)
    if status in {http.client.UNAUTHORIZED, http.client.FORBIDDEN}:
        return AuthorizationError(text)
    if reason == "failedPrecondition":
        # Healthy messages answer this now and then; a mailbox without Gmail answers it always.
        return FailedPreconditionError(text)
    return GmailError(text)


def _reason(content: bytes) -> tuple[str, str]:
    """Google's own reason and message out of an error body, or what there is of them."""
    try:
        error = json.loads(content)["error"]
        details = error.get("errors") or [{}]
        return str(details[0].get("reason", error.get("status", ""))), str(error.get("message", ""))
    except (ValueError, KeyError, TypeError, AttributeError, IndexError):
        return "", ""
