"""Turns: few at once, urgent ones first and with places of their own."""

import asyncio

from streams.turns import Turns


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
