"""What a topic may be given, what is left as it is, and what is refused."""

import re

import pytest

from connectors.topic_admin import Difference, Found, compare
from schemas import topics
from schemas.topics import Topic, with_partitions


def _found(topic: Topic, partitions: int | None = None, entries: dict[str, str] | None = None) -> Found:
    own = {**topic.config(), **(entries or {})}
    return Found(partitions or topic.partitions, 1, own, frozenset(own))


def _one(topic: Topic, found: Found, replication: int | None = None) -> Difference:
    [difference] = compare({topic.name: found}, [topic], replication)
    return difference


def test_topics_as_they_should_be_do_not_differ() -> None:
    assert compare({topic.name: _found(topic) for topic in topics.ALL}, topics.ALL, 1) == []


def test_every_missing_topic_is_created() -> None:
    differences = compare({}, topics.ALL)
    assert [(each.topic, each.action) for each in differences] == [
        (topic.name, "create") for topic in topics.ALL
    ]


@pytest.mark.parametrize(
    ("entry", "stands", "action"),
    [
        ("retention.ms", "3600000", "set"),
        ("retention.ms", str(15 * topics.DAY_MILLISECONDS), "leave"),
        ("retention.ms", "-1", "leave"),
        ("cleanup.policy", "compact", "set"),
    ],
)
def test_a_retention_is_raised_and_never_lowered(entry: str, stands: str, action: str) -> None:
    difference = _one(topics.CHANGES, _found(topics.CHANGES, entries={entry: stands}))
    assert (difference.what, difference.found, difference.action) == (entry, stands, action)


@pytest.mark.parametrize(
    ("entry", "stands", "action"),
    [
        ("max.message.bytes", "1048588", "set"),
        ("max.message.bytes", str(32 * topics.MEBIBYTE), "leave"),
        ("compression.type", "producer", "set"),
        ("cleanup.policy", "compact,delete", "set"),
        # how soon what was overwritten goes is promised to those whose mail is purged
        ("max.compaction.lag.ms", "9223372036854775807", "set"),
    ],
)
def test_documents_keep_their_room(entry: str, stands: str, action: str) -> None:
    difference = _one(topics.DOCUMENTS, _found(topics.DOCUMENTS, entries={entry: stands}))
    assert (difference.what, difference.action) == (entry, action)


@pytest.mark.parametrize(
    ("topic", "action", "advice"),
    [
        (topics.DEFERRED, "grow", ""),
        (topics.CHANGES, "refuse", "mailstream topics grow --partitions 6"),
        (topics.BACKFILL, "refuse", "mailstream topics grow --partitions 6"),
        (topics.DOCUMENTS, "refuse", "mailstream topics copy --partitions 6"),
    ],
)
def test_partitions_grow_where_order_means_nothing(topic: Topic, action: str, advice: str) -> None:
    difference = _one(topic, _found(topic, partitions=4))
    assert (difference.found, difference.wanted, difference.action) == ("4", "6", action)
    assert advice in difference.advice


@pytest.mark.parametrize("topic", [topics.CHANGES, topics.DEFERRED, topics.DOCUMENTS], ids=lambda t: t.name)
def test_partitions_never_become_fewer(topic: Topic) -> None:
    difference = _one(topic, _found(topic, partitions=12))
    assert (difference.what, difference.found, difference.action) == ("partitions", "12", "leave")


def test_an_interrupted_growth_is_gone_on_with() -> None:
    """One of the topics that must be alike has more than the setting says: the others want as many."""
    found = {topic.name: _found(topic) for topic in topics.ALL}
    found[topics.CHANGES.name] = _found(topics.CHANGES, partitions=12)
    told = {each.topic: (each.wanted, each.action) for each in compare(found, topics.ALL)}
    others = {topics.BACKFILL, topics.SYNC_REQUESTS}
    expected: dict[str, tuple[str, str]] = {topic.name: ("12", "refuse") for topic in others}
    assert told == {topics.CHANGES.name: ("6", "leave"), **expected}


def test_documents_may_have_a_number_of_their_own() -> None:
    partitions = {topic.name: topic.partitions for topic in with_partitions(12, 6)}
    assert partitions[topics.DOCUMENTS.name] == 6
    assert partitions[topics.CHANGES.name] == 12
    assert partitions[topics.MAILBOXES.name] == 1


@pytest.mark.parametrize("topic", [topics.MAILBOXES, topics.CURSORS], ids=lambda topic: topic.name)
def test_what_everybody_reads_whole_may_have_any_number(topic: Topic) -> None:
    for partitions in (1, 4, 12):
        assert compare({topic.name: _found(topic, partitions)}, [topic]) == []


def test_copies_are_compared_where_somebody_asks() -> None:
    assert compare({topics.CHANGES.name: _found(topics.CHANGES)}, [topics.CHANGES]) == []
    difference = _one(topics.CHANGES, _found(topics.CHANGES), replication=3)
    assert (difference.what, difference.wanted, difference.action) == ("replication", "3", "leave")


def test_a_difference_is_one_line() -> None:
    line = str(_one(topics.DOCUMENTS, _found(topics.DOCUMENTS, partitions=4)))
    assert re.fullmatch(
        r"mail\.documents\.v1: partitions is 4, should be 6: it never grows in place, .*", line
    )
