"""What several folders of unit tests share."""

from pathlib import Path

import pytest

from devstack.sample.mailbox import SampleSummary, write_sample_mailbox


@pytest.fixture(scope="session")
def sample(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, SampleSummary]:
    """The sample mailbox as an mbox file, for reading only; writing it takes two seconds."""
    path = tmp_path_factory.mktemp("sample") / "sample.mbox"
    return path, write_sample_mailbox(path)
