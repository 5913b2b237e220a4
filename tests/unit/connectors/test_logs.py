"""Log lines: JSON that a machine reads, what they are about, and nothing that quotes mail."""

import asyncio
import io
import json
import logging
import subprocess
import sys
import textwrap
from collections.abc import Callable, Iterator

import pytest

from connectors.errors import UnavailableError
from connectors.logs import JsonFormatter, Repeats, TextFormatter, about
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


def test_what_a_library_repeats_is_told_now_and_then_and_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    out, now = io.StringIO(), [1_000.0]
    monkeypatch.setattr("connectors.logs.time.monotonic", lambda: now[0])
    handler = logging.StreamHandler(out)
    handler.addFilter(Repeats())
    theirs, ours = logging.getLogger("aiokafka.fetcher"), logging.getLogger("connectors.kafka")
    for logger in (theirs, ours):
        logger.addHandler(handler)
        logger.propagate = False
    try:
        for number in range(100):
            theirs.warning("node %d is away", 1)
            theirs.warning("another line")
            ours.warning("line %d", number)
            now[0] += 0.2
    finally:
        for logger in (theirs, ours):
            logger.removeHandler(handler)
            logger.propagate = True
    lines = out.getvalue().splitlines()
    assert [line for line in lines if line.startswith("line")] == [f"line {n}" for n in range(100)]
    said = [line for line in lines if line.startswith("node")]
    assert len(said) == 2 and said[1].endswith("(said 49 times more)"), said
    assert len([line for line in lines if line.startswith("another")]) == 2


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


@pytest.mark.parametrize("formatter", [JsonFormatter(), TextFormatter()], ids=["json", "text"])
async def test_no_form_of_an_error_quotes_it(formatter: logging.Formatter) -> None:
    """As libraries log errors: by themselves, as arguments, in the message, with what caused them."""
    out = io.StringIO()
    handler = logging.StreamHandler(out)
    handler.setFormatter(formatter)
    for name in ("test.logs", "asyncio"):
        logging.getLogger(name).addHandler(handler)
    try:
        try:
            try:
                raise KeyError("xylophone")
            except KeyError as error:
                raise ValueError("a xylophone, too") from error
        except ValueError as error:
            log.exception("Crashed reason=%r", error)
            log.error("it failed: %s", error)
            log.error("%(error)s", {"error": "of ours"})
            log.exception(f"told by a library: {error}")  # noqa: G004

        lost = ValueError("xylophone")
        task = f"<Task finished exception={lost!r}>"
        asyncio.get_running_loop().call_exception_handler({"message": "x", "exception": lost, "task": task})
    finally:
        for name in ("test.logs", "asyncio"):
            logging.getLogger(name).removeHandler(handler)
    said = out.getvalue()
    assert "xylophone" not in said
    assert said.count("Crashed reason='ValueError'") == 1
    assert "it failed: ValueError" in said
    assert "of ours" in said
    assert "test_logs.py" in said, "its place is told"


def test_our_own_errors_keep_their_words() -> None:
    record = logging.LogRecord("a", logging.INFO, "", 0, "no: %s", (UnavailableError("kafka is away"),), None)
    assert TextFormatter().format(record).endswith("no: kafka is away")


@pytest.mark.parametrize("form", ["text", "json"])
def test_a_crash_tells_class_and_place(form: str) -> None:
    """What nobody catches, in the process itself, in a thread of it, and where it cannot be raised."""
    program = f"""
        import threading
        from connectors.logs import start_logging

        def fail():
            raise ValueError("xylophone")

        class Fails:
            def __del__(self):
                fail()

        start_logging("info", {form!r})
        Fails()
        thread = threading.Thread(target=fail)
        thread.start()
        thread.join()
        fail()
    """
    ended = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(program)], capture_output=True, text=True, timeout=60
    )
    assert ended.returncode == 1
    assert "xylophone" not in ended.stderr + ended.stdout
    assert ended.stderr.count("not caught: ValueError") == 3
    assert ended.stderr.count(" fail") >= 3
