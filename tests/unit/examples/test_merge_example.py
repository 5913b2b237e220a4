"""The merge that other teams copy: held to the vectors, and as small as it promises to be."""

import importlib
from itertools import permutations
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from tests.merge_vectors import vectors

EXAMPLES = Path(__file__).parents[3] / "examples"
FOLLOWERS = (
    "python/follow_aiokafka.py",
    "python/follow_faust.py",
    "java/src/main/java/Follow.java",
    "node/follow.js",
)


@pytest.fixture
def example(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(EXAMPLES / "python"))
    return importlib.import_module("merge")


@pytest.mark.parametrize("vector", vectors(), ids=lambda vector: vector["name"])
def test_the_vectors_hold_in_every_order(example: ModuleType, vector: dict[str, Any]) -> None:
    for order in permutations([*vector["records"], vector["records"][0]]):
        message: dict[str, Any] = {}
        for record in order:
            example.merge(message, record["key"].partition("/")[2], record["value"])
        assert example.is_live(message) == vector["merged"]["live"]
        assert sorted(example.label_ids(message)) == vector["merged"]["label_ids"]
        versions = {path: content["version"] for path, content in example.contents(message).items()}
        expected = {path: content["version"] for path, content in vector["merged"]["contents"].items()}
        assert versions == expected


def test_records_without_a_value_take_a_register_out(example: ModuleType) -> None:
    message: dict[str, Any] = {}
    example.merge(message, "deleted", example.decode(b'{"epoch": 1, "history_id": 5}'))
    assert not example.is_live(message)
    example.merge(message, "deleted", example.decode(None))
    assert example.is_live(message)


def test_registers_that_v1_does_not_have_are_refused(example: ModuleType) -> None:
    with pytest.raises(ValueError, match="unheard"):
        example.merge({}, "unheard", {"epoch": 1, "history_id": 5})


@pytest.mark.parametrize("path", FOLLOWERS)
def test_an_example_is_read_in_a_minute(path: str) -> None:
    assert len((EXAMPLES / path).read_text().splitlines()) <= 60
