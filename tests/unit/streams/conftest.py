from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio

from streams.ephemeral import EphemeralAttachmentHandler
from streams.parser_pool import PoolConfig


@pytest.fixture(scope="session")
def reader_directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("reader")


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def reader(reader_directory: Path) -> AsyncIterator[EphemeralAttachmentHandler]:
    """One engine for the tests of every format; afterwards nothing is left of what they read."""
    async with EphemeralAttachmentHandler(PoolConfig(reader_directory)) as handler:
        yield handler
    assert [path for path in reader_directory.rglob("*") if not path.is_dir()] == []
