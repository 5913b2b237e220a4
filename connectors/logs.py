"""Log lines: for people or as JSON, with the mailbox and the message that they are about.

What a line is about is set where an event is handled (``about``), and goes along into every task and thread
that is started there. Ids and hashes only: no address, no name, no text ever stands in a line of ours, and an
exception is told by its class and its place, because its text may quote what it choked on.
"""

import json
import logging
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from datetime import UTC, datetime

from schemas.identity import hashed

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


class JsonFormatter(logging.Formatter):
    """One JSON object a line: time, level, logger, message; where known mailbox, message_id, error, trace."""

    def format(self, record: logging.LogRecord) -> str:
        """A line."""
        line: dict[str, object] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
            **(_about.get() or {}),
        }
        if record.exc_info and record.exc_info[0] is not None:
            kind, _, trace = record.exc_info
            line["error"] = kind.__name__
            line["trace"] = [f"{at.filename}:{at.lineno} {at.name}" for at in traceback.extract_tb(trace)]
        return json.dumps(line, ensure_ascii=False)


class TextFormatter(logging.Formatter):
    """The same for people."""

    def __init__(self) -> None:
        super().__init__("%(asctime)s %(levelname)s %(name)s %(message)s")

    def format(self, record: logging.LogRecord) -> str:
        """A line, with what it is about at its end."""
        fields = " ".join(f"{name}={value}" for name, value in (_about.get() or {}).items())
        line = super().format(record)
        return f"{line} [{fields}]" if fields else line


def start_logging(level: str, form: str) -> None:
    """Log to standard error from ``level`` on, as "text" or "json"."""
    handler = logging.StreamHandler()
    handler.setFormatter(JsonFormatter() if form == "json" else TextFormatter())
    logging.basicConfig(level=level.upper(), handlers=[handler])
    logging.getLogger("googleapiclient").setLevel(logging.ERROR)  # what it warns of, we map and log
    for noisy in ("aiokafka", "elastic_transport", "faust", "mode"):
        logging.getLogger(noisy).setLevel(logging.WARNING)
