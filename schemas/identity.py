"""Identity: the ids and keys that everything converges on. Public: other teams compute them too.

All hashes are the first 32 hexadecimal digits of SHA-256 over the UTF-8 fields joined by a zero byte, which
occurs in none of them.
"""

import hashlib
import uuid
from functools import lru_cache

MESSAGE_PATH = ""  # the part path of the message's own document


def _digest(*fields: str) -> str:
    return hashlib.sha256("\0".join(fields).encode()).hexdigest()[:32]


def new_mailbox_id() -> str:
    """A random mailbox id: it says nothing about its owner, so it may stand in keys, logs and metrics."""
    return uuid.uuid4().hex


def message_key(mailbox_id: str, message_id: str) -> str:
    """The key that all registers of one message share."""
    return _digest(mailbox_id, message_id)


def document_id(mailbox_id: str, message_id: str, part_path: str = MESSAGE_PATH) -> str:
    """The Elasticsearch id of a message (empty part path) or of one of its attachments."""
    return _digest(mailbox_id, message_id, part_path)


def hashed(value: str) -> str:
    """A short hash for logs, where the value itself must not stand."""
    return _digest(value)[:12]


def label_id_of(name: str) -> str:
    """The id of a label, folder or keyword that its keeper knows by name only (IMAP)."""
    return f"label-{hashed(name)}"


@lru_cache(maxsize=4096)
def partition_for(key: str, partitions: int) -> int:
    """The partition of a key: Kafka's own default (murmur2), so that every client agrees.

    For ``mail.documents`` call it with the message key, not with the record key, so that all registers of a
    message share a partition.
    """
    return (_murmur2(key.encode()) & 0x7FFFFFFF) % partitions


def _murmur2(data: bytes) -> int:
    """Murmur2 as Kafka's Java client computes it (org.apache.kafka.common.utils.Utils.murmur2)."""
    mask = 0xFFFFFFFF
    multiplier = 0x5BD1E995
    length = len(data)
    value = (0x9747B28C ^ length) & mask
    for start in range(0, length - length % 4, 4):
        word = int.from_bytes(data[start : start + 4], "little")
        word = (word * multiplier) & mask
        word ^= word >> 24
        word = (word * multiplier) & mask
        value = ((value * multiplier) & mask) ^ word
    rest = data[length - length % 4 :]
    if rest:
        value ^= int.from_bytes(rest, "little")
        value = (value * multiplier) & mask
    value ^= value >> 13
    value = (value * multiplier) & mask
    return value ^ (value >> 15)
