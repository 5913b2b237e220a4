"""Lists of documents become a ranking of messages."""

from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.words import stems
from search.ranking import ATTACHMENT_WEIGHT, SCALED, Candidate, Ranked, rank
from search.results import MARK_END, MARK_START
from search.snippets import SNIPPET_CHARACTERS, snippet

NOW = datetime(2026, 1, 1, tzinfo=UTC)


def candidate(document: str, score: float, *, attachment: bool = False, **fields: object) -> Candidate:
    message = document.partition("/")[0]
    made = Candidate(document, message, None, None, None, attachment, None, score)
    return replace(made, **fields)  # type: ignore[arg-type]


def order(*lists: list[Candidate], now: datetime | None = None) -> list[str]:
    return [next(iter(ranked.messages)) for ranked in rank(lists, now)]


def test_what_both_lists_know_stands_before_what_one_knows() -> None:
    words = [candidate("a", 9), candidate("b", 8), candidate("c", 1)]
    meaning = [candidate("d", 0.9), candidate("b", 0.8), candidate("c", 0.1)]
    assert order(words, meaning)[0] == "b"


def test_the_units_of_scores_do_not_matter() -> None:
    words = [candidate("a", 9), candidate("b", 5), candidate("c", 1)]
    meaning = [candidate("c", 0.9), candidate("b", 0.89), candidate("a", 0.1)]
    scaled = [replace(each, score=each.score * 1000 + 7) for each in words]
    assert order(words, meaning) == order(scaled, meaning)


def test_documents_of_a_message_are_one_hit_and_its_best_counts() -> None:
    [first, *_] = rank([[candidate("a/2", 5, attachment=True), candidate("a", 3), candidate("b", 1)]], None)
    assert list(first.documents) == ["a/2", "a"]
    assert first.score == pytest.approx(ATTACHMENT_WEIGHT)


def test_many_attachments_do_not_drown_a_message() -> None:
    attachments = [candidate(f"a/{number}", 10 - number / 100, attachment=True) for number in range(20)]
    assert order([*attachments[:1], candidate("b", 10), *attachments[1:], candidate("c", 1)])[0] == "b"


def test_copies_of_a_mail_are_one_hit() -> None:
    same: dict[str, Any] = {"rfc_message_id": "<x@y>", "subject": "Hello"}
    copies = [candidate("a", 5, **same), candidate("b", 4, **same)]
    [only] = rank([copies], None)
    assert list(only.messages) == ["a", "b"]
    # A sender who repeats another mail's Message-ID does not hide it.
    other = candidate("c", 4, rfc_message_id="<x@y>", subject="Something else")
    assert len(rank([[*copies, other]], None)) == 2


def test_of_two_alike_the_newer_is_first_where_dates_count() -> None:
    def at(year: int) -> int:
        return int(datetime(year, 1, 1, tzinfo=UTC).timestamp() * 1000)

    found = [candidate("a", 5, sent_at=at(2015)), candidate("b", 4.99, sent_at=at(2025)), candidate("c", 1)]
    assert order(found, now=NOW) == ["b", "a", "c"]
    assert order(found) == ["a", "b", "c"]
    much_better = [replace(found[0], score=8), *found[1:]]
    assert order(much_better, now=NOW) == ["a", "b", "c"]


@given(st.data())
def test_a_ranking_of_longer_lists_begins_as_that_of_shorter_ones(data: st.DataObject) -> None:
    """So that it may be read page by page, each page from lists as long as it needs."""
    names = [f"d{number:03}" for number in range(90)]
    random = data.draw(st.randoms(use_true_random=True))  # of a seed that is drawn: 360 draws take long
    lists = []
    for _ in range(2):
        order = random.sample(names, len(names))
        scores = sorted(random.choices(range(1, 61), k=len(names)), reverse=True)
        lists.append([candidate(name, score) for name, score in zip(order, scores, strict=True)])
    size = data.draw(st.integers(SCALED, 89))
    shorter = order_of(rank([found[:size] for found in lists], NOW))
    longer = order_of(rank(lists, NOW))
    assert longer[:size] == shorter[:size]


def order_of(ranked: list[Ranked]) -> list[str]:
    return [next(iter(entry.messages)) for entry in ranked]


def test_nothing_is_found_in_nothing() -> None:
    assert rank([], None) == rank([[]], NOW) == []


def test_snippets_show_the_words_in_any_form() -> None:
    text = "nothing to see " * 40 + "The late deliveries were penalised.\nLate again." + " more" * 100
    shown = snippet(text, ["late", "deliveri"])
    assert f"{MARK_START}late{MARK_END} {MARK_START}deliveries{MARK_END} were penalised." in shown
    assert f"{MARK_START}Late{MARK_END}" in shown
    assert len(shown) <= SNIPPET_CHARACTERS + 10
    assert snippet("no such word", ["zebra"]) == "no such word"
    assert snippet("", ["zebra"]) == ""


def test_a_snippet_marks_a_cell_of_a_table_and_a_whole_number() -> None:
    assert snippet("week,gnomes 3,51", ["gnome"]) == f"week,{MARK_START}gnomes{MARK_END} 3,51"
    assert snippet("gnomes 1.204,51", stems("1.204,51")) == f"gnomes {MARK_START}1.204,51{MARK_END}"
