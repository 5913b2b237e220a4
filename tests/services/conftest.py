"""Service tests share the session's ``stack`` of ``tests/conftest.py``; what only they need stands here."""

from collections.abc import AsyncIterator

import pytest

from connectors.elasticsearch import Index
from schemas import mapping


@pytest.fixture
def own_index_names(unique_name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The mail index and its aliases are this test's own."""
    monkeypatch.setattr(mapping, "INDEX_PREFIX", f"{unique_name}-v")
    monkeypatch.setattr(mapping, "READ_ALIAS", f"{unique_name}-read")
    monkeypatch.setattr(mapping, "WRITE_ALIAS", f"{unique_name}-write")


@pytest.fixture
async def index(elasticsearch_url: str, own_index_names: None) -> AsyncIterator[Index]:
    """An empty mail index of this test's own."""
    async with Index.open(elasticsearch_url) as client:
        await client.ensure()
        yield client
