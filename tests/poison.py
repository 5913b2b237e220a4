"""Workers that a mail kills, as a defect in a library of theirs would.

    with mock.patch("cli.forks._run", poison.run): pipeline.start("extract", "index")

A mail with CRASHES in its subject crashes its extract worker in C, and one with KILLS in its text ends its
index worker as the kernel does when memory is out. The dump of a crash is written to the log.
"""

import ctypes
import faulthandler
import os
import signal
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from cli import forks

CRASHES, KILLS = "crashes-in-c", "out-of-memory"
_run = forks._run


def run(
    arguments: tuple[str, ...], environment: dict[str, str], log: Path, output: Connection | None
) -> None:
    """What a fork does: the command, with the defects in it."""
    from streams import fields, index, message

    upsert = message.MessageExtractor.upsert

    def kills(content: Any) -> Any:
        segments = tuple(fields.segments_of(content))
        if any(KILLS in segment.text for segment in segments):
            os.kill(os.getpid(), signal.SIGKILL)
        return segments

    async def crashes(self: Any, fetched: Any) -> None:
        if CRASHES in fetched.message.root.header("Subject"):
            faulthandler.enable()
            ctypes.string_at(0)
        await upsert(self, fetched)

    vars(index)["segments_of"] = kills
    message.MessageExtractor.upsert = crashes  # type: ignore[method-assign]
    _run(arguments, environment, log, output)
