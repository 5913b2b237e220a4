"""Nothing outlives whom it works for, however that one ends."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.processes import runs, wait_until_gone

PARSERS = """
import asyncio, sys
from pathlib import Path
from streams.ephemeral import EphemeralAttachmentHandler
from streams.parser_pool import PoolConfig
async def main():
    async with EphemeralAttachmentHandler(PoolConfig(Path(sys.argv[1]))) as engine:
        print(engine._pool._nursery.pid, engine._pool._idle[0].pid, flush=True)
        await asyncio.sleep(600)
asyncio.run(main())
"""
ENCODER = """
import time
from streams.encoder_process import EncoderProcess
encoder = EncoderProcess("hash")
encoder.encode(["there"])
print(encoder._process.pid, flush=True)
time.sleep(600)
"""
FORK = """
import os, sys, time
from pathlib import Path
from cli.forks import Fork
if __name__ == "__main__":  # a fork looks at this file once more
    mbox = Path(sys.argv[1]) / "mail.mbox"
    mbox.write_bytes(b"From x\\nSubject: a\\n\\nb\\n")
    command = ["emulate", "gmail", "--json", "--mbox", str(mbox)]
    fork = Fork(command, dict(os.environ), mbox.with_name("log"), piped=True)
    fork.stdout.readline()
    print(fork.pid, flush=True)
    time.sleep(600)
"""
SERVER = """
import signal, sys, threading, time
from pathlib import Path
from devstack.servers import LocalServer
signal.signal(signal.SIGINT, signal.default_int_handler)  # which it ignores where tests run in the background
server = LocalServer("S", Path(sys.argv[1]), ["sleep", "600"], lambda: True)
# a thread that ends must not take the server with it
starter = threading.Thread(target=server.start)
starter.start()
starter.join()
time.sleep(0.6)
print(server.pid, server._pids()["keeper"], flush=True)
time.sleep(600)
"""
Owner = Callable[[str], tuple["subprocess.Popen[str]", list[int]]]


@pytest.fixture
def owner(tmp_path: Path) -> Iterator[Owner]:
    """Starts a program that prints the process ids of those who work for it, and waits."""
    started: list[subprocess.Popen[str]] = []

    def start(program: str) -> tuple[subprocess.Popen[str], list[int]]:
        script = tmp_path / "owner.py"
        script.write_text(program)
        process = subprocess.Popen(
            [sys.executable, str(script), str(tmp_path)],
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])},
        )
        started.append(process)
        assert process.stdout is not None
        pids = [int(pid) for pid in process.stdout.readline().split()]
        assert pids and all(map(runs, pids))
        return process, pids

    yield start
    for process in started:
        with process:
            process.kill()


@pytest.mark.parametrize("program", [PARSERS, ENCODER, FORK], ids=["parsers", "encoder", "fork"])
def test_a_killed_process_takes_its_own_with_it(owner: Owner, program: str) -> None:
    process, pids = owner(program)
    process.kill()
    wait_until_gone(*pids)


@pytest.mark.parametrize("sent", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
@pytest.mark.parametrize("whom", ["owner", "keeper"])
def test_a_server_ends_with_its_owner_and_with_its_keeper(
    owner: Owner, sent: signal.Signals, whom: str
) -> None:
    process, [server, keeper] = owner(SERVER)
    if whom == "keeper":
        os.kill(keeper, sent)
    # More than once: Python loses what a signal raises amid a finalizer.
    while whom == "owner" and process.poll() is None:
        process.send_signal(sent)
        time.sleep(0.1)
    wait_until_gone(server)
