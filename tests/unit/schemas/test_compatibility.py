"""What may follow a released schema: optional fields more, and nothing else. Avro's own rules agree."""

import copy
import io
from collections.abc import Callable
from typing import Any

import fastavro
import pytest

from schemas.compatibility import incompatibilities, is_same
from schemas.events import Cursor, MessageChange
from schemas.export import Schema, avro, json_schema

RELEASED = json_schema(MessageChange)


def changed(change: Callable[[Schema], Any]) -> Schema:
    schema = copy.deepcopy(RELEASED)
    change(schema)
    return schema


BREAKING: dict[str, tuple[Callable[[Schema], Any], str]] = {
    "removed": (lambda s: s["properties"].pop("thread_id"), "thread_id: was removed"),
    "retyped": (
        lambda s: s["properties"]["thread_id"].update(type="boolean"),
        "thread_id: type was string, is boolean",
    ),
    "required": (lambda s: s["required"].append("thread_id"), "thread_id: was optional, is required"),
    "optional": (lambda s: s["required"].remove("epoch"), "epoch: was required, is optional"),
    "new and required": (
        lambda s: (s["properties"].update(new={"type": "string"}), s["required"].append("new")),
        "new: is new and required; old records lack it",
    ),
    "a further value": (
        lambda s: s["properties"]["fetch"]["enum"].append("lazy"),
        "fetch: enum was ['full', 'raw'], is ['full', 'raw', 'lazy']",
    ),
    "a value of a named enumeration": (
        lambda s: s["$defs"]["ChangeKind"]["enum"].remove("labels"),
        "kind: enum was ['upsert', 'labels', 'label_added', 'label_removed', 'delete'],"
        " is ['upsert', 'label_added', 'label_removed', 'delete']",
    ),
    "another default": (
        lambda s: s["properties"]["fetch"].update(default="raw"),
        "fetch: default was full, is raw",
    ),
    "another unit": (
        lambda s: s["properties"]["emitted_at"].update({"x-unit": "seconds"}),
        "emitted_at: x-unit was milliseconds since 1970-01-01 UTC, is seconds",
    ),
    "a bound": (
        lambda s: s["properties"]["epoch"].update(minimum=1),
        "epoch: minimum was nothing, is 1",
    ),
    "items of another type": (
        lambda s: s["properties"]["label_ids"].update(items={"type": "integer"}),
        "label_ids[]: type was string, is integer",
    ),
    "closed": (
        lambda s: s.update(additionalProperties=False),
        "the event: additionalProperties has changed",
    ),
}


@pytest.mark.parametrize("name", BREAKING)
def test_what_breaks_is_named(name: str) -> None:
    change, expected = BREAKING[name]
    assert incompatibilities(RELEASED, changed(change)) == [expected]


def test_what_does_not_break() -> None:
    more = changed(lambda s: s["properties"].update(extra={"type": "integer"}))
    reworded = changed(lambda s: s["properties"]["epoch"].update(description="another word"))
    guarded = changed(lambda s: s["properties"]["epoch"].update({"x-privacy": "personal"}))
    for later in (more, reworded, guarded):
        assert incompatibilities(RELEASED, later) == []
    assert is_same(RELEASED, reworded)
    assert not is_same(RELEASED, more)
    assert not is_same(RELEASED, guarded)


def test_a_change_deep_inside_is_found() -> None:
    released, later = json_schema(Cursor), json_schema(Cursor)
    later["$defs"]["SyncRequest"]["properties"]["query"]["type"] = "integer"
    assert incompatibilities(released, later) == ["requests[].query: type was string, is integer"]


def test_a_field_called_description_is_a_field() -> None:
    def schema(kind: str) -> Schema:
        return {"type": "object", "properties": {"description": {"type": kind}}, "additionalProperties": True}

    assert not is_same(schema("string"), schema("integer"))


def test_avro_reads_across_an_optional_field_both_ways() -> None:
    """What ``incompatibilities`` lets pass, a resolver that is not ours reads in both directions."""

    class Later(MessageChange):
        extra: str | None = None

    Later.__name__ = "MessageChange"
    old, new = avro(MessageChange), avro(Later)
    event = {
        **MessageChange(mailbox_id="b", message_id="m", kind="upsert", epoch=1, history_id=2).model_dump(
            mode="json"
        )
    }
    assert incompatibilities(json_schema(MessageChange), json_schema(Later)) == []
    assert _read(old, new, event)["extra"] is None
    assert "extra" not in _read(new, old, {**event, "extra": "said"})


def _read(writer: Schema, reader: Schema, event: dict[str, Any]) -> Any:
    buffer = io.BytesIO()
    fastavro.schemaless_writer(buffer, fastavro.parse_schema(writer), event)
    buffer.seek(0)
    return fastavro.schemaless_reader(buffer, fastavro.parse_schema(writer), fastavro.parse_schema(reader))
