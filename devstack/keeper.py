"""Runs one server and ends it when its owner is gone: ``python keeper.py SPECIFICATION``.

A server must not outlive a test run or a demo, however that ends, and SIGKILL leaves its victim no time to
clean up. So each server has this small process between it and the owner. It looks at its own parent (a
parent's death signal would not do: the kernel sends that when the *thread* that started the child ends), and
the kernel kills the server when this process itself is killed. The lock it holds says to everybody whether
the server still runs, which a process id cannot say, because ids are used again.

Only the standard library is used. SPECIFICATION is one JSON object, see ``devstack.servers``. The first line
printed is the server's process id, or ``busy`` when another keeper runs a server in this directory.
"""

from __future__ import annotations

import contextlib
import ctypes
import fcntl
import json
import os
import select
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import IO, Any

LOCK = "keeper.lock"
PIDS = "pids.json"
LOG = "server.log"

_POLL_SECONDS = 0.25
_PR_SET_PDEATHSIG = 1


def _die_with_keeper() -> None:
    # runs after the change of user, which would clear the setting
    with contextlib.suppress(OSError, AttributeError):  # Linux has it; elsewhere the owner's stop() has to do
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


def _locked(lock: IO[str]) -> bool:
    for _ in range(10):  # who asks whether a server runs holds the lock for a moment
        with contextlib.suppress(OSError):
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return True
        time.sleep(0.05)
    return False


def run(specification: dict[str, Any]) -> int:
    """Start the server, wait for its end, a signal, or the owner's end; leave nothing behind."""
    directory = Path(specification["directory"])
    lock = (directory / LOCK).open("w")
    if not _locked(lock):
        sys.stdout.write("busy\n")
        return 1
    log = (directory / LOG).open("ab")
    # A handler that raised could do so between a lock's acquisition and its ``try``, within Popen's own code:
    # the server would never be waited for. A byte in a pipe ends the wait between two looks instead.
    asked, ask = os.pipe()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: os.write(ask, b"."))
    child = None
    orphaned = False
    try:
        child = subprocess.Popen(
            specification["command"],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            cwd=directory,
            env=specification["environment"],
            start_new_session=True,
            preexec_fn=_die_with_keeper,  # safe: this process has one thread
            **specification["identity"],
        )
        (directory / PIDS).write_text(json.dumps({"keeper": os.getpid(), "server": child.pid}))
        sys.stdout.write(f"{child.pid}\n")
        sys.stdout.flush()
        sys.stdout.close()
        owner = specification["owner_pid"]
        while child.poll() is None:
            orphaned = bool(owner) and os.getppid() != owner
            if orphaned or select.select([asked], [], [], _POLL_SECONDS)[0]:
                break
        else:
            log.write(f"the server ended with exit status {child.returncode}\n".encode())
    finally:
        if child is not None:
            thrown_away = orphaned and specification["scratch"]
            end(child, 0 if thrown_away else specification["grace_seconds"])
        log.close()
        if orphaned and specification["scratch"]:
            shutil.rmtree(directory, ignore_errors=True)
            with contextlib.suppress(OSError):  # the last of the stack's servers empties its directory
                directory.parent.rmdir()
    return 0


def end(child: subprocess.Popen[bytes], grace_seconds: float) -> None:
    """End the server's whole process group: asked first, unless no time is granted, then killed."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        if grace_seconds and child.poll() is None:
            os.killpg(child.pid, signal.SIGTERM)
            os.killpg(child.pid, signal.SIGCONT)  # a paused server cannot hear
            with contextlib.suppress(subprocess.TimeoutExpired):
                child.wait(grace_seconds)
        os.killpg(child.pid, signal.SIGKILL)
    child.wait()


if __name__ == "__main__":
    sys.exit(run(json.loads(sys.argv[1])))
