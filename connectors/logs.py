"""Log lines: for people or as JSON, with the mailbox and the message that they are about.

What a line is about is set where an event is handled (``about``), and goes along into every task and thread
that is started there. Ids and hashes only: no address, no name, no text ever stands in a line of ours, and an
exception is told by its class and its place, because its text may quote what it choked on.
"""

import json
import logging
import sys
import threading
import time
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from datetime import UTC, datetime
from types import TracebackType
from typing import Any

from connectors.errors import MailstreamError
from schemas.identity import hashed

log = logging.getLogger(__name__)

_LIBRARIES = ("aiokafka", "elastic_transport", "faust", "mode")
# While a server is away its clients say so up to fifty times a second.
_REPEATED_SECONDS = 10.0
_REMEMBERED = 1_000  # different lines

_about: ContextVar[dict[str, str] | None] = ContextVar("about", default=None)


@contextmanager
def about(mailbox_id: str, message_id: str | None = None) -> Iterator[None]:
    """What is logged inside is about this mailbox, and this message of it."""
    fields = {"mailbox": hashed(mailbox_id)}
    if message_id is not None:
        fields["message_id"] = message_id
    token = _about.set(fields)
    try:
        yield
    finally:
        _about.reset(token)


def _message(record: logging.LogRecord) -> str:
    """A record's message in which the errors of others are named by their class.

    Libraries log their errors as arguments (``"Crashed reason=%r"``), and asyncio writes the error of a task
    that nobody waited for into the message itself.
    """
    if isinstance(record.args, tuple):
        said = record.msg % tuple(map(_named, record.args)) if record.args else str(record.msg)
    else:
        said = record.getMessage()
    error = record.exc_info[1] if record.exc_info else None
    while error is not None:
        for quoted in (repr(error), str(error)):
            if not isinstance(error, MailstreamError) and quoted:
                said = said.replace(quoted, type(error).__name__)
        error = error.__cause__ or error.__context__
    return said


def _named(argument: object) -> object:
    if isinstance(argument, BaseException) and not isinstance(argument, MailstreamError):
        return type(argument).__name__
    return argument


def _places(trace: TracebackType | None) -> list[str]:
    return [f"{at.filename}:{at.lineno} {at.name}" for at in traceback.extract_tb(trace)]


class JsonFormatter(logging.Formatter):
    """One JSON object a line: time, level, logger, message; where known mailbox, message_id, error, trace."""

    def format(self, record: logging.LogRecord) -> str:
        """A line."""
        line: dict[str, object] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": _message(record),
            **(_about.get() or {}),
        }
        if record.exc_info and record.exc_info[0] is not None:
            kind, _, trace = record.exc_info
            line["error"] = kind.__name__
            line["trace"] = _places(trace)
        return json.dumps(line, ensure_ascii=False)


class TextFormatter(logging.Formatter):
    """The same for people."""

    def format(self, record: logging.LogRecord) -> str:
        """A line, with what it is about at its end."""
        fields = " ".join(f"{name}={value}" for name, value in (_about.get() or {}).items())
        line = f"{self.formatTime(record)} {record.levelname} {record.name} {_message(record)}"
        line = f"{line} [{fields}]" if fields else line
        if record.exc_info and record.exc_info[0] is not None:
            kind, _, trace = record.exc_info
            line += "".join(f"\n  {place}" for place in (kind.__name__, *_places(trace)))
        return line


class Repeats(logging.Filter):
    """Of what a library says over and over, one line in ten seconds, with the number of those left out."""

    def __init__(self) -> None:
        super().__init__()
        self._said: dict[tuple[str, str], tuple[float, int]] = {}  # when last, and how often since

    def filter(self, record: logging.LogRecord) -> bool:
        """Whether the line is written."""
        if record.name.partition(".")[0] not in _LIBRARIES:
            return True
        key, now = (record.name, str(record.msg)), time.monotonic()
        said_at, left_out = self._said.get(key, (now - _REPEATED_SECONDS, 0))
        if now - said_at < _REPEATED_SECONDS:
            self._said[key] = (said_at, left_out + 1)
            return False
        if len(self._said) >= _REMEMBERED:
            self._said.clear()
        self._said[key] = (now, 0)
        if left_out and isinstance(record.args, tuple):
            record.msg, record.args = f"{record.msg} (said %d times more)", (*record.args, left_out)
        return True


def start_logging(level: str, form: str) -> None:
    """Log to standard error from ``level`` on, as "text" or "json"; what nobody catches is logged, too."""
    handler = logging.StreamHandler()
    handler.setFormatter(JsonFormatter() if form == "json" else TextFormatter())
    handler.addFilter(Repeats())
    logging.basicConfig(level=level.upper(), handlers=[handler])
    logging.getLogger("googleapiclient").setLevel(logging.ERROR)  # what it warns of, we map and log
    for noisy in (*_LIBRARIES, "streams.settle"):  # whose services Faust starts and stops, saying so
        logging.getLogger(noisy).setLevel(logging.WARNING)
    sys.excepthook = _crashed
    threading.excepthook = lambda crash: _crashed(crash.exc_type, crash.exc_value, crash.exc_traceback)
    sys.unraisablehook = lambda crash: _crashed(crash.exc_type, crash.exc_value, crash.exc_traceback)


def _crashed(kind: Any, error: BaseException | None, trace: TracebackType | None) -> None:
    """Python's own hook would print the error with its text."""
    if error is not None and not issubclass(kind, KeyboardInterrupt | SystemExit):
        log.critical("not caught: %s", error, exc_info=(kind, error, trace))
