"""Turns: few at once, urgent ones first and with places of their own."""

import asyncio
import threading
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from connectors.encoder import HashEncoder
from connectors.kafka import Record
from schemas.mapping import VECTOR_DIMENSIONS
from streams.index import EMBEDDED_AT_ONCE, Indexer
from streams.turns import Turns
from tests.standins import Letters


async def _taken(turns: Turns, urgent: bool, name: str, order: list[str], leave: asyncio.Event) -> None:
    async with turns.take(urgent=urgent):
        order.append(name)
        await leave.wait()


async def test_who_is_urgent_goes_before_those_that_wait_and_takes_what_is_reserved() -> None:
    turns, order, leave = Turns(1, reserved=1), list[str](), asyncio.Event()
    tasks = []
    for urgent, name in ((False, "a"), (False, "b"), (True, "c"), (True, "d"), (False, "e")):
        tasks.append(asyncio.create_task(_taken(turns, urgent, name, order, leave)))
        await asyncio.sleep(0)
    # One by the ordinary place, one by that for urgent ones; nobody else.
    assert order == ["a", "c"]
    leave.set()
    await asyncio.gather(*tasks)
    assert order == ["a", "c", "d", "b", "e"]


async def test_a_turn_that_nobody_waits_for_any_more_goes_to_the_next() -> None:
    turns, order, leave = Turns(1), list[str](), asyncio.Event()
    first = asyncio.create_task(_taken(turns, False, "first", order, leave))
    await asyncio.sleep(0)
    given_up = asyncio.create_task(_taken(turns, True, "given up", order, leave))
    last = asyncio.create_task(_taken(turns, False, "last", order, leave))
    await asyncio.sleep(0)
    leave.set()
    await first
    given_up.cancel()  # its turn has just come
    await asyncio.gather(given_up, return_exceptions=True)
    async with asyncio.timeout(5):
        await last
    assert order[-1] == "last"
    async with asyncio.timeout(5), turns.take(urgent=False):
        pass


async def test_the_model_takes_an_urgent_text_between_two_slices_of_others() -> None:
    loop, begun, go_on = asyncio.get_running_loop(), asyncio.Event(), threading.Event()
    encoded: list[str] = []

    class Slow:
        name = "slow"

        def encode(self, texts: Sequence[str]) -> NDArray[np.float32]:
            encoded.append(texts[0])
            loop.call_soon_threadsafe(begun.set)
            assert go_on.wait(20)
            return np.ones((len(texts), VECTOR_DIMENSIONS), np.float32)

    indexer = Indexer(None, Slow(), None, 10)  # type: ignore[arg-type]
    many = {("backfill", f"{number}"): f"{number:05d}" for number in range(3 * EMBEDDED_AT_ONCE)}
    backfill = asyncio.create_task(indexer._vectors(many, urgent=False))
    await begun.wait()
    urgent = asyncio.create_task(indexer._vectors({("new", "mail"): "new mail"}, urgent=True))
    await asyncio.sleep(0)
    go_on.set()
    async with asyncio.timeout(20):
        assert len(await urgent) == 1
        assert (await backfill).keys() == many.keys()
    assert encoded[1] == "new mail"
    assert len(encoded) == 4


async def test_what_can_wait_is_embedded_elsewhere() -> None:
    asked: dict[str, list[str]] = {"worker": [], "beside": []}

    class Counting(HashEncoder):
        def __init__(self, where: str) -> None:
            self.where = where

        def encode(self, texts: Sequence[str]) -> NDArray[np.float32]:
            asked[self.where] += texts
            return super().encode(texts)

    indexer = Indexer(None, Counting("worker"), None, 10, patient=Counting("beside"))  # type: ignore[arg-type]
    await indexer._vectors({("new", "mail"): "new mail"}, urgent=True)
    await indexer._vectors({("backfill", "one"): "old mail"}, urgent=False)
    assert asked == {"worker": ["new mail"], "beside": ["old mail"]}


async def test_what_is_read_ahead_becomes_a_dead_letter_in_its_turn_only() -> None:
    letters = Letters()
    broken = Record("t", 0, 7, "no key of ours", b"no JSON", ahead=True)
    indexer = Indexer(None, HashEncoder(), letters, 10)  # type: ignore[arg-type]
    await indexer.handle([broken])
    assert letters.written == []
    await indexer.handle([replace(broken, ahead=False)])
    assert [record.offset for record, _, _ in letters.written] == [7]
