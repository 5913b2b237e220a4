"""The schemas in a real registry: registered once, followed compatibly, refused where they would break."""

import copy
import json
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from connectors.errors import ConfigurationError
from connectors.schema_registry import IncompatibleSchemaError, Kind, SchemaRegistry
from schemas.catalog import CONTRACTS
from schemas.compatibility import incompatibilities
from schemas.events import MessageChange
from schemas.export import Schema, avro, draft_07
from tests.apicurio import apicurio
from tests.commands import command

# Its first start downloads 160 MB with Maven.
pytestmark = [pytest.mark.full, pytest.mark.timeout(2000)]


@pytest.fixture(scope="module")
def registry(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with apicurio(tmp_path_factory.mktemp("apicurio")) as url:
        yield url


@pytest.mark.parametrize("kind", ["json-schema", "avro"])
def test_everything_registers_once(registry: str, kind: str) -> None:
    if kind == "avro":  # a subject holds schemas of one kind
        code, _, errors = command({}, "schemas", "register", "--registry", registry, "--format", kind)
        assert (code, "HTTP 422" in errors) == (1, True)
        return
    runs = []
    for _ in range(2):
        code, output, errors = command({}, "schemas", "register", "--registry", registry, "--json")
        assert code == 0, errors
        runs.append([json.loads(line) for line in output.splitlines()])
    first, second = runs
    assert len(first) == sum(len(contract.events) for contract in CONTRACTS)
    assert {entry["new"] for entry in first} == {True}
    assert [{**entry, "new": False} for entry in first] == second


def _json(change: Callable[[Schema, Schema], Any]) -> Schema:
    schema = draft_07(MessageChange)
    change(schema, schema["properties"])
    return schema


def _avro(change: Callable[[Schema, Schema], Any]) -> Schema:
    schema = copy.deepcopy(avro(MessageChange))
    change(schema, {field["name"]: field for field in schema["fields"]})
    return schema


OPTIONAL = {"type": ["null", "string"], "default": None}
FOLLOWING: list[tuple[Kind, str, Schema]] = [
    ("JSON", "FORWARD_TRANSITIVE", _json(lambda _, fields: fields.update(extra={"type": "string"}))),
    ("AVRO", "FULL_TRANSITIVE", _avro(lambda s, _: s["fields"].append({"name": "extra", **OPTIONAL}))),
]
BREAKING: list[tuple[Kind, str, Schema]] = [
    ("JSON", "FORWARD_TRANSITIVE", _json(lambda _, fields: fields.pop("thread_id"))),
    ("JSON", "FORWARD_TRANSITIVE", _json(lambda _, fields: fields.update(thread_id={"type": "integer"}))),
    ("JSON", "FORWARD_TRANSITIVE", _json(lambda _, fields: fields["fetch"]["enum"].append("lazy"))),
    ("JSON", "FORWARD_TRANSITIVE", _json(lambda schema, _: schema["required"].remove("epoch"))),
    ("AVRO", "FULL_TRANSITIVE", _avro(lambda s, _: s["fields"].append({"name": "extra", "type": "string"}))),
    ("AVRO", "FULL_TRANSITIVE", _avro(lambda _, fields: fields["thread_id"].update(type=["null", "long"]))),
    ("AVRO", "FULL_TRANSITIVE", _avro(lambda _, fields: fields["kind"]["type"]["symbols"].append("moved"))),
]
_FIRST: dict[Kind, Schema] = {"JSON": draft_07(MessageChange), "AVRO": avro(MessageChange)}


@pytest.mark.parametrize(("kind", "level", "later"), FOLLOWING)
async def test_what_follows_is_taken(
    registry: str, unique_name: str, kind: Kind, level: str, later: Schema
) -> None:
    async with SchemaRegistry.open(registry) as server:
        first = await server.register(unique_name, _FIRST[kind], kind, level)
        second = await server.register(unique_name, later, kind, level)
        again = await server.register(unique_name, later, kind, level)
    assert (first.version, second.version, second.is_new) == (1, 2, True)
    assert (again.version, again.schema_id, again.is_new) == (2, second.schema_id, False)


@pytest.mark.parametrize(("kind", "level", "later"), BREAKING)
async def test_what_breaks_is_refused(
    registry: str, unique_name: str, kind: Kind, level: str, later: Schema
) -> None:
    async with SchemaRegistry.open(registry) as server:
        await server.register(unique_name, _FIRST[kind], kind, level)
        with pytest.raises(IncompatibleSchemaError, match=f"refuses {unique_name}: it is incompatible"):
            await server.register(unique_name, later, kind, level)
    if kind == "JSON":  # and so it is here
        assert incompatibilities(_FIRST[kind], later)


async def test_what_is_no_schema_is_refused(registry: str, unique_name: str) -> None:
    async with SchemaRegistry.open(registry) as server:
        with pytest.raises(ConfigurationError, match="HTTP 422"):
            await server.register(unique_name, {"type": "recod"}, "AVRO", "FULL")


def test_an_address_without_its_path_is_said(registry: str) -> None:
    plain = registry.removesuffix("/apis/ccompat/v7")
    code, _, errors = command({}, "schemas", "register", "--registry", plain)
    assert (code, "does a path belong to the address" in errors) == (1, True)
