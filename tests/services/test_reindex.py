"""Replay on real servers: nothing is lost, missed or asked of Gmail while the index is built anew."""

import asyncio
import json
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from cli.pipeline import Pipeline
from connectors.elasticsearch import Index
from connectors.elasticsearch.versions import Version, Versions
from connectors.encoder import HashEncoder
from connectors.errors import ConfigurationError
from connectors.kafka import Record
from devstack.stack import Stack
from schemas.identity import document_id
from schemas.registers import LabelRegister
from streams.index import Indexer
from tests.commands import command
from tests.reindex_run import Model, in_directory
from tests.standins import NoLetters, records_of

pytestmark = pytest.mark.timeout(600)

MESSAGES = 300


def test_a_rebuild_with_live_changes_loses_and_misses_nothing(stack: Stack, tmp_path: Path) -> None:
    report = in_directory(tmp_path, MESSAGES, stack, _the_old_index_stays_until_told)
    assert report.documents >= MESSAGES
    assert report.resumed_at > 0
    assert report.changes > 100
    assert report.searches > 20
    assert report.failures == []
    assert (report.misses, report.differing, report.gmail_requests) == (0, 0, 0)
    # One chunk for each content; only the process that went on after the kill counts those it reused.
    assert report.vectors_reused >= max(1, MESSAGES + MESSAGES // 3 - report.written)


def _the_old_index_stays_until_told(running: Pipeline) -> None:
    code, output, _ = command(running, "reindex", "--drop-old", "--json")
    assert (code, json.loads(output)) == (0, {"removed": ["mail-v000001"]})
    code, output, _ = command(running, "reindex", "--cancel", "--json")
    assert (code, json.loads(output)) == (0, {"removed": []})


@pytest.fixture
async def versions(elasticsearch_url: str, own_index_names: None) -> AsyncIterator[Versions]:
    async with Versions.open(elasticsearch_url) as opened:
        yield opened


MESSAGE = document_id("box", "m00001s")


def _indexer(index: Index) -> Indexer:
    return Indexer(index, HashEncoder(), NoLetters(), max_chunks=10)  # type: ignore[arg-type]


def _starred() -> list[Record]:
    owner = {"mailbox_id": "box", "message_id": "m00001s"}
    return records_of([LabelRegister(**owner, epoch=1, history_id=900, label_id="STARRED", present=True)])


async def _labels(versions: Versions, version: Version) -> list[str]:
    stored = await versions.index(version).read([MESSAGE], ["label_ids"])
    labels: list[str] = stored[MESSAGE].source["label_ids"]
    return labels


async def _two_versions(versions: Versions) -> tuple[Version, Version]:
    """The same message in both, the first one live."""
    records = records_of(Model(seed=1).arrive(steady=True))
    old, new = await versions.create("hash"), await versions.create("hash")
    await versions.put_in_place(old, None)
    for version in (old, new):
        await _indexer(versions.index(version)).handle(records)
    return old, new


async def test_a_write_that_meets_the_swap_ends_in_the_new_index(
    versions: Versions, elasticsearch_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("streams.index.MAX_ROUNDS", 2)  # a swap is nobody's change, however long it takes
    old, new = await _two_versions(versions)
    async with Index.open(elasticsearch_url) as alias:
        async with versions.held(old):
            worker = asyncio.create_task(_indexer(alias).handle(_starred()))
            await asyncio.sleep(3)
            assert not worker.done()
            await versions.put_in_place(new, old)
        await worker
    assert await _labels(versions, new) == ["INBOX", "STARRED"]
    assert await _labels(versions, old) == ["INBOX"]


async def test_a_version_read_from_the_old_index_is_never_compared_in_the_new_one(
    versions: Versions, elasticsearch_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Both documents have the same sequence number: by the alias a stale write would pass for a good one."""
    old, new = await _two_versions(versions)
    both = [await versions.index(version).read([MESSAGE], ["live"]) for version in (old, new)]
    assert both[0][MESSAGE].seq_no == both[1][MESSAGE].seq_no
    read, swapped = Index.read, False

    async def racing(self: Index, ids: Sequence[str], fields: Sequence[str]) -> Any:
        nonlocal swapped
        stored = await read(self, ids, fields)
        if not swapped:
            swapped = True
            await versions.put_in_place(new, old)
        return stored

    async with Index.open(elasticsearch_url) as alias:
        monkeypatch.setattr(Index, "read", racing)
        await _indexer(alias).handle(_starred())
    monkeypatch.setattr(Index, "read", read)
    assert swapped
    # The rebuild reads the record itself before the aliases move: it is not lost.
    assert await _labels(versions, old) == ["INBOX", "STARRED"]
    assert await _labels(versions, new) == ["INBOX"]


async def test_a_worker_with_another_encoder_writes_nothing(
    versions: Versions, elasticsearch_url: str
) -> None:
    other = await versions.create("another model")
    await versions.put_in_place(other, None)
    async with Index.open(elasticsearch_url) as alias:
        with pytest.raises(ConfigurationError, match="mailstream reindex"):
            await _indexer(alias).handle(_starred())
    assert await versions.index(other).count({"match_all": {}}) == 0
