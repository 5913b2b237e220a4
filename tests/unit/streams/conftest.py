from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio

from streams.ephemeral import EphemeralAttachmentHandler
from streams.parser_pool import PoolConfig


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def reader(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[EphemeralAttachmentHandler]:
    """One engine for the tests of every format; afterwards nothing is left of what they read."""
    directory: Path = tmp_path_factory.mktemp("reader")
    async with EphemeralAttachmentHandler(PoolConfig(directory)) as handler:
        yield handler
    assert [path for path in directory.rglob("*") if not path.is_dir()] == []
