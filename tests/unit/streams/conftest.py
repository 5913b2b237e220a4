from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
import pytest_asyncio

from streams.ephemeral import EngineConfig, EphemeralAttachmentHandler
from streams.parser_pool import PoolConfig
from tests.reading import Configured, files_in


@pytest.fixture(scope="session")
def reader_directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("reader")


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def reader(reader_directory: Path) -> AsyncIterator[EphemeralAttachmentHandler]:
    """One engine for the tests of every format; afterwards nothing is left of what they read."""
    async with EphemeralAttachmentHandler(PoolConfig(reader_directory)) as handler:
        yield handler
    assert files_in(reader_directory) == []


@pytest.fixture
def configured(reader: EphemeralAttachmentHandler, reader_directory: Path) -> Iterator[Configured]:
    """Engines over the parsers of all tests: what makes them differ stands in the job."""

    def engine(config: EngineConfig) -> EphemeralAttachmentHandler:
        handler = EphemeralAttachmentHandler(PoolConfig(reader_directory), config)
        handler._pool = reader._pool
        return handler

    yield engine
    assert files_in(reader_directory) == []
