"""A server of the stack: what every provider's can do, and the one that is a process on this machine."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from devstack import keeper
from devstack.programs import DevstackError

# ~4 s and ~10 s on two idle cores (ARCHITECTURE.md); two stacks under full load need a multiple of that.
READY_SECONDS = 180.0
# Both servers flush and leave within two seconds when idle.
GRACE_SECONDS = 20.0
_POLL_SECONDS = 0.1
_TAIL_BYTES = 64 * 1024
# Either server's words for a port that somebody took between our look and its start.
_PORT_TAKEN = ("Address already in use", "BindException", "BindHttpException", "BindTransportException")


class PortTakenError(DevstackError):
    """Somebody else listens on the chosen port."""


class Server(Protocol):
    """Kafka or Elasticsearch, wherever it runs. What a provider cannot do raises ``DevstackError``."""

    name: str
    scratch: bool  # its data are thrown away at the end

    @property
    def pid(self) -> int | None:
        """The server's own process on this machine; None elsewhere, or when it does not run."""

    def start(self) -> None:
        """Start it on its address and its data, without waiting; nothing happens when it runs."""

    def wait_until_ready(self, timeout_seconds: float = READY_SECONDS) -> None:
        """Return when it answers. Raises ``DevstackError`` with its last log lines when it does not."""

    def stop(self) -> None:
        """Ask it to end, then make it. Safe to repeat. Its data stay."""

    def kill(self) -> None:
        """End it at once (SIGKILL), as a crash would. Its data stay."""

    def pause(self) -> None:
        """Stop its clock (SIGSTOP): connections stay open and nothing answers."""

    def resume(self) -> None:
        """Undo ``pause``."""

    def log_tail(self, lines: int = 40) -> str:
        """The last lines of its log."""

    def describe(self) -> dict[str, Any]:
        """What another process needs to find it again; JSON."""


@contextlib.contextmanager
def paused(server: Server) -> Iterator[None]:
    """Within the block it holds its connections and answers nothing."""
    server.pause()
    try:
        yield
    finally:
        server.resume()


@dataclass
class LocalServer:
    """A server process on this machine, in a directory of its own, with a keeper (``devstack/keeper.py``)."""

    name: str
    directory: Path
    command: list[str]
    answers: Callable[[], bool]
    environment: Mapping[str, str] = field(default_factory=dict)
    identity: Mapping[str, Any] = field(default_factory=dict)  # Popen's user, group, extra_groups
    pid_file: Path | None = None  # where the server writes its id, when a launcher starts it
    ports: tuple[int, ...] = ()
    detached: bool = False  # outlives the process that starts it
    scratch: bool = False
    _keeper: subprocess.Popen[bytes] | None = field(default=None, repr=False)

    @property
    def pid(self) -> int | None:
        """The server's own process, not its launcher's; None when it does not run."""
        if not self.running:
            return None
        if self.pid_file is not None:
            with contextlib.suppress(OSError, ValueError):
                return int(self.pid_file.read_text())
        return self._pids().get("server")

    @property
    def running(self) -> bool:
        """Whether its keeper lives; answers for a server that another process started, too."""
        if self._keeper is not None and self._keeper.poll() is not None:
            self._keeper = None  # reaped
        try:
            with (self.directory / keeper.LOCK).open("r+") as lock:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except FileNotFoundError:
            return False
        except OSError:
            return True
        return False

    def start(self) -> None:
        """See ``Server.start``."""
        if self.running:
            return
        if self.pid_file is not None:
            self.pid_file.unlink(missing_ok=True)
        specification = {
            "directory": str(self.directory),
            "command": self.command,
            "environment": dict(self.environment),
            "identity": dict(self.identity),
            "owner_pid": 0 if self.detached else os.getpid(),
            "scratch": self.scratch,
            "grace_seconds": GRACE_SECONDS,
        }
        self._keeper = subprocess.Popen(
            [sys.executable, "-I", str(Path(keeper.__file__)), json.dumps(specification)],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            start_new_session=True,  # Ctrl-C is for us, who end the servers in order
        )
        assert self._keeper.stdout and self._keeper.stderr
        first = self._keeper.stdout.readline().strip()
        if first == b"busy":
            self._keeper.wait()  # another process was faster; its server is as good
        elif not first.isdigit():
            _, error = self._keeper.communicate()
            raise DevstackError(f"{self.name} did not start: {error.decode(errors='replace').strip()[-500:]}")
        self._keeper.stdout.close()
        self._keeper.stderr.close()

    def wait_until_ready(self, timeout_seconds: float = READY_SECONDS) -> None:
        """See ``Server.wait_until_ready``. Raises ``PortTakenError`` when its port is somebody else's."""
        deadline = time.monotonic() + timeout_seconds
        while True:
            if not self.running:
                tail = self.log_tail()
                if any(words in tail for words in _PORT_TAKEN):
                    raise PortTakenError(f"{self.name} found its port taken; its last log lines:\n{tail}")
                raise DevstackError(f"{self.name} ended while starting; its last log lines:\n{tail}")
            if self.answers():
                return
            if time.monotonic() > deadline:
                raise DevstackError(
                    f"{self.name} does not answer after {timeout_seconds:.0f} s; its last log lines:\n"
                    + self.log_tail()
                )
            time.sleep(_POLL_SECONDS)

    def stop(self) -> None:
        """See ``Server.stop``."""
        self._end("keeper", os.kill, signal.SIGTERM)

    def kill(self) -> None:
        """See ``Server.kill``."""
        self._end("server", os.killpg, signal.SIGKILL)

    def pause(self) -> None:
        """See ``Server.pause``."""
        group = self._running_group()
        os.killpg(group, signal.SIGSTOP)
        # Each thread stops when it next gets its turn: on a busy machine one may still answer until then.
        deadline = time.monotonic() + GRACE_SECONDS
        while not _is_stopped(group):
            if time.monotonic() > deadline:
                raise DevstackError(f"{self.name} does not stop")
            time.sleep(0.01)

    def resume(self) -> None:
        """See ``Server.resume``."""
        os.killpg(self._running_group(), signal.SIGCONT)

    def log_tail(self, lines: int = 40) -> str:
        """See ``Server.log_tail``."""
        return tail(self.directory / keeper.LOG, lines)

    def describe(self) -> dict[str, Any]:
        """See ``Server.describe``."""
        return {"directory": str(self.directory), "ports": list(self.ports)}

    def _pids(self) -> dict[str, int]:
        try:
            pids: dict[str, int] = json.loads((self.directory / keeper.PIDS).read_text())
        except (OSError, ValueError):
            return {}
        return pids

    def _running_group(self) -> int:
        if not self.running:
            raise DevstackError(f"{self.name} does not run")
        return self._pids()["server"]

    def _end(self, which: str, send: Callable[[int, int], None], number: int) -> None:
        if not self.running:
            return
        with contextlib.suppress(ProcessLookupError):
            send(self._pids()[which], number)
        deadline = time.monotonic() + GRACE_SECONDS + 5
        while self.running:
            if time.monotonic() > deadline:
                raise DevstackError(f"{self.name} does not end; its processes: {self._pids()}")
            time.sleep(0.05)
        if self._keeper is not None:
            self._keeper.wait()
            self._keeper = None


def handed_on() -> dict[str, str]:
    """What a server gets of our environment: a JAVA_OPTS or ES_HOME of the caller's would change it."""
    return {name: os.environ[name] for name in ("PATH", "LANG", "LC_ALL", "TZ") if name in os.environ}


def _is_stopped(pid: int) -> bool:
    """Whether every thread of a process is stopped; without /proc there is no knowing, and it counts as."""
    states = []
    for thread in Path(f"/proc/{pid}/task").glob("*/stat"):
        with contextlib.suppress(OSError):  # it has ended
            states.append(thread.read_text("utf-8", "replace").rpartition(")")[2].split()[0])
    return all(state in "TZX" for state in states)


def tail(log: Path, lines: int) -> str:
    """The last lines of a log file; a text that says so where there is none."""
    try:
        with log.open("rb") as file:
            file.seek(max(0, file.seek(0, os.SEEK_END) - _TAIL_BYTES))
            text = file.read().decode(errors="replace")
    except OSError:
        return "(no log)"
    return "\n".join(text.splitlines()[-lines:])
