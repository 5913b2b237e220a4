"""The query language: what parses, what it is turned back into, and where errors point."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from search.query import (
    MAX_CHARACTERS,
    MAX_DEPTH,
    OPERATORS,
    And,
    Node,
    Not,
    Or,
    Phrase,
    Query,
    QueryError,
    Term,
    Word,
    parse,
)

PLAIN = st.text(alphabet="abcXYZ0189äß漢.,-_@/'+:", min_size=1, max_size=8)
words = PLAIN.filter(lambda text: text[0] not in "-:" and ":" not in text)
spaced = st.lists(words, min_size=1, max_size=3).map(" ".join)
terms = st.builds(Term, st.sampled_from(sorted(set(OPERATORS.values()))), spaced)
leaves: st.SearchStrategy[Node] = st.one_of(st.builds(Word, words), st.builds(Phrase, spaced), terms)


def _joined(nodes: st.SearchStrategy[Node]) -> st.SearchStrategy[Node]:
    several = st.lists(nodes, min_size=2, max_size=3).map(tuple)
    return st.one_of(st.builds(Not, nodes), several.map(And.of), st.builds(Or, several))


queries = st.lists(st.recursive(leaves, _joined, max_leaves=8), max_size=4).map(tuple).map(Query)
FRAGMENTS = (
    "from:",
    "subject:",
    "(",
    ")",
    '"',
    "-",
    " OR ",
    " AND ",
    " ",
    "a",
    "bc",
    "is:unread",
    "x:y",
    "|",
    "2",
)


@given(queries)
def test_a_query_written_out_means_the_same(query: Query) -> None:
    assert parse(str(query)) == query


@pytest.mark.parametrize("group", ["(a OR b {})", "(a AND b {})", "(a AND {} OR b)", "(a {} AND b)"])
def test_the_deepest_query_is_written_out_no_deeper(group: str) -> None:
    text = "c OR d"
    for _ in range(MAX_DEPTH):
        text = group.format(text)
    query = parse(text)
    assert parse(str(query)) == query


@given(st.text(max_size=80) | st.lists(st.sampled_from(FRAGMENTS), max_size=14).map("".join))
def test_any_text_is_a_query_or_an_error_that_points_into_it(text: str) -> None:
    try:
        query = parse(text)
    except QueryError as error:
        assert 0 <= error.position <= len(text)
        assert error.length >= 1
        assert str(error)
        assert error.pointed_at(text).splitlines()[-1].startswith(" " * error.position + "^")
    else:
        assert parse(str(query)) == query


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("late delivery", (Word("late"), Word("delivery"))),
        ("from:anna invoice", (Term("from", "anna"), Word("invoice"))),
        ('from:"Anna Berg"', (Term("from", "Anna Berg"),)),
        ('"late delivery" -draft', (Phrase("late delivery"), Not(Word("draft")))),
        ("-from:anna", (Not(Term("from", "anna")),)),
        ("from:amy OR from:bob", (Or((Term("from", "amy"), Term("from", "bob"))),)),
        ("a OR b c", (Or((Word("a"), Word("b"))), Word("c"))),
        ("a b OR c", (Word("a"), Or((Word("b"), Word("c"))))),
        ("a AND b", (And((Word("a"), Word("b"))),)),
        ("(a b) OR c", (Or((And((Word("a"), Word("b"))), Word("c"))),)),
        ("from:(amy OR bob)", (Or((Term("from", "amy"), Term("from", "bob"))),)),
        ("subject:(dinner movie)", (And((Term("subject", "dinner"), Term("subject", "movie"))),)),
        ("(a (b AND c) d)", (And(tuple(map(Word, "abcd"))),)),
        ("-subject:(a b)", (Not(And((Term("subject", "a"), Term("subject", "b")))),)),
        ("older:2026/03/31 FROM:x", (Term("before", "2026/03/31"), Term("from", "x"))),
        ("NV-88-3120 e-mail", (Word("NV-88-3120"), Word("e-mail"))),
        ("this - that", (Word("this"), Word("that"))),
        ("at 12:30 https://example.com", (Word("at"), Word("12:30"), Word("https://example.com"))),
        ("or and", (Word("or"), Word("and"))),
        ("", ()),
    ],
)
def test_what_people_write(text: str, expected: tuple[Node, ...]) -> None:
    assert parse(text) == Query(expected)


@pytest.mark.parametrize(
    ("text", "position", "length", "message"),
    [
        ("budget (2024", 7, 1, "never closed"),
        ("budget 2024)", 11, 1, "no opening parenthesis"),
        ('say "hello', 4, 1, "never closed"),
        ("form:anna", 0, 5, "did you mean from:"),
        ("x sbject:anna", 2, 7, "did you mean subject:"),
        ("from: anna", 0, 5, "needs a value"),
        ("a OR", 4, 1, "something is missing"),
        ("OR a", 0, 2, "on both sides"),
        ("()", 0, 2, "nothing in these parentheses"),
        ('a ""', 2, 2, "nothing between"),
        ("from:(to:x)", 6, 3, "cannot stand inside"),
        ("-" * 100 + "a", 11, 1, "too deep"),
        ("a" * (MAX_CHARACTERS + 1), MAX_CHARACTERS, 1, "characters"),
        ("larger:\v4M a", 0, 7, "needs a value right behind it"),
    ],
)
def test_errors_point_at_the_place(text: str, position: int, length: int, message: str) -> None:
    with pytest.raises(QueryError, match=message) as caught:
        parse(text)
    assert (caught.value.position, caught.value.length) == (position, length)


def test_a_plain_text_is_words_whatever_stands_in_it() -> None:
    text = 'TSS (Time Sharing), "IBM": from:x -y'
    assert Query.plain(text) == Query(tuple(map(Word, text.split())))


def test_labels_are_looked_up_only_where_a_query_names_one() -> None:
    assert parse("a (b OR -label:x)").names_labels
    assert parse("in:inbox").names_labels
    assert not parse("from:label subject:in").names_labels
