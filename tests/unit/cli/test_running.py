"""A process ends when it is told to, also where what it waits for does not."""

import signal
import subprocess
import sys

STUBBORN = """
import asyncio, contextlib
from cli import running

async def work():
    print("up", flush=True)
    while True:
        with contextlib.suppress(asyncio.CancelledError):
            await asyncio.Event().wait()

running.END_SECONDS = 0.2
running.run_until_signal(work())
"""


def test_what_does_not_end_is_ended() -> None:
    with subprocess.Popen([sys.executable, "-c", STUBBORN], stdout=-1, stderr=-1, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "up\n"
        process.send_signal(signal.SIGTERM)
        _, said = process.communicate(timeout=60)
    assert process.returncode == 1
    assert "a server does not answer" in said
