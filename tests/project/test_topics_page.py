"""docs/TOPICS.md and docs/asyncapi.yaml are what the types say, and the latter is AsyncAPI 3.0."""

import json
import subprocess
import tarfile
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml

from schemas import topics
from schemas.catalog import CONTRACTS, EVENTS
from schemas.privacy import Privacy
from scripts.topics_page import DOCS, FILES, asyncapi

# The official schema of AsyncAPI, as its own package on npm has it.
SPECS = "@asyncapi/specs@6.11.1"


@pytest.mark.parametrize("name", FILES)
def test_the_committed_file_is_what_the_types_say(name: str) -> None:
    assert (DOCS / name).read_text() == FILES[name](), "run `make docs`"


def test_every_reference_leads_somewhere() -> None:
    document = asyncapi()
    references = list(_references(document))
    assert len(references) > 2 * len(EVENTS)
    for reference in references:
        target: Any = document
        for step in reference.removeprefix("#/").split("/"):
            target = target[step]
        assert target, reference


def _references(node: Any) -> list[str]:
    if isinstance(node, dict):
        found = [node["$ref"]] if isinstance(node.get("$ref"), str) else []
        return found + [inner for value in node.values() for inner in _references(value)]
    return [inner for value in node for inner in _references(value)] if isinstance(node, list) else []


def test_every_topic_and_event_is_in_it() -> None:
    document = yaml.safe_load((DOCS / "asyncapi.yaml").read_text())
    channels = {channel["address"]: channel for channel in document["channels"].values()}
    assert channels.keys() == {topic.name for topic in topics.ALL}
    for contract in CONTRACTS:
        channel = channels[contract.topic.name]
        assert list(channel["messages"]) == [kind.__name__ for kind in contract.events]
        binding = channel["bindings"]["kafka"]
        assert binding["partitions"] == contract.topic.partitions
        assert binding["topicConfiguration"]["cleanup.policy"] == [contract.topic.cleanup]
        kept = contract.topic.retention_milliseconds
        assert binding["topicConfiguration"].get("retention.ms") == kept
    for kind in EVENTS:
        payload = document["components"]["messages"][kind.__name__]["payload"]
        assert list(payload["properties"]) == list(kind.model_fields)
        jsonschema.Draft7Validator.check_schema(payload)


def test_the_page_says_what_each_privacy_class_is() -> None:
    page = (DOCS / "TOPICS.md").read_text()
    for kind in Privacy:
        assert f"\n| `{kind}` | " in page


@pytest.mark.full
def test_it_is_asyncapi_3(tmp_path: Path) -> None:
    packed = subprocess.run(
        ["npm", "pack", "--silent", SPECS],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=240,
        check=True,
    )
    with tarfile.open(tmp_path / packed.stdout.strip()) as archive:
        member = archive.extractfile("package/schemas/3.0.0-without-$id.json")
        assert member is not None
        schema = json.load(member)
    validator = jsonschema.Draft7Validator(schema)
    document = yaml.safe_load((DOCS / "asyncapi.yaml").read_text())
    assert [error.message[:500] for error in validator.iter_errors(document)] == []
    document["operations"]["write-mail-changes-v1"]["action"] = "shout"
    assert list(validator.iter_errors(document))
