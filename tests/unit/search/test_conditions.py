"""What a query means to the index: which clauses, against which hour, and which errors."""

from datetime import datetime
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from schemas.events import LabelDirectory, labels_key
from search.conditions import MAX_LEAVES, MAX_ON_PARTS, MAX_VALUE_CHARACTERS, Conditions, Context
from search.labels import LabelDirectories
from search.query import QueryError, parse

DIRECTORY = LabelDirectory(mailbox_id="m1", names={"Label_7": "Projects/Ar Vag", "INBOX": "INBOX"})
NAMES = LabelDirectories({labels_key("m1"): DIRECTORY.encode()})
NOW = datetime(2026, 3, 31, 15, 30, tzinfo=ZoneInfo("Europe/Berlin"))


def conditions(text: str) -> Conditions:
    return Conditions(parse(text), Context(NOW, NAMES))


def clause(text: str) -> dict[str, Any]:
    [only] = conditions(text).shared
    return only


def test_words_rank_and_what_is_written_out_must_hold() -> None:
    asked = conditions('late "fixed price" (a OR -b) -c from:x subject:tender')
    assert asked.text == "late fixed price a tender"
    assert len(asked.on_parts) == 4  # the phrase, a, b, c
    assert len(asked.clauses([{"n": number} for number in range(4)])) == 5
    assert len(asked.shared) == 2


def test_conditions_on_parts_are_taken_by_message() -> None:
    asked = conditions("-filename:pdf")
    [part] = asked.on_parts
    assert "filename.raw" in part["regexp"]
    keys = {"terms": {"message_key": ["k"]}}
    assert asked.clauses([keys]) == [{"bool": {"must_not": [keys]}}]
    assert asked.shared == []


@pytest.mark.parametrize("day", ["2026/03/29", "2026-03-29", "2026-3-29"])
def test_days_begin_at_midnight_where_the_caller_is(day: str) -> None:
    midnight = datetime(2026, 3, 29, tzinfo=ZoneInfo("Europe/Berlin")).timestamp() * 1000
    assert clause(f"after:{day}") == {"range": {"sent_at": {"gte": midnight}}}
    assert clause(f"before:{day}") == {"range": {"sent_at": {"lt": midnight}}}


def test_ages_count_from_now() -> None:
    two_days = 2 * 86_400_000
    assert clause("older_than:2d") == {"range": {"sent_at": {"lt": NOW.timestamp() * 1000 - two_days}}}
    assert clause("newer_than:48h") == {"range": {"sent_at": {"gte": NOW.timestamp() * 1000 - two_days}}}


@pytest.mark.parametrize(
    ("size", "size_bytes"), [("5M", 5 * 2**20), ("1.5k", 1536), ("200", 200), ("1gb", 2**30)]
)
def test_sizes(size: str, size_bytes: int) -> None:
    [part] = conditions(f"larger:{size}").on_parts
    assert {"range": {"size_bytes": {"gt": size_bytes}}} in part["bool"]["filter"]


def test_labels_go_by_name_id_and_gmails_spelling() -> None:
    for name in ('"projects/ar vag"', "projects-ar-vag", "label_7"):
        [borne] = clause(f"label:{name}")["bool"]["should"]
        assert borne["bool"]["filter"] == [{"term": {"mailbox_id": "m1"}}, {"term": {"label_ids": "Label_7"}}]
    assert clause("in:projects-ar-vag") == clause("label:projects-ar-vag")


def test_spam_and_trash_are_hidden_unless_asked_for() -> None:
    assert conditions("x").hidden == ["SPAM", "TRASH"]
    assert conditions("in:spam").hidden == ["TRASH"]
    assert conditions("label:trash").hidden == ["SPAM"]
    assert conditions("x (in:spam OR in:trash)").hidden == []
    assert conditions("in:anywhere x").hidden == []
    assert conditions("-in:spam").hidden == ["SPAM", "TRASH"]


def test_values_are_matched_literally_and_as_whole_words() -> None:
    [by_sender] = clause("from:a.b*c")["bool"]["should"]
    pattern = by_sender["regexp"]["sender.raw"]["value"]
    assert r"a\.b\*c" in pattern
    assert pattern.startswith("(.*[^a-zA-Z0-9])?")


@pytest.mark.parametrize(
    ("text", "position", "length"),
    [
        ("a before:31.3.2026", 2, 16),
        ("before:2026/02/30", 0, 17),
        ("larger:big", 0, 10),
        ("x older_than:2", 2, 12),
        ("newer_than:99999y", 0, 17),
        ("label:nowhere", 0, 13),
        ("(a OR in:nowhere)", 6, 10),
        ("is:funny", 0, 8),
        ("has:cheese", 0, 10),
    ],
)
def test_wrong_values_are_pointed_at(text: str, position: int, length: int) -> None:
    with pytest.raises(QueryError) as caught:
        conditions(text)
    assert (caught.value.position, caught.value.length) == (position, length)


def test_what_is_too_long_or_too_much_is_refused() -> None:
    for operator in ("from", "to", "cc", "filename", "type"):
        assert conditions(f"{operator}:{'a' * MAX_VALUE_CHARACTERS}")
        with pytest.raises(QueryError, match="at most") as caught:
            conditions(f"x {operator}:{'a' * (MAX_VALUE_CHARACTERS + 1)}")
        assert caught.value.position == 2
    assert conditions(" ".join(f"-w{number}" for number in range(MAX_ON_PARTS)))
    with pytest.raises(QueryError, match="30 conditions"):
        conditions(" ".join(f"-w{number}" for number in range(MAX_ON_PARTS + 1)))
    assert conditions(" ".join(f"from:{number}" for number in range(MAX_LEAVES)))
    with pytest.raises(QueryError, match="200 conditions"):
        conditions(" ".join(f"from:{number}" for number in range(MAX_LEAVES + 1)))


def test_a_type_has_no_wildcards_but_a_family() -> None:
    patterns = [each["wildcard"] for each in conditions("type:im*ge/*").on_parts[0]["bool"]["should"]]
    assert {"content_type": {"value": r"im\*ge/*"}} in patterns
