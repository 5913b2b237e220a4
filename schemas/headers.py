"""What the headers of a record say about its value: which schema, in which version.

Whoever wrote before there were headers, or writes without them, is taken at his word: the topic and the key
say what a record is.
"""

from functools import lru_cache

Headers = tuple[tuple[str, bytes], ...]

SCHEMA_ID = "schema-id"  # "mailstream.MessageChange"
SCHEMA_VERSION = "schema-version"  # "1.0": major, minor
# Of a register that came from a mailbox's history: somebody may be waiting for it. Advice, which is not kept
# where the record is written again.
LIVE = ("lane", b"live")


class ForeignSchemaError(ValueError):
    """A record's headers name another schema than its reader's, or a major version that it does not know."""


@lru_cache(maxsize=64)
def headers_of(schema_id: str, version: tuple[int, int]) -> Headers:
    """The headers of a value of that schema."""
    major, minor = version
    return (SCHEMA_ID, schema_id.encode()), (SCHEMA_VERSION, f"{major}.{minor}".encode())


def kept(headers: Headers) -> Headers:
    """Of a record's headers those that its value needs wherever it is written again."""
    return tuple((name, value) for name, value in headers if name in (SCHEMA_ID, SCHEMA_VERSION))


def is_live(headers: Headers) -> bool:
    """Whether a record need not wait behind those of a backfill."""
    return LIVE in headers


def refuse_foreign(headers: Headers, schema_id: str, major: int) -> None:
    """Raises ForeignSchemaError where a reader of ``schema_id`` in that major version must not read on.

    A higher minor version is read: it has fields more, which are kept.
    """
    for name, value in headers:
        said = value.decode("ascii", "replace")
        if name == SCHEMA_ID and said != schema_id:
            raise ForeignSchemaError(f"this is a {said}, not a {schema_id}")
        if name == SCHEMA_VERSION and not _is_readable(said, major):
            raise ForeignSchemaError(f"version {said} of {schema_id}: this program reads {major}")


def unreadable_version(headers: Headers, topic: str) -> str | None:
    """The version of a record whose major is higher than that in its topic's name (``mail.cursors.v1``)."""
    _, _, known = topic.rpartition(".v")
    for name, value in headers:
        said = value.decode("ascii", "replace")
        if name == SCHEMA_VERSION and known.isdecimal() and not _is_readable(said, int(known)):
            return said
    return None


def _is_readable(version: str, major: int) -> bool:
    written, _, _ = version.partition(".")
    return written.isdecimal() and int(written) <= major
