"""Where a page of answers ended, in a form that only the same query goes on from."""

import base64
import binascii
import hashlib
import json
from collections.abc import Sequence
from typing import Any

from connectors.errors import MailstreamError
from search.query import Query
from search.results import Mode

# Documents of each list that are fused at most: no place in a ranking lies beyond.
MAX_CANDIDATES = 400


class CursorError(MailstreamError):
    """A cursor that this program did not make, or made for another query."""


def _digest(query: Query, mode: Mode) -> str:
    return hashlib.sha256(f"{mode} {query}".encode()).hexdigest()[:12]


def written_cursor(position: Sequence[Any], query: Query, mode: Mode) -> str:
    """A cursor to go on from ``position``: a place in a ranking, or the (date, key) of the last message."""
    return base64.urlsafe_b64encode(json.dumps([_digest(query, mode), *position]).encode()).decode()


def read_cursor(cursor: str | None, query: Query, mode: Mode, is_ranked: bool) -> list[Any]:
    """The position that a cursor stands for; nothing without one. Raises CursorError."""
    if cursor is None:
        return []
    try:
        digest, *position = json.loads(base64.urlsafe_b64decode(cursor.encode()))
        is_ours = digest == _digest(query, mode) and _is_position(position, is_ranked)
    except (binascii.Error, UnicodeError, ValueError, TypeError):
        is_ours = False
    if not is_ours:
        raise CursorError("this cursor belongs to another query: begin again without one")
    return list(position)


def _is_position(position: Sequence[Any], is_ranked: bool) -> bool:
    """A place in a ranking, or the (date, key) after which a list goes on."""
    if is_ranked:
        return len(position) == 1 and type(position[0]) is int and 0 <= position[0] <= 2 * MAX_CANDIDATES
    if len(position) != 2 or type(position[0]) is not int or type(position[1]) is not str:
        return False
    return -(2**63) <= position[0] < 2**63
