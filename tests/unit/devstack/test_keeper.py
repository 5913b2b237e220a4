"""A server's keeper ends when it is told to, whatever it does at that moment."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

# The signal comes amid the n-th look after the server: once Popen has its lock, before its ``try``.
KEEPER = """
import json, os, signal, subprocess, sys
from devstack import keeper

class Lock:
    def __init__(self, lock, left):
        self.lock, self.left = lock, left

    def acquire(self, *arguments):
        acquired = self.lock.acquire(*arguments)
        self.left -= 1
        if not self.left:
            os.kill(os.getpid(), signal.SIGTERM)
        return acquired

    def release(self):
        self.lock.release()

    __enter__ = acquire

    def __exit__(self, *_):
        self.release()

class Popen(subprocess.Popen):
    def __init__(self, *arguments, **named):
        super().__init__(*arguments, **named)
        self._waitpid_lock = Lock(self._waitpid_lock, int(sys.argv[2]))

subprocess.Popen = Popen
sys.exit(keeper.run(json.loads(sys.argv[1])))
"""


@pytest.mark.parametrize("look", [1, 2])
def test_a_keeper_told_to_end_amid_a_look_after_its_server_ends(tmp_path: Path, look: int) -> None:
    specification = {
        "directory": str(tmp_path),
        "command": ["sleep", "600"],
        "environment": {"PATH": os.environ["PATH"]},
        "identity": {},
        "owner_pid": 0,
        "scratch": False,
        "grace_seconds": 5,
    }
    process = subprocess.Popen(
        [sys.executable, "-c", KEEPER, json.dumps(specification), str(look)],
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[3])},
        stdout=subprocess.PIPE,
    )
    with process:
        try:
            assert process.wait(60) == 0
        finally:
            process.kill()
    pids = json.loads((tmp_path / "pids.json").read_text())
    with pytest.raises(ProcessLookupError):
        os.kill(pids["server"], 0)
