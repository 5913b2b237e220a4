"""Processes of the ``mailstream`` command as forks of one that has imported everything.

Importing what a worker needs takes seconds of a processor; the demo starts half a dozen workers, the tests
over a hundred. Deployments don't come here: there each process is a container's own.
"""

import ctypes
import multiprocessing
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from multiprocessing.connection import Connection
from pathlib import Path
from typing import IO

_PR_SET_PDEATHSIG = 1  # from linux/prctl.h

_FORKS = multiprocessing.get_context("forkserver")
_FORKS.set_forkserver_preload(
    [
        "cli.emulate",
        "cli.processes",
        "cli.push",
        "cli.reap",
        "cli.serve",
        "connectors.source",
        "search.api",
        "streams.apps",
    ]
)


class Fork:
    """A running command, with the part of ``subprocess.Popen`` that we use."""

    def __init__(
        self,
        arguments: Sequence[str],
        environment: Mapping[str, str],
        log: Path,
        *,
        piped: bool = False,
        before: Callable[[], None] | None = None,
    ) -> None:
        """Run ``mailstream ARGUMENTS`` in a session of its own; what it says is added to ``log``.

        ``piped``: its standard output is read from ``stdout`` instead. ``before`` (a function of a module) is
        called there before the command begins: tests plant a fault with it.
        """
        receiver, sender = _FORKS.Pipe(duplex=False) if piped else (None, None)
        self._process = _FORKS.Process(
            target=_run, args=(tuple(arguments), dict(environment), log, sender, before), daemon=True
        )
        self._process.start()
        assert self._process.pid is not None, "it was started"
        self.pid = self._process.pid
        self.stdout: IO[bytes] | None = None
        if receiver is not None and sender is not None:
            sender.close()
            self.stdout = os.fdopen(os.dup(receiver.fileno()), "rb")
            receiver.close()

    @property
    def returncode(self) -> int | None:
        """Its exit code, negative for the signal that ended it; None while it runs."""
        return self._process.exitcode

    def poll(self) -> int | None:
        """The same."""
        return self.returncode

    def wait(self, timeout: float | None = None) -> int:
        """Wait for its end. Raises subprocess.TimeoutExpired."""
        self._process.join(timeout)
        if (code := self.returncode) is None:
            raise subprocess.TimeoutExpired(self._process.name, timeout or 0.0)
        return code

    def send_signal(self, sent: int) -> None:
        """Send it a signal, unless it has ended."""
        if self.poll() is None:
            with suppress(ProcessLookupError):
                os.kill(self.pid, sent)

    def terminate(self) -> None:
        """SIGTERM."""
        self.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        """SIGKILL."""
        self.send_signal(signal.SIGKILL)


def end_with_parent() -> None:
    """Have this process ended when the thread that forked it ends, however that is."""
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)


def _run(
    arguments: tuple[str, ...],
    environment: dict[str, str],
    log: Path,
    output: Connection | None,
    before: Callable[[], None] | None,
) -> None:
    from cli.main import main

    # Who forked us ends with whoever asked for us, however that was ended; nobody would end us then.
    end_with_parent()
    os.setsid()  # Ctrl-C reaches whoever started us alone, and they end us in order
    os.environ.clear()
    os.environ.update(environment)
    tempfile.tempdir = None  # TMPDIR may be another one
    with log.open("ab") as file:
        os.dup2(file.fileno() if output is None else output.fileno(), sys.stdout.fileno())
        os.dup2(file.fileno(), sys.stderr.fileno())
    # What is handed down to us keeps the process that forked us alive as long as we are.
    os.closerange(sys.stderr.fileno() + 1, os.sysconf("SC_OPEN_MAX"))
    sys.argv = ["mailstream", *arguments]
    if before is not None:
        before()
    main(list(arguments))
