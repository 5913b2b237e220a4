"""What a query means to the index: the words that rank, and the clauses of Elasticsearch that must hold.

Documents of a message share most fields (sender, labels, date), so most conditions are a clause on each
document. Words and files are different: ``contract -draft`` must not find a message by its contract when its
body says draft. Such a condition on *parts* is first turned into the messages that it holds for (see
``Retrieval``).
"""

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from schemas.events import HIDDEN_LABELS
from schemas.words import stemmed
from search.labels import LabelDirectories
from search.query import And, Node, Not, Or, Phrase, Query, QueryError, Term, Word, leaves

Clause = dict[str, Any]

# What one query may cost: a condition on words or files is a request of its own, any other a clause that may
# look at every sender or file name there is. More than people write, less than hurts.
MAX_ON_PARTS, MAX_LEAVES = 30, 200
# Elasticsearch takes regular expressions of 1,000 characters, and an escaped one has two.
MAX_VALUE_CHARACTERS = 256

_PLACES = {
    place: "DRAFT" if place == "drafts" else "CHAT" if place == "chats" else place.upper()
    for place in (
        *("inbox", "sent", "draft", "drafts", "spam", "trash", "chats"),
        *("starred", "important", "unread"),
    )
}
_STATES = ("unread", "read", "starred", "important")
_DAY = re.compile(r"(\d{4})[/-](\d{1,2})[/-](\d{1,2})")
_AGE = re.compile(r"(\d{1,5})([hdwmy])")
_AGE_DAYS = {"h": 1 / 24, "d": 1, "w": 7, "m": 30, "y": 365}
_SIZE = re.compile(r"(\d+(?:\.\d+)?)([kmg]?)b?")
_SIZE_BYTES = {"": 1, "k": 2**10, "m": 2**20, "g": 2**30}

_OOXML = "application/vnd.openxmlformats-officedocument"
_OPEN = "application/vnd.oasis.opendocument"
# What people call types; what is none of these is an extension (type:dwg) or a MIME type (type:image/png).
TYPES: Mapping[str, Sequence[str]] = {
    "pdf": ("application/pdf",),
    "document": ("application/msword", f"{_OOXML}.wordprocessingml.*", f"{_OPEN}.text*", "application/rtf"),
    "spreadsheet": (
        "application/vnd.ms-excel*",
        f"{_OOXML}.spreadsheetml.*",
        f"{_OPEN}.spreadsheet*",
        "text/csv",
    ),
    "presentation": (
        *("application/vnd.ms-powerpoint*", f"{_OOXML}.presentationml.*", f"{_OPEN}.presentation*"),
    ),
    "image": ("image/*",),
    "audio": ("audio/*",),
    "video": ("video/*",),
    "archive": (
        "application/zip",
        "application/x-7z*",
        "application/x-tar",
        "application/gzip",
        "application/x-rar*",
    ),
    "calendar": ("text/calendar",),
    "mail": ("message/rfc822", "application/vnd.ms-outlook"),
    "text": ("text/plain", "text/markdown"),
}
TYPES = {
    **TYPES,
    "word": TYPES["document"],
    "excel": TYPES["spreadsheet"],
    "powerpoint": TYPES["presentation"],
}

_STEMMED = ("subject_stems", "names_stems", "text_stems")
_EXACT = ("subject", "text", "filename", "title")
_NAMED = ("sender", "to", "cc")


@dataclass(frozen=True, slots=True)
class Context:
    """What a query is read against: the hour (aware: its zone is where days begin) and the labels."""

    now: datetime
    labels: LabelDirectories

    @classmethod
    def default(cls) -> "Context":
        """Now, in UTC, with the labels that every mailbox has."""
        return cls(datetime.now(UTC), LabelDirectories({}))


class Conditions:
    """A query's meaning. Raises QueryError where a value cannot be what its operator needs."""

    def __init__(self, query: Query, context: Context) -> None:
        if sum(1 for _ in leaves(query.nodes)) > MAX_LEAVES:
            raise QueryError(f"a query may have {MAX_LEAVES} conditions", 0)
        self._context = context
        self._nodes = [node for node in query.nodes if not isinstance(node, Word)]
        self.text = " ".join(_ranked(query.nodes))
        # On parts of a message, in the order in which ``clauses`` takes the messages they hold for.
        self.on_parts: list[Clause] = []
        self._asked_for: set[str] = set()  # hidden labels that the query names
        shared = [self._clause(node, self._note) for node in self._nodes]
        self.shared = [
            clause for clause, node in zip(shared, self._nodes, strict=True) if not _has_parts(node)
        ]

    def clauses(self, messages: Sequence[Clause]) -> list[Clause]:
        """All that must hold, with ``messages`` in the place of ``on_parts``."""
        waiting = iter(messages)
        return [self._clause(node, lambda _: next(waiting)) for node in self._nodes]

    @property
    def hidden(self) -> list[str]:
        """The labels whose messages stay out of sight: spam and trash, unless they are asked for."""
        return sorted(HIDDEN_LABELS - self._asked_for)

    def _note(self, clause: Clause) -> Clause:
        if len(self.on_parts) == MAX_ON_PARTS:
            raise QueryError(f"a query may have {MAX_ON_PARTS} conditions on words, phrases and files", 0)
        self.on_parts.append(clause)
        return clause

    def _clause(self, node: Node, part: Callable[[Clause], Clause], *, wanted: bool = True) -> Clause:
        match node:
            case Not(inner):
                return {"bool": {"must_not": [self._clause(inner, part, wanted=not wanted)]}}
            case And(nodes):
                return {"bool": {"filter": [self._clause(each, part, wanted=wanted) for each in nodes]}}
            case Or(nodes):
                return _any([self._clause(each, part, wanted=wanted) for each in nodes])
            case Word(text):
                return part(_any([_phrase(stemmed(text), _STEMMED), _phrase(text, _NAMED)]))
            case Phrase(text):
                return part(_phrase(text, (*_EXACT, *_NAMED)))
            case Term(operator, _):
                clause = _MEANINGS[operator](node, self._context)
                if wanted:
                    self._asked_for |= HIDDEN_LABELS if _everywhere(node) else _labels_in(clause)
                return part(clause) if operator in _ON_PARTS else clause


def _ranked(nodes: Sequence[Node]) -> Iterator[str]:
    """The words that make a message rank: all that stand in the query but for those that must not hold."""
    for node in nodes:
        match node:
            case Word(text) | Phrase(text):
                yield text
            case Term("subject", value):
                yield value
            case And(inner) | Or(inner):
                yield from _ranked(inner)


def _has_parts(node: Node) -> bool:
    match node:
        case Not(inner):
            return _has_parts(inner)
        case And(nodes) | Or(nodes):
            return any(map(_has_parts, nodes))
        case Term(operator, _):
            return operator in _ON_PARTS
    return True


def _any(clauses: Sequence[Clause]) -> Clause:
    return {"bool": {"should": list(clauses), "minimum_should_match": 1}}


def _phrase(text: str, fields: Sequence[str]) -> Clause:
    return {"multi_match": {"query": text, "type": "phrase", "fields": list(fields)}}


def _whole_words(field: str, value: str) -> Clause:
    """``value`` in a field, in any case, not within a longer word: "kerr" and "example.com" in an address."""
    border = "[^a-zA-Z0-9]"
    before = f"(.*{border})?" if value[:1].isalnum() else ".*"
    after = f"({border}.*)?" if value[-1:].isalnum() else ".*"
    return {
        "regexp": {f"{field}.raw": {"value": f"{before}{escaped(value)}{after}", "case_insensitive": True}}
    }


def escaped(text: str) -> str:
    """Text as a regular expression of Lucene's that matches it alone."""
    return re.sub(r"([.?+*|{}\[\]()\"\\#@&<>~^$-])", r"\\\1", text)


def _bounded(term: Term) -> str:
    """The value of a term that becomes a pattern."""
    if len(term.value) > MAX_VALUE_CHARACTERS:
        raise term.error(f"{term.operator}: takes at most {MAX_VALUE_CHARACTERS} characters")
    return term.value


def _person(*fields: str) -> Callable[[Term, Context], Clause]:
    return lambda term, _: _any([_whole_words(field, _bounded(term)) for field in fields])


def _subject(term: Term, _: Context) -> Clause:
    return _phrase(stemmed(term.value), ("subject_stems",))


def _labelled(term: Term, context: Context) -> Clause:
    system = term.value.upper()
    if system in set(_PLACES.values()):
        return {"term": {"label_ids": system}}
    labels = context.labels.ids(term.value)
    if not labels:
        raise term.error(f"no mailbox has a label {term.value}")
    return _any(
        [
            {"bool": {"filter": [{"term": {"mailbox_id": mailbox_id}}, {"term": {"label_ids": label_id}}]}}
            for mailbox_id, label_id in sorted(labels.items())
        ]
    )


def _in(term: Term, context: Context) -> Clause:
    if _everywhere(term):
        return {"match_all": {}}
    if term.value.lower() in _PLACES:
        return {"term": {"label_ids": _PLACES[term.value.lower()]}}
    return _labelled(term, context)


def _everywhere(term: Term) -> bool:
    return term.operator == "in" and term.value.lower() == "anywhere"


def _is(term: Term, _: Context) -> Clause:
    state = term.value.lower()
    if state not in _STATES:
        raise term.error(f"is: knows {', '.join(_STATES)}")
    if state == "read":
        return {"bool": {"must_not": [{"term": {"label_ids": "UNREAD"}}]}}
    return {"term": {"label_ids": _PLACES[state]}}


def _has(term: Term, _: Context) -> Clause:
    if term.value.lower() not in ("attachment", "attachments"):
        raise term.error("has: knows attachment (for kinds of files: type:pdf, type:spreadsheet)")
    return _any([{"term": {"has_attachment": True}}, {"term": {"kind": "attachment"}}])


def _filename(term: Term, _: Context) -> Clause:
    return _whole_words("filename", _bounded(term))


def _type(term: Term, _: Context) -> Clause:
    value = _bounded(term).lower().removeprefix(".")
    patterns = TYPES.get(value.removesuffix("s") if value.removesuffix("s") in TYPES else value)
    if patterns is None and "/" not in value:
        return {"wildcard": {"filename.raw": {"value": f"*.{_literal(value)}", "case_insensitive": True}}}
    # Of the caller's own a family only: each further star multiplies what the server has to try.
    family = value.removesuffix("/*")
    patterns = patterns or (_literal(family) + ("/*" if family != value else ""),)
    fields = ("content_type", "declared_content_type")
    return _any([{"wildcard": {field: {"value": pattern}}} for field in fields for pattern in patterns])


def _literal(value: str) -> str:
    return re.sub(r"([*?\\])", r"\\\1", value)


def _size(bound: str) -> Callable[[Term, Context], Clause]:
    def clause(term: Term, _: Context) -> Clause:
        found = _SIZE.fullmatch(term.value.lower())
        if not found:
            raise term.error("a size is a number with K, M or G behind it: larger:5M")
        size_bytes = int(float(found[1]) * _SIZE_BYTES[found[2]])
        sizes = {"range": {"size_bytes": {bound: min(size_bytes, 2**62)}}}
        return {"bool": {"filter": [{"term": {"kind": "message"}}, sizes]}}

    return clause


def _day(bound: str) -> Callable[[Term, Context], Clause]:
    def clause(term: Term, context: Context) -> Clause:
        found = _DAY.fullmatch(term.value)
        try:
            if not found:
                raise ValueError
            day = datetime(*map(int, found.groups()), tzinfo=context.now.tzinfo)  # type: ignore[misc,arg-type]
        except ValueError:
            raise term.error("a day is written 2026/03/31 or 2026-03-31") from None
        return _sent(bound, day)

    return clause


def _age(bound: str) -> Callable[[Term, Context], Clause]:
    def clause(term: Term, context: Context) -> Clause:
        found = _AGE.fullmatch(term.value.lower())
        if not found:
            raise term.error("an age is a number with h, d, w, m or y behind it: older_than:2w")
        try:
            return _sent(bound, context.now - timedelta(days=int(found[1]) * _AGE_DAYS[found[2]]))
        except OverflowError:
            raise term.error("nothing is that old") from None

    return clause


def _sent(bound: str, moment: datetime) -> Clause:
    epoch = datetime(1970, 1, 1, tzinfo=UTC)
    return {"range": {"sent_at": {bound: (moment - epoch) // timedelta(milliseconds=1)}}}


def _message_id(term: Term, _: Context) -> Clause:
    bare = term.value.strip("<>")
    return {"terms": {"rfc_message_id": [bare, f"<{bare}>"]}}


def _labels_in(clause: Clause) -> set[str]:
    named = clause.get("term", {}).get("label_ids")
    return {named} & HIDDEN_LABELS


_MEANINGS: Mapping[str, Callable[[Term, Context], Clause]] = {
    "from": _person("sender"),
    "to": _person("to", "cc"),
    "cc": _person("cc"),
    "subject": _subject,
    "label": _labelled,
    "in": _in,
    "is": _is,
    "has": _has,
    "filename": _filename,
    "type": _type,
    "larger": _size("gt"),
    "smaller": _size("lt"),
    "before": _day("lt"),
    "after": _day("gte"),
    "older_than": _age("lt"),
    "newer_than": _age("gte"),
    "rfc822msgid": _message_id,
}
_ON_PARTS = {"filename", "type", "larger", "smaller"}
