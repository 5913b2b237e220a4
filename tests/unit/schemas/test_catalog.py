"""Every field of every event says what it is, in which unit, and whom it concerns."""

import re
from pathlib import Path
from typing import Annotated, Any

import fastavro
import jsonschema
import pytest

from connectors.kafka import Send
from schemas import topics
from schemas.catalog import CONTRACTS, EVENTS, topics_of
from schemas.events import Event, MessageChange
from schemas.export import avro, inlined, json_schema
from schemas.headers import SCHEMA_ID, SCHEMA_VERSION
from schemas.privacy import Privacy, Unit, operational

ROOT = Path(__file__).parents[3]


def undescribed(schema: Any, place: str = "") -> list[str]:
    """The fields of a schema that lack something, by their place."""
    found = []
    for name, field in schema.get("properties", {}).items():
        here = f"{place}.{name}".removeprefix(".")
        if len(field.get("description", "")) < 4:
            found.append(f"{here}: no description")
        if field.get("x-privacy") not in list(Privacy):
            found.append(f"{here}: no privacy class")
        if _is_number(field) != (field.get("x-unit") in list(Unit)):
            found.append(f"{here}: a number without a unit, or the other way round")
        for inner in (field, field.get("items"), field.get("additionalProperties")):
            if isinstance(inner, dict):
                found += undescribed(inner, here)
    return found


def _is_number(field: Any) -> bool:
    inner = field.get("items") or field.get("additionalProperties")
    if isinstance(inner, dict) and "properties" not in field:
        return _is_number(inner)
    return field.get("type") in ("integer", "number")


@pytest.mark.parametrize("kind", EVENTS, ids=lambda kind: kind.__name__)
def test_every_field_is_described(kind: type[Event]) -> None:
    assert undescribed(inlined(json_schema(kind))) == []


def test_a_field_that_is_not_described_is_found() -> None:
    class Inner(Event):
        size: Annotated[int, operational("how large")]

    class Odd(Event):
        plain: str
        inner: Annotated[tuple[Inner, ...], operational("what is in it")]

    assert undescribed(inlined(json_schema(Odd))) == [
        "plain: no description",
        "plain: no privacy class",
        "inner.size: a number without a unit, or the other way round",
    ]


@pytest.mark.parametrize("kind", EVENTS, ids=lambda kind: kind.__name__)
def test_the_schemas_are_schemas(kind: type[Event]) -> None:
    jsonschema.Draft202012Validator.check_schema(json_schema(kind))
    parsed: Any = fastavro.parse_schema(avro(kind))
    assert parsed["name"] == kind.schema_id()
    assert [field["name"] for field in parsed["fields"]] == list(kind.model_fields)


def test_every_topic_has_one_contract_and_every_event_a_topic() -> None:
    assert sorted(contract.topic.name for contract in CONTRACTS) == sorted(topic.name for topic in topics.ALL)
    assert topics_of(MessageChange) == (topics.CHANGES, topics.BACKFILL)
    for topic in topics.ALL:
        major = int(topic.name.rpartition(".v")[2])
        assert all(kind.schema_version[0] == major for kind in EVENTS if topic in topics_of(kind))


def test_an_event_is_sent_with_its_schema() -> None:
    change = MessageChange(mailbox_id="b", message_id="m", kind="delete", epoch=1, history_id=2)
    send = Send.event("mail.changes.v1", "b", change)
    assert send.value == change.encode()
    assert dict(send.headers) == {SCHEMA_ID: b"mailstream.MessageChange", SCHEMA_VERSION: b"1.0"}


def test_nobody_sends_an_event_without_its_schema() -> None:
    """``Send(…, event.encode())`` would: ``Send.event`` is for events, ``Send`` for bytes and tombstones."""
    plain = re.compile(r"\bSend\((?:[^()]|\([^()]*\))*\.encode\(\)")
    files = [
        path
        for folder in ("cli", "connectors", "search", "streams")
        for path in (ROOT / folder).rglob("*.py")
    ]
    assert len(files) > 100
    assert [str(path) for path in files if plain.search(path.read_text())] == []
    assert plain.search("Send(topics.A.name, key(record.id), record.encode())")
