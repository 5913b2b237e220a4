"""Writes docs/asyncapi.yaml, and the tables of docs/TOPICS.md, out of ``schemas/``: ``make docs``."""

import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import yaml

sys.path.insert(0, str(Path(__file__).parents[1]))

from schemas.catalog import CONTRACTS, EVENTS, Contract, topics_of
from schemas.events import Event
from schemas.export import Schema, draft_07, json_schema, version_of
from schemas.headers import SCHEMA_ID, SCHEMA_VERSION
from schemas.topics import DAY_MILLISECONDS, Topic

DOCS = Path(__file__).parents[1] / "docs"
PAGE = DOCS / "TOPICS.md"


def topics_page() -> str:
    """docs/TOPICS.md as it is, with what stands between its marks made anew."""
    page = PAGE.read_text()
    for name, made in (
        ("overview", _overview()),
        ("topics", "\n".join(map(_section, CONTRACTS))),
        ("events", "\n".join(_events())),
    ):
        before, start, rest = page.partition(f"<!-- {name} -->\n")
        _, end, after = rest.partition(f"<!-- /{name} -->")
        page = before + start + made.rstrip("\n") + "\n" + end + after
    return page


def _overview() -> str:
    return _table(
        ("topic", "partitions", "kept", "events"),
        (
            (
                f"**`{contract.topic.name}`**" if contract.public else f"`{contract.topic.name}`",
                str(contract.topic.partitions),
                _kept(contract.topic),
                ", ".join(f"[{kind.__name__}](#{kind.__name__.lower()})" for kind in contract.events),
            )
            for contract in CONTRACTS
        ),
    )


def _kept(topic: Topic) -> str:
    if topic.retention_milliseconds is None:
        return "compacted: the latest of each key"
    days = topic.retention_milliseconds // DAY_MILLISECONDS
    return f"{days} day" if days == 1 else f"{days} days"


def _section(contract: Contract) -> str:
    keys = "\n".join(f"- {kind.__name__}: {key}" for kind, key in contract.keys.items())
    return "\n".join(
        [
            f"## {contract.topic.name}\n",
            f"{contract.summary}\n",
            *([f"Keys:\n\n{keys}\n"] if keys else []),
            f"**Written by** {contract.written_by}.\n",
            f"**Order.** {contract.order}\n",
            f"**Kept.** {_kept(contract.topic).capitalize()}.\n",
            f"**Tombstones.** {contract.tombstones}\n",
        ]
    )


def _events() -> Iterator[str]:
    shown: set[str] = set()
    for kind in EVENTS:
        schema = json_schema(kind)
        stands = ", ".join(f"`{topic.name}`" for topic in topics_of(kind))
        yield f"### {kind.__name__}\n\nVersion {version_of(kind)}, in {stands}. {schema['description']}\n"
        yield _fields(schema)
        for name, inner in schema.get("$defs", {}).items():
            if (
                "properties" in inner
                and name not in shown
                and name not in {other.__name__ for other in EVENTS}
            ):
                shown.add(name)
                yield f"\n#### {name}\n\n{inner['description']}\n"
                yield _fields(inner)
        yield ""


def _fields(schema: Schema) -> str:
    required = schema.get("required", ())
    return _table(
        ("field", "type", "unit", "privacy", "meaning"),
        (
            (
                f"**`{name}`**" if name in required else f"`{name}`",
                _type(field),
                field.get("x-unit", ""),
                field["x-privacy"],
                field["description"] + _default(field),
            )
            for name, field in schema["properties"].items()
        ),
    )


def _type(field: Schema) -> str:
    if "$ref" in field:
        return str(field["$ref"].rpartition("/")[2])
    if "enum" in field:
        return ", ".join(f"`{value}`" for value in field["enum"])
    if field["type"] == "array":
        return f"list of {_type(field['items'])}"
    if field["type"] == "object":
        return f"map of {_type(field['additionalProperties'])}"
    return str(field["type"])


def _default(field: Schema) -> str:
    default = field.get("default")
    return f" (default: `{default}`)" if isinstance(default, str) and default else ""


def _table(head: tuple[str, ...], rows: Any) -> str:
    lines = [head, ("---",) * len(head), *rows]
    return (
        "\n".join("| " + " | ".join(line) + " |" for line in lines)
        .replace("| --- ", "|---")
        .replace("---|", "---|")
    )


def asyncapi() -> dict[str, Any]:
    """docs/asyncapi.yaml, as an AsyncAPI 3.0 document of the application that Mailstream is."""
    return {
        "asyncapi": "3.0.0",
        "info": {
            "title": "Mailstream",
            "version": "1",
            "description": "What Mailstream writes into Kafka: see TOPICS.md for the rules in words.",
            "license": {"name": "Apache-2.0"},
        },
        "defaultContentType": "application/json",
        "servers": {
            "kafka": {
                "host": "{bootstrap}",
                "protocol": "kafka",
                "variables": {"bootstrap": {"default": "127.0.0.1:9092", "description": "KAFKA_BOOTSTRAP"}},
            }
        },
        "channels": {_channel_id(contract.topic): _channel(contract) for contract in CONTRACTS},
        "operations": {
            f"write-{_channel_id(contract.topic)}": {
                "action": "send",
                "channel": {"$ref": f"#/channels/{_channel_id(contract.topic)}"},
                "summary": f"Written by {contract.written_by}.",
                "messages": [
                    {"$ref": f"#/channels/{_channel_id(contract.topic)}/messages/{kind.__name__}"}
                    for kind in contract.events
                ],
            }
            for contract in CONTRACTS
            if contract.events
        },
        "components": {"messages": {kind.__name__: _message(kind) for kind in EVENTS}},
    }


def _channel_id(topic: Topic) -> str:
    return topic.name.replace(".", "-")


def _channel(contract: Contract) -> dict[str, Any]:
    topic = contract.topic
    keys = " ".join(f"Key of {kind.__name__}: {key}." for kind, key in contract.keys.items())
    described = (contract.summary, keys, f"Order: {contract.order}", f"Tombstones: {contract.tombstones}")
    return {
        "address": topic.name,
        "description": "\n\n".join(filter(None, described)),
        "messages": {
            kind.__name__: {"$ref": f"#/components/messages/{kind.__name__}"} for kind in contract.events
        },
        "bindings": {
            "kafka": {
                "topic": topic.name,
                "partitions": topic.partitions,
                "topicConfiguration": _configuration(topic.config()),
                "bindingVersion": "0.5.0",
            }
        },
    }


def _configuration(config: Mapping[str, str]) -> dict[str, Any]:
    """What the binding has a place for, in the types that it asks for."""
    places = ("retention.ms", "delete.retention.ms", "max.message.bytes")
    numbers = {name: int(config[name]) for name in places if name in config}
    return {"cleanup.policy": [config["cleanup.policy"]], **numbers}


def _message(kind: type[Event]) -> dict[str, Any]:
    payload = {name: value for name, value in draft_07(kind).items() if name != "$schema"}
    return {
        "name": kind.schema_id(),
        "title": kind.__name__,
        "summary": payload["description"].partition("\n")[0],
        "headers": {
            "type": "object",
            "properties": {
                SCHEMA_ID: {"type": "string", "const": kind.schema_id()},
                SCHEMA_VERSION: {"type": "string", "const": version_of(kind)},
            },
        },
        "payload": payload,
        "bindings": {"kafka": {"key": {"type": "string"}, "bindingVersion": "0.5.0"}},
    }


def asyncapi_text() -> str:
    """The same as YAML."""
    head = "# Made by `make docs` out of schemas/.\n"
    return head + yaml.safe_dump(asyncapi(), sort_keys=False, allow_unicode=True, width=110)


FILES = {"TOPICS.md": topics_page, "asyncapi.yaml": asyncapi_text}

if __name__ == "__main__":
    for name, made in FILES.items():
        (DOCS / name).write_text(made())
