"""The topics as a whole: made where they are missing, compared with what they should be, mended, grown.

Nothing is ever made smaller: what a topic has more of than asked (partitions, retention, room) stays, and is
told.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from aiokafka.admin import AIOKafkaAdminClient, NewPartitions, NewTopic
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType
from aiokafka.errors import KafkaError, TopicAlreadyExistsError, for_code

from connectors.broker import Broker
from connectors.errors import ConfigurationError, UnavailableError
from connectors.kafka import administrator
from schemas.topics import Topic

# What apply does about a difference: the last two are for people.
Action = Literal["create", "set", "grow", "leave", "refuse"]

# The controller makes a change; the brokers, who are asked, hear of it a moment later.
HEARD_SECONDS = 30.0

# Numbers of which more is no harm; -1 is without end.
_MORE_IS_LEFT = frozenset({"retention.ms", "max.message.bytes", "delete.retention.ms"})
_OF_THE_TOPIC = 1  # Kafka's ConfigSource: set on the topic itself, no default of the broker's
_REFUSALS = {
    "drained": (
        "its mailboxes would lose their order: stop the sources, then `mailstream topics grow"
        " --partitions {wanted}` (docs/GROWTH.md)"
    ),
    "copied": (
        "it never grows in place, where compaction and purge would miss older records of a key:"
        " `mailstream topics copy --partitions {wanted}` (docs/GROWTH.md)"
    ),
}


@dataclass(frozen=True, slots=True)
class Found:
    """A topic as the broker has it: ``entries`` are all that hold, ``own`` those that were set on it."""

    partitions: int
    replication: int
    entries: Mapping[str, str]
    own: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class Difference:
    """Where a topic is not as it should be.

    ``what`` is ``topic`` (it is missing), ``partitions``, ``replication``, or an entry of its configuration.
    """

    topic: str
    what: str
    found: str | None
    wanted: str
    action: Action
    advice: str = ""  # what a person may do, where apply leaves it or refuses

    def __str__(self) -> str:
        """One line for people."""
        if self.action == "create":
            return f"{self.topic}: is missing"
        told = f"{self.topic}: {self.what} is {self.found}, should be {self.wanted}"
        return f"{told}: {self.advice}" if self.advice else told


def compare(
    found: Mapping[str, Found], wanted: Iterable[Topic], replication: int | None = None
) -> list[Difference]:
    """Every difference. ``replication`` None: copies are not looked at."""
    differences = []
    topics = list(wanted)
    # What one of those that must be alike has been given, the others want too: a grow that was interrupted.
    most = max(
        (found[t.name].partitions for t in topics if t.growth == "drained" and t.name in found), default=0
    )
    for topic in topics:
        there = found.get(topic.name)
        partitions = max(topic.partitions, most) if topic.growth == "drained" else topic.partitions
        if there is None:
            differences.append(Difference(topic.name, "topic", None, str(partitions), "create"))
            continue
        is_even = there.partitions == topic.partitions and there.partitions >= partitions
        if topic.growth != "fixed" and not is_even:
            differences.append(_of_partitions(topic, there.partitions, partitions))
        if replication is not None and there.replication < replication:
            advice = "copies are moved by kafka-reassign-partitions.sh"
            copies = (str(there.replication), str(replication))
            differences.append(Difference(topic.name, "replication", *copies, "leave", advice))
        for name, value in topic.config().items():
            stands = there.entries.get(name)
            if stands == value:
                continue
            if stands is not None and name in _MORE_IS_LEFT and _is_more(stands, value):
                advice = "nothing is made smaller by us; kafka-configs.sh does, if that is meant"
                differences.append(Difference(topic.name, name, stands, value, "leave", advice))
            else:
                differences.append(Difference(topic.name, name, stands, value, "set"))
    return differences


def _of_partitions(topic: Topic, there: int, wanted: int) -> Difference:
    action: Action
    if there >= wanted:
        wanted, action = topic.partitions, "leave"
        advice = (
            "they cannot become fewer; TOPIC_PARTITIONS (or DOCUMENTS_PARTITIONS) should say what is there"
        )
    elif topic.growth == "in_place":
        action, advice = "grow", ""
    else:
        action, advice = "refuse", _REFUSALS[topic.growth].format(wanted=wanted)
    return Difference(topic.name, "partitions", str(there), str(wanted), action, advice)


def _is_more(stands: str, wanted: str) -> bool:
    return int(stands) < 0 or (int(wanted) >= 0 and int(stands) > int(wanted))


async def diff_topics(
    kafka: Broker | str, topics: Iterable[Topic], replication: int | None = None
) -> list[Difference]:
    """How the broker's topics differ from these. Raises UnavailableError and ConfigurationError."""
    topics = list(topics)
    async with administrator(kafka) as admin:
        return compare(await describe(admin, [topic.name for topic in topics]), topics, replication)


async def apply_topics(
    kafka: Broker | str, topics: Iterable[Topic], replication: int = 1
) -> list[Difference]:
    """Make what is missing and mend what may be mended; returns every difference there was.

    Those with the action ``leave`` or ``refuse`` are still there. ``replication`` is that of new topics.
    Safe to repeat. Raises UnavailableError and ConfigurationError.
    """
    topics = list(topics)
    async with administrator(kafka) as admin:
        found = await describe(admin, [topic.name for topic in topics])
        differences = compare(found, topics, replication)
        new = {each.topic: int(each.wanted) for each in differences if each.action == "create"}
        await create(
            admin,
            [
                NewTopic(topic.name, new[topic.name], replication, topic_configs=topic.config())
                for topic in topics
                if topic.name in new
            ],
        )
        for topic in topics:
            own = [each for each in differences if each.topic == topic.name]
            entries = {each.what: each.wanted for each in own if each.action == "set"}
            if entries:
                await _set(admin, topic.name, found[topic.name], entries)
            for each in own:
                if each.action == "grow":
                    await grow(admin, topic.name, int(each.wanted))
    return differences


async def create(admin: AIOKafkaAdminClient, topics: Sequence[NewTopic]) -> None:
    """Create topics; one that somebody else has just created is fine. Raises ConfigurationError."""
    if not topics:
        return
    response = await admin.create_topics(list(topics))
    for name, code, *message in response.topic_errors:
        error = for_code(code)
        if code and error is not TopicAlreadyExistsError:
            raise ConfigurationError(f"topic {name} was not created: {error.__name__} {message}")
    names = [topic.name for topic in topics]
    await _heard(admin, names, lambda found: found.keys() >= set(names))


async def _heard(
    admin: AIOKafkaAdminClient, names: Sequence[str], changed: Callable[[Mapping[str, Found]], bool]
) -> None:
    """Wait until a change shows. Raises UnavailableError when it does not."""
    deadline = time.monotonic() + HEARD_SECONDS
    while not changed(await describe(admin, names)):
        if time.monotonic() > deadline:
            raise UnavailableError(f"Kafka has changed {', '.join(names)}, and does not show it")
        await asyncio.sleep(0.1)


async def grow(admin: AIOKafkaAdminClient, topic: str, partitions: int) -> None:
    """Give a topic more partitions. Raises ConfigurationError."""
    try:
        await admin.create_partitions({topic: NewPartitions(partitions)})
    except KafkaError as error:
        raise ConfigurationError(f"topic {topic} was not given {partitions} partitions: {error}") from error
    await _heard(admin, [topic], lambda found: topic in found and found[topic].partitions >= partitions)


async def describe(admin: AIOKafkaAdminClient, names: Sequence[str]) -> dict[str, Found]:
    """Those of the topics that are there."""
    try:
        there = set(await admin.list_topics())
        names = [name for name in names if name in there]
        if not names:
            return {}
        described = await admin.describe_topics(names)
        answers = await admin.describe_configs(
            [ConfigResource(ConfigResourceType.TOPIC, name) for name in names]
        )
    except KafkaError as error:
        raise UnavailableError(f"Kafka does not describe its topics: {error}") from error
    entries: dict[str, dict[str, tuple[str, bool]]] = {}
    for code, message, _, name, values in (each for answer in answers for each in answer.resources):
        if code:
            raise ConfigurationError(
                f"topic {name} was not described: {for_code(code).__name__} {message or ''}"
            )
        entries[name] = {entry[0]: (entry[1], entry[3] == _OF_THE_TOPIC) for entry in values}
    found = {}
    for topic in described:
        replicas = [len(partition["replicas"]) for partition in topic["partitions"]]
        if topic["topic"] not in entries or not replicas:
            continue  # it is just being made
        known = entries[topic["topic"]]
        found[topic["topic"]] = Found(
            len(replicas),
            min(replicas),
            {name: value for name, (value, _) in known.items()},
            frozenset(name for name, (_, is_own) in known.items() if is_own),
        )
    return found


async def _set(admin: AIOKafkaAdminClient, topic: str, found: Found, entries: Mapping[str, str]) -> None:
    # The request replaces all that was set on the topic: what others set there is said again.
    own = {name: found.entries[name] for name in found.own}
    answers = await admin.alter_configs(
        [ConfigResource(ConfigResourceType.TOPIC, topic, configs={**own, **entries})]
    )
    for code, message, *_ in (each for answer in answers for each in answer.resources):
        if code:
            raise ConfigurationError(
                f"topic {topic} was not changed: {for_code(code).__name__} {message or ''}"
            )
    wanted = entries.items()
    await _heard(admin, [topic], lambda now: topic in now and now[topic].entries.items() >= wanted)
