"""The topics: names, keys, retention. The product's public interface."""

from dataclasses import dataclass, replace
from typing import Literal

# How a topic gets more partitions, after which a key may belong to another one (docs/GROWTH.md):
# in_place  at any time: the order of its records means nothing
# drained   when all that stands in it is consumed, and all of these together, so that a mailbox keeps its
#           order and one worker owns it over all of them
# copied    never, but in a new topic: compaction and purge find all records of a key in one partition
# fixed     never: everybody reads all of it, and nothing is shared by its partitions
Growth = Literal["in_place", "drained", "copied", "fixed"]

DAY_MILLISECONDS = 24 * 60 * 60 * 1000
MEBIBYTE = 1024 * 1024
# What a compacted topic may keep of what was overwritten, and then of the mark that it was.
COMPACTION_LAG_MILLISECONDS = DAY_MILLISECONDS


@dataclass(frozen=True, slots=True)
class Topic:
    """What a topic must look like on the broker; ``None`` leaves the broker's default."""

    name: str
    partitions: int
    cleanup: Literal["compact", "delete"]
    retention_milliseconds: int | None = None
    max_message_bytes: int | None = None
    compression: str | None = None
    growth: Growth = "in_place"

    def config(self) -> dict[str, str]:
        """The topic's configuration entries as Kafka names them."""
        entries: dict[str, str] = {"cleanup.policy": self.cleanup}
        if self.retention_milliseconds is not None:
            entries["retention.ms"] = str(self.retention_milliseconds)
        if self.cleanup == "compact":
            entries["max.compaction.lag.ms"] = str(COMPACTION_LAG_MILLISECONDS)
            entries["delete.retention.ms"] = str(COMPACTION_LAG_MILLISECONDS)
        if self.max_message_bytes is not None:
            entries["max.message.bytes"] = str(self.max_message_bytes)
        if self.compression is not None:
            entries["compression.type"] = self.compression
        return entries


# Partitions bound how many workers can share the work. ``changes``, ``backfill`` and ``sync-requests`` must
# have the same number: one worker owns a mailbox over all of them.
PARTITIONS = 6

MAILBOXES = Topic("mail.mailboxes.v1", 1, "compact", growth="fixed")
SYNC_REQUESTS = Topic("mail.sync-requests.v1", PARTITIONS, "delete", DAY_MILLISECONDS, growth="drained")
CURSORS = Topic("mail.cursors.v1", PARTITIONS, "compact", growth="fixed")
CHANGES = Topic("mail.changes.v1", PARTITIONS, "delete", 14 * DAY_MILLISECONDS, growth="drained")
BACKFILL = Topic("mail.backfill.v1", PARTITIONS, "delete", 30 * DAY_MILLISECONDS, growth="drained")
DEFERRED = Topic("mail.deferred.v1", PARTITIONS, "delete", 30 * DAY_MILLISECONDS)
# What the names of all topics of documents begin with: outgrown ones, and copies that take their place.
DOCUMENTS_NAME = "mail.documents.v1"
DOCUMENTS = Topic(
    DOCUMENTS_NAME,
    PARTITIONS,
    "compact",
    max_message_bytes=16 * MEBIBYTE,
    compression="zstd",
    growth="copied",
)
OBSERVATIONS = Topic("mail.observations.v1", PARTITIONS, "delete", 30 * DAY_MILLISECONDS)
DEAD_LETTERS = Topic("mail.dead-letters.v1", 1, "delete", 30 * DAY_MILLISECONDS)

# The consumer groups of the stages: how far each has come is asked for by its name.
SOURCE_GROUP = "mailstream-source"
EXTRACT_GROUP = "mailstream-extract"
SLOW_GROUP = "mailstream-slow"
INDEX_GROUP = "mailstream-index"


def documents_stand_in(name: str) -> None:
    """From now on, in this process, documents stand in the topic of that name: a copy with more partitions.

    Whoever reads ``DOCUMENTS``, ``ALL`` or ``STAGES`` reads them of this module, each time.
    """
    global DOCUMENTS, ALL, STAGES
    DOCUMENTS = replace(DOCUMENTS, name=name)
    ALL = (
        *(MAILBOXES, SYNC_REQUESTS, CURSORS, CHANGES, BACKFILL, DEFERRED),
        *(DOCUMENTS, OBSERVATIONS, DEAD_LETTERS),
    )
    # What each stage behind the source consumes, in the order of the stream.
    STAGES = {
        "extract": (EXTRACT_GROUP, (CHANGES.name, BACKFILL.name)),
        "slow": (SLOW_GROUP, (DEFERRED.name,)),
        "index": (INDEX_GROUP, (DOCUMENTS.name,)),
    }


ALL: tuple[Topic, ...]
STAGES: dict[str, tuple[str, tuple[str, ...]]]
documents_stand_in(DOCUMENTS.name)


def with_partitions(partitions: int, of_documents: int | None = None) -> tuple[Topic, ...]:
    """All topics, the co-partitioned and the fanned-out ones with that many partitions.

    ``of_documents``: those of ``mail.documents``, where it has another number.
    """

    def wanted(topic: Topic) -> int:
        if topic.partitions == 1:
            return 1
        return of_documents or partitions if topic is DOCUMENTS else partitions

    return tuple(replace(topic, partitions=wanted(topic)) for topic in ALL)
