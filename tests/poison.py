"""Workers that a mail kills, as a defect in a library of theirs would.

Pipeline(..., before={"": poison.plant})

A mail with CRASHES in its subject crashes its extract worker in C, and one with KILLS in its text ends its
index worker as the kernel does when memory is out. The dump of a crash is written to the log.
"""

import ctypes
import faulthandler
import os
import signal
from typing import Any

CRASHES, KILLS = "crashes-in-c", "out-of-memory"


def plant() -> None:
    """Called in a process before its command."""
    from streams import index, message
    from streams.fields import segments_of

    text_of = message.MessageExtractor.upsert

    def kills(content: Any) -> Any:
        segments = tuple(segments_of(content))
        if any(KILLS in segment.text for segment in segments):
            os.kill(os.getpid(), signal.SIGKILL)
        return segments

    async def crashes(self: Any, fetched: Any) -> None:
        if CRASHES in fetched.message.root.header("Subject"):
            faulthandler.enable()
            ctypes.string_at(0)
        await text_of(self, fetched)

    vars(index)["segments_of"] = kills
    message.MessageExtractor.upsert = crashes  # type: ignore[method-assign]
