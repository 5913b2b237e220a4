"""What every field of the topics says about itself: its meaning, its unit, and whom it may embarrass.

A field is described by the function of its privacy class, as metadata of ``Annotated``; numbers need a unit.
The exported schemas carry both (``x-privacy``, ``x-unit``), and a test refuses a field without them.
"""

from enum import StrEnum
from functools import partial
from typing import Any

from pydantic import Field


class Privacy(StrEnum):
    """What a value tells whoever reads the topic: decides who may, and what may be copied elsewhere."""

    ID = "id"  # an opaque id: tells nothing to whoever has neither Gmail nor the registry
    HASH = "hash"  # computed from a value, which cannot be computed back
    PERSONAL = "personal"  # names a person, or what a person called something
    CONTENT = "content"  # what a mail or an attachment says
    SECRET = "secret"  # noqa: S105  # encrypted; who has the key may act for the mailbox's owner
    OPERATIONAL = "operational"  # states, counts and times of the machinery


class Unit(StrEnum):
    """What a number counts."""

    TIME = "milliseconds since 1970-01-01 UTC"
    SECONDS = "seconds"
    DAYS = "days"
    BYTES = "bytes"
    COUNT = "count"  # of what, the description says
    PER_MINUTE = "messages a minute"
    QUOTA = "Gmail quota units"
    HISTORY = "Gmail historyId"  # rises with every change of a mailbox; compares within one mailbox only
    ORDINAL = "ordinal"  # compares, and counts nothing
    POSITION = "position, counted from 1"
    OFFSET = "Kafka partition or offset"


def _says(privacy: Privacy, description: str, unit: Unit | None = None) -> Any:
    extra: dict[str, Any] = {"x-privacy": privacy.value}
    if unit is not None:
        extra["x-unit"] = unit.value
    return Field(description=description, json_schema_extra=extra)


identifying = partial(_says, Privacy.ID)
hashed_of = partial(_says, Privacy.HASH)
personal = partial(_says, Privacy.PERSONAL)
content = partial(_says, Privacy.CONTENT)
secret = partial(_says, Privacy.SECRET)
operational = partial(_says, Privacy.OPERATIONAL)
