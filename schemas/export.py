"""The events as schemas that other languages read: JSON Schema 2020-12, as they are on the wire, and Avro.

Both are made from the Python types alone. Records are JSON: an absent field is an unknown one, ``null`` does
not occur, and fields that a reader does not know may follow (a later minor version). Avro describes the same
values for whoever keeps them in Avro: what may be absent is a union with null there.
"""

import re
from collections.abc import Mapping
from typing import Any

from pydantic.json_schema import GenerateJsonSchema, JsonSchemaValue
from pydantic_core import core_schema

from schemas.events import Event

Schema = dict[str, Any]
NAMESPACE = "mailstream"
_SIMPLE = {"string": "string", "integer": "long", "number": "double", "boolean": "boolean"}


class _Wire(GenerateJsonSchema):
    """Pydantic's own, without what does not occur on the wire."""

    def field_title_should_be_set(self, schema: Any) -> bool:
        """Its name says as much."""
        return False

    def nullable_schema(self, schema: core_schema.NullableSchema) -> JsonSchemaValue:
        """None is written by leaving the field out."""
        return self.generate_inner(schema["schema"])

    def default_schema(self, schema: core_schema.WithDefaultSchema) -> JsonSchemaValue:
        """Absent is no default; an empty object made anew each time is one."""
        inner = self.generate_inner(schema["schema"])
        if schema.get("default_factory") is dict:
            return {**inner, "default": {}}
        return inner if schema.get("default") is None else super().default_schema(schema)

    def int_schema(self, schema: core_schema.IntSchema) -> JsonSchemaValue:
        """Times and historyIds need more than 32 bits."""
        return {**super().int_schema(schema), "format": "int64"}


def version_of(kind: type[Event]) -> str:
    """``1.0``: major and minor."""
    return "{}.{}".format(*kind.schema_version)


def json_schema(kind: type[Event]) -> Schema:
    """An event's JSON Schema; ``x-privacy`` and ``x-unit`` as in ``schemas.privacy``."""
    made = _plain(kind.model_json_schema(schema_generator=_Wire))
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        **made,
        "title": kind.schema_id(),
        "x-version": version_of(kind),
    }


def _plain(node: Any) -> Any:
    """Descriptions as Markdown and in one line a paragraph; they come from docstrings."""
    if isinstance(node, list):
        return [_plain(item) for item in node]
    if isinstance(node, dict):
        return {key: _plain(value) for key, value in node.items()}
    return re.sub(r"(?<!\n)\n(?!\n)", " ", node.replace("``", "`")) if isinstance(node, str) else node


def inlined(schema: Schema) -> Schema:
    """The schema with every reference replaced by what it refers to; what stands beside it is kept."""
    definitions: Mapping[str, Schema] = schema.get("$defs", {})

    def resolve(node: Any) -> Any:
        if isinstance(node, list):
            return [resolve(item) for item in node]
        if not isinstance(node, dict):
            return node
        if "$ref" in node:
            beside = {key: value for key, value in node.items() if key != "$ref"}
            node = {**definitions[node["$ref"].rpartition("/")[2]], **beside}
        return {key: resolve(value) for key, value in node.items() if key != "$defs"}

    whole: Schema = resolve(schema)
    return whole


def draft_07(kind: type[Event]) -> Schema:
    """The same for a registry, whose checkers of compatibility know draft 7, and not all of them references.

    Nothing that our schemas use has changed since then.
    """
    return {**inlined(json_schema(kind)), "$schema": "http://json-schema.org/draft-07/schema#"}


def avro(kind: type[Event]) -> Schema:
    """An event's Avro schema; ``privacy`` and ``unit`` are attributes of the fields."""
    return _Avro(json_schema(kind)).record(kind.__name__)


class _Avro:
    """One JSON Schema as Avro: a named type is spelled out where it first stands."""

    def __init__(self, schema: Schema) -> None:
        self._whole = schema
        self._spelled: set[str] = set()

    def record(self, name: str, schema: Schema | None = None) -> Schema:
        schema = schema or self._whole
        made = {"type": "record", "name": name}
        if schema is self._whole:
            made["namespace"] = NAMESPACE
        required = schema.get("required", ())
        return {
            **made,
            "doc": schema.get("description", ""),
            "fields": [
                self._field(name, field, inner, field in required)
                for field, inner in schema["properties"].items()
            ],
        }

    def _field(self, owner: str, name: str, schema: Schema, required: bool) -> Schema:
        kind = self._type(schema, owner + name.title().replace("_", ""))
        made: Schema = {"name": name, "type": kind, "doc": schema.get("description", "")}
        if "default" in schema:
            made["default"] = schema["default"]
        elif not required:
            made |= {"type": ["null", kind], "default": None}
        attributes = {key: schema.get(f"x-{key}") for key in ("privacy", "unit")}
        return made | {key: value for key, value in attributes.items() if value is not None}

    def _type(self, schema: Schema, name: str) -> Any:
        """``name`` is what an enumeration without a name is called."""
        if "$ref" in schema:
            name = schema["$ref"].rpartition("/")[2]
            if name in self._spelled:
                return name
            self._spelled.add(name)
            schema = self._whole["$defs"][name]
        if "enum" in schema:
            return {"type": "enum", "name": name, "symbols": schema["enum"]}
        if "properties" in schema:
            return self.record(name, schema)
        if schema["type"] == "array":
            return {"type": "array", "items": self._type(schema["items"], name)}
        if schema["type"] == "object":
            return {"type": "map", "values": self._type(schema["additionalProperties"], name)}
        return _SIMPLE[schema["type"]]
