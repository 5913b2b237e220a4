"""The query language, as Gmail's users know it: text to a tree and back. What the tree means to the index is
said in ``conditions``.

    query    = and { and }
    and      = or { "AND" or }
    or       = not { "OR" not }
    not      = "-" not | "(" query ")" | operator ":" value | '"' phrase '"' | word
    value    = word | '"' phrase '"' | "(" query ")"

OR binds closer than what stands side by side, as in Gmail. Words beside each other are a wish: the more of
them a message has, the better it ranks. What is written out (operators, quotes, minus, OR, AND, parentheses)
must hold.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from difflib import get_close_matches
from itertools import chain
from typing import Final

from connectors.errors import MailstreamError

_NAMES = (
    *("from", "to", "cc", "subject", "label", "in", "is", "has", "filename", "type", "larger", "smaller"),
    *("before", "after", "older_than", "newer_than", "rfc822msgid"),
)
# By what people write, the operator's name here: Gmail has several names for some.
OPERATORS: Final = {name: name for name in _NAMES} | {"older": "before", "newer": "after", "size": "larger"}
# Deeper than anybody writes; Elasticsearch takes clauses 30 deep, and each level may become two of them.
MAX_DEPTH = 10
MAX_CHARACTERS = 4_000

_WORD_END = re.compile(r'[\s()"]')
_OPERATOR = re.compile(r"([A-Za-z_0-9]+):")
_JOINERS = {"OR", "|", "AND"}


class QueryError(MailstreamError):
    """A query that means nothing. ``position`` and ``length`` say where, in characters."""

    def __init__(self, message: str, position: int, length: int = 1) -> None:
        super().__init__(message)
        self.position = position
        self.length = length

    def pointed_at(self, text: str) -> str:
        """The query with a line below it that points at the place, then what is wrong there."""
        line = "".join(" " if character.isspace() else character for character in text)
        return f"{line}\n{' ' * self.position}{'^' * max(self.length, 1)} {self}"


@dataclass(frozen=True, slots=True)
class Word:
    """A word as typed."""

    text: str

    def __str__(self) -> str:
        return self.text


@dataclass(frozen=True, slots=True)
class Phrase:
    """Words in this order."""

    text: str

    def __str__(self) -> str:
        return f'"{self.text}"'


@dataclass(frozen=True, slots=True)
class Term:
    """An operator with its value. Where it stood is kept for the errors that its meaning may have."""

    operator: str
    value: str
    position: int = field(default=0, compare=False)
    length: int = field(default=1, compare=False)

    def __str__(self) -> str:
        quoted = _WORD_END.search(self.value) is not None
        return f'{self.operator}:"{self.value}"' if quoted else f"{self.operator}:{self.value}"

    def error(self, message: str) -> QueryError:
        """What is wrong with it, pointing at where it stood."""
        return QueryError(message, self.position, self.length)


@dataclass(frozen=True, slots=True)
class Not:
    """Must not hold."""

    node: Node

    def __str__(self) -> str:
        return f"-{_grouped(self.node)}"


@dataclass(frozen=True, slots=True)
class And:
    """All must hold. None of them is an ``And``."""

    nodes: tuple[Node, ...]

    def __str__(self) -> str:
        return " AND ".join(map(str, self.nodes))

    @classmethod
    def of(cls, nodes: Iterable[Node]) -> And:
        """All of these, and what must hold in them."""
        nested = (node.nodes if isinstance(node, And) else (node,) for node in nodes)
        return cls(tuple(chain.from_iterable(nested)))


@dataclass(frozen=True, slots=True)
class Or:
    """One must hold."""

    nodes: tuple[Node, ...]

    def __str__(self) -> str:
        return " OR ".join(map(_grouped, self.nodes))


Node = Word | Phrase | Term | Not | And | Or


def _grouped(node: Node) -> str:
    """Written out in parentheses where it needs them: never deeper than it was typed."""
    return f"({node})" if isinstance(node, And | Or) else str(node)


@dataclass(frozen=True, slots=True)
class Query:
    """What stands side by side."""

    nodes: tuple[Node, ...]

    def __str__(self) -> str:
        return " ".join(map(str, self.nodes))

    @property
    def names_labels(self) -> bool:
        """Whether its meaning depends on what mailboxes call their labels."""
        return any(isinstance(leaf, Term) and leaf.operator in ("label", "in") for leaf in leaves(self.nodes))

    @classmethod
    def plain(cls, text: str) -> Query:
        """Text that nobody wrote in the query language: every word is a word."""
        return cls(tuple(Word(word) for word in text.split()))


def leaves(nodes: Iterable[Node]) -> Iterator[Phrase | Term]:
    """What must hold or must not: all but the words that only rank."""
    for node in nodes:
        match node:
            case Not(inner):
                yield from leaves([inner])
            case And(inner_nodes) | Or(inner_nodes):
                yield from leaves(inner_nodes)
            case Phrase() | Term():
                yield node


@dataclass(frozen=True, slots=True)
class _Token:
    kind: str  # word, phrase, operator, joiner, "(", ")", "-", end
    text: str
    position: int
    end: int


def parse(text: str) -> Query:
    """The tree of a query. Raises QueryError, which points at what is wrong, and nothing else."""
    if len(text) > MAX_CHARACTERS:
        raise QueryError(f"a query may have {MAX_CHARACTERS:,} characters", MAX_CHARACTERS)
    parser = _Parser(list(_tokens(text)))
    nodes = parser.side_by_side(0)
    parser.expect_end()
    return Query(nodes)


def _tokens(text: str) -> Iterator[_Token]:
    position = 0
    while position < len(text):
        character = text[position]
        if character.isspace():
            position += 1
            continue
        if character == '"':
            end = text.find('"', position + 1)
            if end < 0:
                raise QueryError("this quotation mark is never closed", position)
            if not text[position + 1 : end].strip():
                raise QueryError(
                    "there is nothing between these quotation marks", position, end + 1 - position
                )
            yield _Token("phrase", " ".join(text[position + 1 : end].split()), position, end + 1)
            position = end + 1
            continue
        if character in "()":
            yield _Token(character, character, position, position + 1)
            position += 1
            continue
        if character == "-":
            # A dash by itself is punctuation.
            if position + 1 < len(text) and not text[position + 1].isspace():
                yield _Token("-", "-", position, position + 1)
            position += 1
            continue
        operator = _OPERATOR.match(text, position)
        if operator and _known(operator[1], position):
            yield _Token("operator", OPERATORS[operator[1].lower()], position, operator.end())
            position = operator.end()
            end = _word_end(text, position)
            if end > position:
                yield _Token("word", text[position:end], position, end)
                position = end
            continue
        end = _word_end(text, position)
        word = text[position:end]
        yield _Token("joiner" if word in _JOINERS else "word", word, position, end)
        position = end
    yield _Token("end", "", len(text), len(text))


def _word_end(text: str, position: int) -> int:
    found = _WORD_END.search(text, position)
    return found.start() if found else len(text)


def _known(name: str, position: int) -> bool:
    """Whether an operator is called so. Nearly so is a slip of the finger; anything else is a word."""
    if name.lower() in OPERATORS:
        return True
    close = get_close_matches(name.lower(), OPERATORS, n=1, cutoff=0.75) if len(name) > 2 else []
    if close:
        message = f'no operator is called {name}: (did you mean {close[0]}: ? for the word, use "{name}:...")'
        raise QueryError(message, position, len(name) + 1)
    return False


class _Parser:
    """Recursive descent over the tokens; ``wrap`` turns words into an operator's values, inside its group."""

    def __init__(self, tokens: list[_Token]) -> None:
        self._tokens = tokens
        self._next = 0
        self._wrap: Callable[[_Token], Node] | None = None

    def _peek(self) -> _Token:
        return self._tokens[self._next]

    def _take(self) -> _Token:
        token = self._tokens[self._next]
        self._next = min(self._next + 1, len(self._tokens) - 1)
        return token

    def expect_end(self) -> None:
        token = self._peek()
        if token.kind == ")":
            raise QueryError("there is no opening parenthesis for this one", token.position)
        assert token.kind == "end"

    def side_by_side(self, depth: int) -> tuple[Node, ...]:
        nodes = []
        while self._peek().kind not in ("end", ")"):
            nodes.append(self._joined("AND", depth))
        return tuple(nodes)

    def _joined(self, joiner: str, depth: int) -> Node:
        nodes = [self._part(joiner, depth)]
        while self._peek().kind == "joiner" and (self._peek().text == "AND") == (joiner == "AND"):
            self._take()
            nodes.append(self._part(joiner, depth))
        if len(nodes) == 1:
            return nodes[0]
        return And.of(nodes) if joiner == "AND" else Or(tuple(nodes))

    def _part(self, joiner: str, depth: int) -> Node:
        return self._joined("OR", depth) if joiner == "AND" else self._not(depth)

    def _not(self, depth: int) -> Node:
        token = self._take()
        if depth > MAX_DEPTH:
            raise QueryError("this is nested too deep", token.position)
        if token.kind == "-":
            return Not(self._not(depth + 1))
        if token.kind == "(":
            return self._group(token, depth)
        if token.kind == "operator":
            return self._operator(token, depth)
        if token.kind == "joiner":
            raise QueryError(f"{token.text} needs something on both sides", token.position, len(token.text))
        if token.kind in ("end", ")"):
            raise QueryError("something is missing here", token.position)
        if self._wrap is not None:
            return self._wrap(token)
        return Phrase(token.text) if token.kind == "phrase" else Word(token.text)

    def _group(self, opening: _Token, depth: int) -> Node:
        nodes = self.side_by_side(depth + 1)
        if self._take().kind != ")":
            raise QueryError("this parenthesis is never closed", opening.position)
        if not nodes:
            raise QueryError("there is nothing in these parentheses", opening.position, 2)
        return nodes[0] if len(nodes) == 1 else And.of(nodes)

    def _operator(self, operator: _Token, depth: int) -> Node:
        if self._wrap is not None:
            message = f"{operator.text}: cannot stand inside another operator's parentheses"
            raise QueryError(message, operator.position, operator.end - operator.position)

        def wrap(value: _Token) -> Node:
            return Term(operator.text, value.text, operator.position, value.end - operator.position)

        value = self._peek()
        if value.position != operator.end or value.kind not in ("word", "phrase", "("):
            message = f"{operator.text}: needs a value right behind it"
            raise QueryError(message, operator.position, operator.end - operator.position)
        self._take()
        if value.kind != "(":
            return wrap(value)
        self._wrap = wrap
        try:
            return self._group(value, depth)
        finally:
            self._wrap = None
