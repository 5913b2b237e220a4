"""How long a pipeline is waited for: as long as something moves."""

import itertools
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest

import cli.pipeline
from cli.pipeline import Pipeline, PipelineError
from cli.status import MailboxProgress, Status

STILL_SECONDS = 10.0


class _Observer:
    def __init__(self, statuses: Iterator[Status]) -> None:
        self._statuses = statuses

    async def status(self) -> Status:
        return next(self._statuses)

    async def refresh(self) -> None:
        pass


@pytest.fixture(autouse=True)
def _clock(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each look takes a second less than what may stand still."""
    ticks = itertools.count(step=STILL_SECONDS - 1)
    monkeypatch.setattr(cli.pipeline, "time", SimpleNamespace(monotonic=lambda: next(ticks)))
    monkeypatch.setattr(cli.pipeline, "POLL_SECONDS", 0)


def _status(lag: int, messages: int) -> Status:
    box = MailboxProgress("box", "anna@example.com", "live", listed=9, total=9, complete=True)
    return Status([box], {"extract": lag}, dead_letters=0, messages=messages)


async def _wait(tmp_path: Path, statuses: Iterator[Status]) -> Status:
    pipeline = Pipeline("127.0.0.1:1", "http://127.0.0.1:1", (), tmp_path)
    return await pipeline.wait_until_settled(_Observer(statuses), STILL_SECONDS)  # type: ignore[arg-type]


async def test_what_moves_is_waited_for_however_long_it_takes(tmp_path: Path) -> None:
    slow = (_status(lag, 100 - lag) for lag in range(100, -1, -1))
    status = await _wait(tmp_path, itertools.chain(slow, [_status(0, 100)]))
    assert status.messages == 100


async def test_what_stands_still_is_given_up(tmp_path: Path) -> None:
    with pytest.raises(PipelineError, match=r"nothing moves for 10 s: .*'extract': 3"):
        await _wait(tmp_path, itertools.repeat(_status(3, 5)))
