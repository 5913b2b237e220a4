"""The far side of the parser pool: a nursery that has imported every parser, and what is forked from it.

    python -m streams.parser_process CONTROL_FD DIRECTORY MEMORY_BYTES CPU_SECONDS FILE_BYTES

Over the control socket the pool asks for a process and gets the descriptor of a socket to it. A process takes
one job at a time (a JSON header, and the payload as a descriptor) and answers with JSON records. It has no
network, little memory, and dies with its nursery; the nursery dies with the pool.
"""

import ctypes
import json
import mmap
import os
import resource
import signal
import socket
import struct
import sys
import tempfile
from typing import Any

_LENGTH = struct.Struct("!I")
_PR_SET_PDEATHSIG, _PR_SET_NO_NEW_PRIVS, _PR_SET_DUMPABLE = 1, 38, 4
_CLONE_NEWNET, _CLONE_NEWUSER = 0x40000000, 0x10000000
MAX_OPEN_FILES = 256


def send(connection: socket.socket, record: dict[str, Any]) -> None:
    """Write one record: its length, then JSON."""
    data = json.dumps(record).encode()
    connection.sendall(_LENGTH.pack(len(data)) + data)


def receive_job(connection: socket.socket) -> tuple[dict[str, Any], int] | None:
    """The next job's header and the descriptor of its payload; None when the pool has hung up."""
    data, descriptors, _, _ = socket.recv_fds(connection, 64 * 1024, 1)
    if not data:
        return None
    return json.loads(data), descriptors[0]


def protect(memory_bytes: int, cpu_seconds: int, file_bytes: int) -> list[str]:
    """Take away from this process what a parser does not need; returns the protections in force."""
    libc = ctypes.CDLL(None, use_errno=True)
    active = ["process group", "rlimits"]
    os.setsid()
    libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    with open("/proc/self/statm", encoding="ascii") as statm:  # noqa: PTH123 - no pathlib before the limits
        mapped_bytes = int(statm.read().split()[0]) * mmap.PAGESIZE
    resource.setrlimit(resource.RLIMIT_AS, (mapped_bytes + memory_bytes,) * 2)
    resource.setrlimit(resource.RLIMIT_CPU, (cpu_seconds, cpu_seconds + 5))
    resource.setrlimit(resource.RLIMIT_FSIZE, (file_bytes,) * 2)
    resource.setrlimit(resource.RLIMIT_NOFILE, (MAX_OPEN_FILES,) * 2)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))  # a core dump would be an attachment on a disk
    if libc.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0:
        active.append("no new privileges")
    for namespaces in (_CLONE_NEWNET, _CLONE_NEWUSER | _CLONE_NEWNET):
        if libc.unshare(namespaces) == 0:
            active.append("no network")
            break
    return active


def serve_jobs(connection: socket.socket) -> None:
    """Extract what comes until the pool hangs up."""
    from streams.extractors.limits import Limits
    from streams.extractors.registry import extract
    from streams.extractors.result import Budget, Document

    while (job := receive_job(connection)) is not None:
        header, descriptor = job
        with os.fdopen(descriptor, "rb") as file:
            payload = file.read()
        extract(
            Document(
                path=(),
                payload=payload,
                declared_content_type=header["content_type"],
                filename=header["filename"],
                charset=header["charset"],
                ocr=header["ocr"],
                budget=Budget(Limits(**header["limits"])),
                emit=lambda record: send(connection, record),
            )
        )
        del payload
        send(connection, {"type": "done"})


def main(arguments: list[str]) -> None:
    """The nursery: import everything once, then fork a process whenever the pool asks."""
    control = socket.socket(fileno=int(arguments[0]))
    directory = arguments[1]
    memory_bytes, cpu_seconds, file_bytes = map(int, arguments[2:5])
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # the kernel buries the dead
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the pool, which then hangs up
    import streams.extractors.registry  # noqa: F401 - seconds, spent here once

    while control.recv(1):
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
        if os.fork() == 0:
            control.close()
            theirs.close()
            # tesseract's exit status is waited for
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            # tesseract takes files: each process has a place of its own, so that whoever kills it knows
            # what to remove.
            os.environ["TMPDIR"] = tempfile.tempdir = tempfile.mkdtemp(prefix="parser-", dir=directory)
            active = protect(memory_bytes, cpu_seconds, file_bytes)
            ready = {"pid": os.getpid(), "directory": tempfile.tempdir, "protections": active}
            send(ours, {"type": "ready", **ready})
            try:
                serve_jobs(ours)
            finally:
                os._exit(0)
        ours.close()
        socket.send_fds(control, [b"."], [theirs.fileno()])
        theirs.close()


if __name__ == "__main__":
    main(sys.argv[1:])
