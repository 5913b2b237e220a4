"""Page tokens: opaque to the client, bound to the request that they continue."""

import base64
import hashlib
import json
from typing import Any

from devstack.gmail.errors import invalid_argument

DEFAULT_PAGE_SIZE = 100
MAX_PAGE_SIZE = 500


def page_size(value: str | None, maximum: int = MAX_PAGE_SIZE) -> int:
    """The page size out of a maxResults parameter; what is above the maximum is cut to it."""
    if value is None:
        return min(DEFAULT_PAGE_SIZE, maximum)
    if not value.isdecimal() or int(value) < 1:
        raise invalid_argument(f"Invalid value for maxResults: {value}")
    return min(int(value), maximum)


def make_token(position: list[Any], request: Any) -> str:
    """A token for the page after ``position`` of ``request`` (anything that JSON can hold)."""
    return base64.urlsafe_b64encode(json.dumps([_digest(request), *position]).encode()).decode()


def read_token(token: str, request: Any) -> list[Any]:
    """The position in a token. Raises ApiError 400 when it is none of ours, or of another request."""
    try:
        digest, *position = json.loads(base64.urlsafe_b64decode(token))
    except (ValueError, TypeError):
        raise stale_token() from None
    if digest != _digest(request) or not position:
        raise stale_token()
    return list(position)


def stale_token() -> Exception:
    """What Gmail says to a page token that it does not know or no longer knows."""
    return invalid_argument("Invalid pageToken")


def _digest(request: Any) -> str:
    return hashlib.sha256(json.dumps(request, sort_keys=True).encode()).hexdigest()[:12]
