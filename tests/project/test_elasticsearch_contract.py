"""docs/ELASTICSEARCH.md names the fields that the mapping has, with their types."""

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from schemas import mapping

DOCUMENT = (Path(__file__).parents[2] / "docs" / "ELASTICSEARCH.md").read_text()


def fields(properties: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, str]]:
    for name, field in properties.items():
        yield prefix + name, field["type"]
        yield from fields(field.get("properties", field.get("fields", {})), f"{prefix}{name}.")


def test_the_table_is_the_mapping() -> None:
    table = DOCUMENT.partition("<!-- fields -->")[2].partition("<!-- /fields -->")[0]
    documented = re.findall(r"^\| `([^`]+)` \| (\w+) \| ", table, re.MULTILINE)
    assert documented == list(fields(mapping.mappings()["properties"]))


def test_the_document_names_this_version() -> None:
    assert mapping.index_name() in DOCUMENT
    assert mapping.READ_ALIAS in DOCUMENT
