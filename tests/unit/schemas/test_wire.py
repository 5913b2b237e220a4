"""Every event survives the wire: JSON, Avro, fields that are not known yet, and what v1 once wrote."""

import io
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import fastavro
import jsonschema
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from schemas import topics
from schemas.catalog import EVENTS, topics_of
from schemas.events import ChangeKind, Event, MessageChange
from schemas.export import Schema, avro, inlined, json_schema
from schemas.headers import (
    SCHEMA_ID,
    SCHEMA_VERSION,
    ForeignSchemaError,
    headers_of,
    kept,
    unreadable_version,
)
from schemas.registers import ContentRegister, Register, decode_register

FIXTURES = Path(__file__).parent / "fixtures"
TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)  # JSON in UTF-8 has no lone surrogates
LONG = {"min_value": -(2**63), "max_value": 2**63 - 1}
quick = settings(max_examples=25, deadline=None, suppress_health_check=list(HealthCheck))


def values(schema: Schema) -> st.SearchStrategy[Any]:
    """Values that a schema of ours describes."""
    if "enum" in schema:
        return st.sampled_from(schema["enum"])
    if "properties" in schema:
        fields = {name: values(field) for name, field in schema["properties"].items()}
        required = {name: fields.pop(name) for name in schema.get("required", ())}
        return st.fixed_dictionaries(required, optional=fields)
    match schema["type"]:
        case "array":
            return st.lists(values(schema["items"]), max_size=3)
        case "object":
            return st.dictionaries(TEXT, values(schema["additionalProperties"]), max_size=3)
        case "integer":
            return st.integers(**{**LONG, "min_value": schema.get("minimum", LONG["min_value"])})
        case "number":
            return st.floats(allow_nan=False, allow_infinity=False)
        case "boolean":
            return st.booleans()
    return TEXT


def events(kind: type[Event]) -> st.SearchStrategy[dict[str, Any]]:
    """What is on the wire of an event."""
    schema = inlined(json_schema(kind))
    made: st.SearchStrategy[dict[str, Any]] = values(schema)
    if kind is not ContentRegister:
        return made
    # Exactly one of two contents, by the part path: what no schema says.
    fields = schema["properties"]
    message = st.fixed_dictionaries({"message": values(fields["message"])})
    attachment = st.fixed_dictionaries(
        {"attachment": values(fields["attachment"]), "part_path": TEXT.filter(bool)}
    )
    names = ("mailbox_id", "message_id", "version")
    rest = st.fixed_dictionaries({name: values(fields[name]) for name in names})
    return st.builds(lambda one, other: {**one, **other}, rest, st.one_of(message, attachment))


@pytest.mark.parametrize("kind", EVENTS, ids=lambda kind: kind.__name__)
def test_every_event_survives_json_and_avro(kind: type[Event]) -> None:
    validator = jsonschema.Draft202012Validator(json_schema(kind))
    parsed = fastavro.parse_schema(avro(kind))

    @quick
    @given(events(kind))
    def check(wire: dict[str, Any]) -> None:
        event = kind.decode(json.dumps(wire).encode())
        again = json.loads(event.encode())
        assert _contains(again, wire)
        assert [error.message for error in validator.iter_errors(again)] == []
        assert kind.decode(event.encode(), event.schema_headers()) == event
        buffer = io.BytesIO()
        fastavro.schemaless_writer(buffer, parsed, event.model_dump(mode="json"))
        buffer.seek(0)
        read = _without_null(fastavro.schemaless_reader(buffer, parsed, None))
        assert kind.decode(json.dumps(read).encode()) == event

    check()


def _contains(whole: Any, part: Any) -> bool:
    if isinstance(part, dict):
        return all(name in whole and _contains(whole[name], value) for name, value in part.items())
    if isinstance(part, list):
        return len(whole) == len(part) and all(map(_contains, whole, part))
    return bool(whole == part)


def _without_null(node: Any) -> Any:
    if isinstance(node, dict):
        return {name: _without_null(value) for name, value in node.items() if value is not None}
    return [_without_null(value) for value in node] if isinstance(node, list) else node


@pytest.mark.parametrize("kind", EVENTS, ids=lambda kind: kind.__name__)
def test_fields_that_are_not_known_are_kept_at_every_level(kind: type[Event]) -> None:
    for record in recorded(kind):
        wire = _with_more(json.loads(record["value"]), inlined(json_schema(kind)))
        event = kind.decode(json.dumps(wire).encode(), headers_of(kind.schema_id(), (1, 9)))
        for written in (event, event.model_copy(update={})):
            assert _contains(json.loads(written.encode()), wire)


def _with_more(node: Any, schema: Schema) -> Any:
    if "properties" in schema:
        known = {name: _with_more(value, schema["properties"][name]) for name, value in node.items()}
        return {**known, "from_the_future": {"deep": ["kept", 1]}}
    if isinstance(node, list):
        return [_with_more(item, schema["items"]) for item in node]
    inner = schema.get("additionalProperties")
    if isinstance(node, dict) and isinstance(inner, dict):
        return {name: _with_more(value, inner) for name, value in node.items()}
    return node


def recorded(kind: type[Event]) -> Iterator[dict[str, Any]]:
    """What real runs of each version wrote of an event: topic, key, headers and value.

    See tests/record_fixtures.py.
    """
    for path in sorted(FIXTURES.glob(f"{kind.__name__}-{kind.schema_version[0]}.*.jsonl")):
        version = path.stem.partition("-")[2]
        for line in path.read_text().splitlines():
            record = json.loads(line)
            assert record["headers"] == {SCHEMA_ID: kind.schema_id(), SCHEMA_VERSION: version}
            yield record


@pytest.mark.parametrize("kind", EVENTS, ids=lambda kind: kind.__name__)
def test_what_v1_wrote_is_read_today(kind: type[Event]) -> None:
    validator = jsonschema.Draft202012Validator(json_schema(kind))
    records = list(recorded(kind))
    assert {record["topic"] for record in records} == {topic.name for topic in topics_of(kind)}
    for record in records:
        value = record["value"].encode()
        headers = tuple((name, said.encode()) for name, said in record["headers"].items())
        event = kind.decode(value, headers)
        assert not event.model_extra
        assert _contains(json.loads(event.encode()), json.loads(value))
        assert [error.message for error in validator.iter_errors(json.loads(value))] == []
        if issubclass(kind, Register):
            assert type(decode_register(record["key"], value, headers)) is kind


def test_the_records_show_every_kind_of_change() -> None:
    kinds = {json.loads(record["value"])["kind"] for record in recorded(MessageChange)}
    assert kinds == set(ChangeKind)


def test_the_records_are_about_nobody() -> None:
    texts = [path.read_text() for path in FIXTURES.iterdir()]
    addresses = {word for text in texts for word in text.replace('"', " ").split() if "@" in word}
    assert addresses
    assert all("example.com" in address for address in addresses)


CHANGE = MessageChange(mailbox_id="b", message_id="m", kind=ChangeKind.DELETE, epoch=1, history_id=2)


def test_another_schema_or_a_higher_major_version_is_refused_by_name() -> None:
    name = MessageChange.schema_id()
    for version in ((1, 0), (1, 7), (0, 3)):
        assert MessageChange.decode(CHANGE.encode(), headers_of(name, version)) == CHANGE
    assert MessageChange.decode(CHANGE.encode(), (("traceparent", b"00-1-2-01"),)) == CHANGE
    with pytest.raises(ForeignSchemaError, match=r"^version 2\.0 of \S+MessageChange: this program reads 1"):
        MessageChange.decode(CHANGE.encode(), headers_of(name, (2, 0)))
    with pytest.raises(ForeignSchemaError, match=r"^this is a \S+Deferred, not a \S+MessageChange"):
        MessageChange.decode(CHANGE.encode(), headers_of("mailstream.Deferred", (1, 0)))
    with pytest.raises(ForeignSchemaError, match=r"^version new of"):
        MessageChange.decode(CHANGE.encode(), ((SCHEMA_VERSION, b"new"),))


def test_a_topic_knows_which_versions_it_may_hold() -> None:
    assert unreadable_version(CHANGE.schema_headers(), topics.CHANGES.name) is None
    assert unreadable_version(((SCHEMA_VERSION, b"2.1"),), topics.CHANGES.name) == "2.1"
    assert unreadable_version(((SCHEMA_VERSION, b"2.1"),), "mail.changes.v2") is None
    assert unreadable_version(((SCHEMA_VERSION, b"2.1"),), "test-topic") is None
    assert unreadable_version((), topics.CHANGES.name) is None


def test_what_is_written_again_takes_its_schema_along_and_no_trace() -> None:
    assert kept((("traceparent", b"x"), *CHANGE.schema_headers())) == CHANGE.schema_headers()
