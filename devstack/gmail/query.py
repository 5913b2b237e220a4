"""Gmail's search operators, as far as connectors and tests use them. What is unknown is taken as words."""

import re
from collections.abc import Callable
from datetime import UTC, datetime

from devstack.gmail.message import MessageReader, StoredMessage
from devstack.gmail.payload import plain_text
from devstack.gmail.store import Mailbox

Test = Callable[[StoredMessage], bool]

_TERM = re.compile(r'(-?)(?:(\w+):)?(?:"([^"]*)"|(\S+))')
_SIZE = re.compile(r"(\d+)([km]?)b?")
_AGE = re.compile(r"(\d+)([hdmy])")
_AGE_SECONDS = {"h": 3_600, "d": 86_400, "m": 30 * 86_400, "y": 365 * 86_400}
_ANYWHERE = re.compile(r"\b(?:in:(?:anywhere|spam|trash)|label:(?:spam|trash))\b", re.IGNORECASE)


def shows_spam_and_trash(query: str) -> bool:
    """Whether the query itself asks for what is otherwise left out."""
    return bool(_ANYWHERE.search(query))


class Query:
    """A query of one mailbox. ``now`` is in seconds since 1970, for newer_than and older_than."""

    def __init__(self, query: str, mailbox: Mailbox, reader: MessageReader, now: float) -> None:
        self._mailbox = mailbox
        self._reader = reader
        self._now = now
        self._tests = [self._test(*term) for term in _TERM.findall(query)]

    def matches(self, message: StoredMessage) -> bool:
        """Whether every term holds for the message."""
        return all(test(message) for test in self._tests)

    def _test(self, minus: str, operator: str, quoted: str, word: str) -> Test:
        value = (quoted or word).lower()
        test = self._operator(operator.lower(), value)
        if test is None:
            words = f"{operator}:{value}".lower() if operator else value
            test = self._words(words)
        return (lambda message: not test(message)) if minus else test

    def _operator(self, operator: str, value: str) -> Test | None:
        if operator in {"from", "subject"}:
            return lambda message: value in message.headers.get(operator, "").lower()
        if operator == "to":
            return lambda message: any(
                value in message.headers.get(h, "").lower() for h in ("to", "cc", "bcc")
            )
        if operator == "rfc822msgid":
            wanted = value.strip("<>")
            return lambda message: message.headers.get("message-id", "").strip("<> ").lower() == wanted
        if operator in {"label", "in", "is"}:
            return self._label(value)
        if operator == "has" and value == "attachment":
            return self._has_attachment
        if operator in {"smaller", "larger", "size"} and (size := _SIZE.fullmatch(value)):
            return _size_test(operator, int(size[1]) * {"": 1, "k": 1024, "m": 1024**2}[size[2]])
        return self._time(operator, value)

    def _time(self, operator: str, value: str) -> Test | None:
        if operator in {"newer_than", "older_than"} and (age := _AGE.fullmatch(value)):
            limit = self._now - int(age[1]) * _AGE_SECONDS[age[2]]
            after = operator == "newer_than"
        elif operator in {"after", "before", "newer", "older"} and (when := _date_seconds(value)) is not None:
            limit, after = when, operator in {"after", "newer"}
        else:
            return None
        if after:
            return lambda message: message.internal_date >= limit * 1000
        return lambda message: message.internal_date < limit * 1000

    def _label(self, value: str) -> Test:
        if value == "anywhere":
            return lambda message: True
        if value == "read":
            return lambda message: not message.has("UNREAD")
        wanted = {"sent": "SENT", "drafts": "DRAFT"}.get(value, value).casefold()

        def test(message: StoredMessage) -> bool:
            for label_id in message.labels:
                name = self._mailbox.label_name(label_id).casefold()
                # In a query, spaces and slashes of a label's name may stand as hyphens.
                if wanted in {label_id.casefold(), name, re.sub(r"[\s/]", "-", name)}:
                    return True
            return False

        return test

    def _has_attachment(self, message: StoredMessage) -> bool:
        if message.has_attachment is None:
            # Kept: a listing asks it of every mail for each page, and large ones take long to parse.
            parts = self._reader.tree(message).walk()
            message.has_attachment = any(part.filename and part.content is not None for part in parts)
        return message.has_attachment

    def _words(self, words: str) -> Test:
        pattern = re.compile(rf"(?<!\w){re.escape(words)}(?!\w)", re.IGNORECASE)

        def test(message: StoredMessage) -> bool:
            if any(pattern.search(message.headers.get(name, "")) for name in ("subject", "from", "to", "cc")):
                return True
            tree = self._reader.tree(message)
            names = " ".join(part.filename for part in tree.walk())
            return bool(pattern.search(plain_text(tree)) or pattern.search(names))

        return test


def _size_test(operator: str, size_bytes: int) -> Test:
    if operator == "smaller":
        return lambda message: message.size_bytes < size_bytes
    return lambda message: message.size_bytes > size_bytes


def _date_seconds(value: str) -> float | None:
    if value.isdecimal() and len(value) > 8:
        return float(value)
    for form in ("%Y/%m/%d", "%Y-%m-%d", "%m/%d/%Y"):
        try:
            return datetime.strptime(value, form).replace(tzinfo=UTC).timestamp()
        except ValueError:
            continue
    return None
