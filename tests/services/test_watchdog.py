"""A worker that comes on no further ends itself, and whoever starts it again loses nothing."""

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from devstack.stack import Stack
from tests.pipelines import documents, pipeline, settle

STALLED_SECONDS = 4.0
MAILS = 6


async def _for_ever(*_: Any, **__: Any) -> None:
    await asyncio.sleep(1e6)


def _handler() -> None:
    """Its work never ends."""
    from streams.index import Indexer

    Indexer.handle = _for_ever  # type: ignore[method-assign]


def _loop() -> None:
    """Its work holds the event loop, so that it hears no signal either."""
    from streams.index import Indexer

    async def held(*_: Any) -> None:
        time.sleep(1e6)  # noqa: ASYNC251 - that is the fault

    Indexer.handle = held  # type: ignore[method-assign,assignment]


def _fetcher() -> None:
    """The consumer is in its group and fetches nothing, as Faust's do now and then."""
    from streams.settle import SettlingConsumer

    SettlingConsumer.getmany = _never  # type: ignore[method-assign]


async def _never(*_: Any, **__: Any) -> Any:
    await asyncio.sleep(1e6)
    yield


PLANTS: dict[str, Callable[[], None]] = {"handler": _handler, "loop": _loop, "fetcher": _fetcher}


@dataclass(frozen=True)
class Planted:
    """Plants a stall in the first process that comes by, and in no other."""

    name: str
    done: Path

    def __call__(self) -> None:
        from cli import probes

        probes.LOOK_SECONDS = 0.5
        if not self.done.exists():
            self.done.touch()
            PLANTS[self.name]()


@pytest.mark.parametrize(
    "name", ["fetcher", *(pytest.param(name, marks=pytest.mark.full) for name in ("handler", "loop"))]
)
def test_a_worker_that_stalls_is_started_again(stack: Stack, tmp_path: Path, name: str) -> None:
    mail = tmp_path / "mail.mbox"
    mail.write_bytes(
        b"".join(
            b"From x\nSubject: %d\nMessage-ID: <%d@example.com>\n\nbody\n\n" % (n, n) for n in range(MAILS)
        )
    )
    planted = Planted(name, tmp_path / "planted")
    also = {"STALLED_SECONDS": str(STALLED_SECONDS)}
    with pipeline(mail, tmp_path / "run", stack=stack, also=also, before={"index": planted}) as running:
        running.start("source", "extract", "slow", "index")
        assert running.processes["index"].wait(90) == 1
        assert "nothing has moved for" in running.log_tail("index")
        assert planted.done.exists()
        running.start("index")
        status = settle(running)
        assert status.messages == len(documents(running)) == MAILS
        assert status.dead_letters == 0
