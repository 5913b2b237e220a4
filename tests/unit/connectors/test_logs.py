"""Log lines: JSON that a machine reads, what they are about, and nothing that quotes mail."""

import asyncio
import io
import json
import logging
from collections.abc import Callable, Iterator

import pytest

from connectors.logs import JsonFormatter, TextFormatter, about
from schemas.identity import hashed

Lines = Callable[[], list[str]]


@pytest.fixture
def lines() -> Iterator[Lines]:
    out = io.StringIO()
    handler = logging.StreamHandler(out)
    handler.setFormatter(JsonFormatter())
    log.addHandler(handler)
    yield lambda: out.getvalue().splitlines()
    log.removeHandler(handler)


log = logging.getLogger("test.logs")


def test_a_line_says_what_it_is_about(lines: Lines) -> None:
    log.error("before %d", 1)
    with about("box", "m1"):
        log.error("inside\nof two lines")
    log.error("after")
    before, inside, after = map(json.loads, lines())
    assert before == {"time": before["time"], "level": "error", "logger": "test.logs", "message": "before 1"}
    assert (inside["mailbox"], inside["message_id"]) == (hashed("box"), "m1")
    assert inside["message"] == "inside\nof two lines"
    assert "mailbox" not in after


async def test_tasks_do_not_take_each_others_mailbox(lines: Lines) -> None:
    async def work(mailbox_id: str) -> None:
        with about(mailbox_id):
            await asyncio.sleep(0)
            log.error(mailbox_id)

    await asyncio.gather(*(work(f"box-{number}") for number in range(5)))
    for line in map(json.loads, lines()):
        assert line["mailbox"] == hashed(line["message"])


def test_an_exception_is_told_by_class_and_place(lines: Lines) -> None:
    try:
        raise ValueError("xylophone")
    except ValueError:
        log.exception("it failed")
    [line] = lines()
    assert "xylophone" not in line
    parsed = json.loads(line)
    assert parsed["error"] == "ValueError"
    assert "test_an_exception_is_told_by_class_and_place" in parsed["trace"][-1]


def test_people_see_it_too() -> None:
    record = logging.LogRecord("a", logging.INFO, "", 0, "a line", (), None)
    assert TextFormatter().format(record).endswith("INFO a a line")
    with about("box", "m1"):
        assert TextFormatter().format(record).endswith(f"a line [mailbox={hashed('box')} message_id=m1]")
