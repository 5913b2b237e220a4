"""What reads strangers' bytes, each as a function of bytes that raises only where a promise is broken.

``tests.fuzz`` gives them to a coverage-guided fuzzer, ``test_hostile_bytes`` to Hypothesis.
"""

import email
import json
import re
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from email.message import Message
from email.policy import compat32
from typing import Any

from connectors.gmail.message import from_json
from schemas import mime
from schemas.catalog import EVENTS
from schemas.outcomes import Outcome
from schemas.registers import (
    AttachmentContent,
    ContentRegister,
    MessageContent,
    PartReference,
    content_version,
    decode_register,
    split_key,
)
from search.conditions import Conditions, Context
from search.labels import LabelDirectories
from search.query import QueryError, parse

_PATH = re.compile(r"[1-9][0-9]*(\.[1-9][0-9]*)*")
_CONTEXT = Context(datetime(2026, 3, 31, tzinfo=UTC), LabelDirectories({}))
MAX_NESTED_CLAUSES = 28  # Elasticsearch takes 30, and what a caller may see is two of them
MAX_PATTERN = 1_000


def mime_walk(data: bytes) -> None:
    """Any mail is a tree of leaves with paths of their own, which an event can carry."""
    _promises(mime.parse(data))
    # The same tree as Python's own parser has, but for what its headers say of each part.
    leaves = [leaf.path for leaf in mime.walk(mime.parse(data))]
    assert leaves == [path for path, _ in python_leaves(email.message_from_bytes(data, policy=compat32))]


def python_leaves(root: Message) -> list[tuple[str, Message]]:
    """The leaves of a mail and their IMAP section numbers, by Python's ``email`` alone."""

    def below(part: Message, prefix: str) -> Iterator[tuple[str, Message]]:
        for number, child in enumerate(part.get_payload(), start=1):
            assert isinstance(child, Message)
            path = f"{prefix}{number}"
            if _has_parts(child):
                yield from below(child, f"{path}.")
            else:
                yield path, child

    return list(below(root, "")) if _has_parts(root) else [("1", root)]


def _has_parts(part: Message) -> bool:
    return part.get_content_maintype() == "multipart" and part.is_multipart() and bool(part.get_payload())


def _promises(root: mime.Part) -> None:
    leaves = mime.walk(root)
    paths = [leaf.path for leaf in leaves]
    assert paths
    assert len(set(paths)) == len(paths)
    assert all(_PATH.fullmatch(path) for path in paths)
    attachments, bodies = mime.attachments(root), mime.body_leaves(root)
    assert all(leaf in leaves for leaf in attachments)
    assert not [leaf for leaf in bodies if leaf.part.is_attachment]
    digest = mime.text_digest([(leaf.part.body or b"", leaf.part.charset) for leaf in bodies])
    content = MessageContent(
        subject=root.header("Subject") or "",
        sender=root.header("From") or "",
        to=tuple(value for _, value in root.headers),
        text_sha256=digest,
        parts=tuple(
            PartReference(
                part_path=leaf.path, filename=leaf.part.filename, content_type=leaf.part.content_type
            )
            for leaf in attachments
        ),
    )
    assert MessageContent.decode(content.encode()) == content


class Draws:
    """Choices, out of bytes: what is used up chooses the first of everything."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._next = 0

    def number(self, below: int) -> int:
        """0 to ``below`` - 1."""
        self._next += 1
        return self._data[self._next - 1] % below if self._next <= len(self._data) else 0

    def bytes(self) -> bytes:
        """Up to 63 bytes."""
        start = self._next + 1
        self._next = min(start + self.number(64), len(self._data))
        return self._data[start : self._next]

    def text(self) -> str:
        """Text, with what JSON allows and UTF-8 does not."""
        if self.number(4) == 1:
            taken = self.bytes()
            return taken[: len(taken) // 2 * 2].decode("utf-16-le", "surrogatepass")
        return self.bytes().decode("utf-8", "replace")


_TYPES = ("text/plain", "text/html", "multipart/mixed", "multipart/alternative", "message/rfc822", "a/b", "")
_HEADERS = ("Content-Type", "Content-Disposition", "Subject", "content-id", "From", "")


def _payload(draws: Draws, depth: int) -> dict[str, Any]:
    payload: dict[str, Any] = {"mimeType": _TYPES[draws.number(len(_TYPES))]}
    if draws.number(3):
        payload["headers"] = [
            {"name": _HEADERS[draws.number(len(_HEADERS))], "value": draws.text()}
            for _ in range(draws.number(4))
        ]
    if draws.number(2):
        payload["filename"] = draws.text()
    body: dict[str, Any] = {"size": draws.number(200)}
    match draws.number(3):
        case 1:
            body["data"] = draws.bytes().hex() if draws.number(2) else draws.bytes().decode("latin-1")
        case 2:
            body["attachmentId"] = draws.text()
    payload["body"] = body
    if depth < 200 and draws.number(2):
        payload["parts"] = [_payload(draws, depth + 1) for _ in range(draws.number(4))]
    return payload


def gmail_json(data: bytes) -> None:
    """Whatever Gmail says of a message, in the types that it documents, is a tree; ValueError: no base64."""
    draws = Draws(data)
    resource: dict[str, Any] = {"id": "m1", "historyId": "7", "payload": _payload(draws, 0)}
    if draws.number(8) == 1:
        resource["raw"] = draws.bytes().decode("latin-1")
    try:
        message = from_json(resource)
    except ValueError:
        return
    _promises(message.root)


def query_language(data: bytes) -> None:
    """Any text is a query or an error that points into it, and asks nothing that the server refuses."""
    text = data.decode("utf-8", "replace")
    try:
        query = parse(text)
        assert parse(str(query)) == query
        conditions = Conditions(query, _CONTEXT)
    except QueryError as error:
        assert 0 <= error.position <= len(text)
        return
    clauses = conditions.clauses([{"terms": {"message_key": []}} for _ in conditions.on_parts])
    json.dumps([clauses, conditions.on_parts, conditions.shared])
    for clause in (*clauses, *conditions.on_parts, *conditions.shared):
        assert _depth(clause) <= MAX_NESTED_CLAUSES
        assert all(len(pattern) <= MAX_PATTERN for pattern in _patterns(clause))


def _depth(clause: Any) -> int:
    if isinstance(clause, dict):
        return int("bool" in clause) + max(map(_depth, clause.values()), default=0)
    return max(map(_depth, clause), default=0) if isinstance(clause, list) else 0


def _patterns(clause: Any) -> Iterator[str]:
    if isinstance(clause, dict):
        for name, value in clause.items():
            if name in ("regexp", "wildcard"):
                yield from (asked["value"] for asked in value.values())
            else:
                yield from _patterns(value)
    elif isinstance(clause, list):
        for each in clause:
            yield from _patterns(each)


def event_decoding(data: bytes) -> None:
    """Any value of any topic is an event that can be written again, or ValueError."""
    draws = Draws(data[:2])
    kind = EVENTS[draws.number(len(EVENTS))]
    headers = kind.schema_headers() if draws.number(2) else (("schema-version", data[2:6]),)
    try:
        event = kind.decode(data[2:], headers)
    except ValueError:
        pass
    else:
        # JSON has no numbers beyond a double's; in a field of the future such a one is lost.
        if "inf" not in repr(event):
            assert kind.decode(event.encode(), headers) == event
    key = ("x/labels", "x/label/a", "x/deleted", "x/content/1", "x", "")[draws.number(6)]
    try:
        register = decode_register(key, data[2:])
    except ValueError:
        return
    assert register.key == key


def part_paths(data: bytes) -> None:
    """Positions in a tree are paths, and paths are keys: none is another's, and each leads back."""
    draws = Draws(data)

    def grow(depth: int) -> mime.Part:
        children = tuple(grow(depth + 1) for _ in range(draws.number(5))) if depth < 8 else ()
        kind = ("multipart/mixed", "multipart/alternative", "text/plain", "a/b")[draws.number(4)]
        return mime.Part(content_type=kind, children=children, body=None if children else draws.bytes())

    root = grow(0)
    _promises(root)
    keys = set()
    leaves = mime.walk(root)
    for leaf in leaves:
        below = "/".join((leaf.path, *(str(draws.number(200)) for _ in range(draws.number(4)))))
        for path in {leaf.path, below}:
            register = ContentRegister(
                mailbox_id="box",
                message_id="m1",
                part_path=path,
                version=content_version(1, Outcome.EMPTY, "x"),
                attachment=AttachmentContent(content_type="a/b", outcome=Outcome.EMPTY),
            )
            _, name = split_key(register.key)
            assert name == f"content/{path}"
            again = decode_register(register.key, register.encode())
            assert isinstance(again, ContentRegister)
            assert again.part_path == path
            keys.add(register.key)
    assert len(keys) >= len(leaves)


TARGETS: dict[str, Callable[[bytes], None]] = {
    "mime": mime_walk,
    "gmail": gmail_json,
    "query": query_language,
    "events": event_decoding,
    "paths": part_paths,
}
