"""The far side of the parser pool: a nursery that has imported every parser, and what is forked from it.

    python -m streams.parser_process CONTROL_FD DIRECTORY MEMORY_BYTES CPU_SECONDS FILE_BYTES

Over the control socket the pool asks for a process and gets the descriptor of a socket to it. A process takes
one job at a time (a JSON header, and the payload as a descriptor) and answers with JSON records. What it may
not do stands in ``sandbox``; it dies with its nursery, and the nursery dies with the pool.
"""

import ctypes
import json
import os
import signal
import socket
import struct
import sys
import tempfile
import time
from functools import partial
from pathlib import Path
from typing import Any

from streams.sandbox import Caps, run_confined

_LENGTH = struct.Struct("!I")
_BLOCK_BYTES = 1024 * 1024
_PUNCH_HOLE = 0x02 | 0x01  # and keep the size
_BYTES_OFFSET = bytes.__basicsize__ - 1  # where the content of a bytes object begins

_libc = ctypes.CDLL(None, use_errno=True)
ctypes.pythonapi.PyBytes_FromStringAndSize.restype = ctypes.py_object


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


def take(descriptor: int) -> bytes:
    """The bytes of a file of memory, which holds nothing but its size afterwards: it gives way block by
    block, so that a payload is never there twice. Closes the descriptor."""
    with os.fdopen(descriptor, "r+b", buffering=0):
        size = os.fstat(descriptor).st_size
        # An object of that size whose bytes nobody has seen yet: the one moment at which they may change.
        payload: bytes = ctypes.pythonapi.PyBytes_FromStringAndSize(None, ctypes.c_ssize_t(size))
        if size:
            view = memoryview((ctypes.c_char * size).from_address(id(payload) + _BYTES_OFFSET)).cast("B")
            for start in range(0, size, _BLOCK_BYTES):
                block = view[start : start + _BLOCK_BYTES]
                if os.preadv(descriptor, [block], start) != len(block):
                    raise EOFError("the payload broke off")
                _libc.fallocate(descriptor, _PUNCH_HOLE, ctypes.c_long(start), ctypes.c_long(len(block)))
    return payload


def serve_jobs(connection: socket.socket) -> None:
    """Extract what comes until the pool hangs up."""
    from streams.extractors.limits import Limits
    from streams.extractors.registry import extract
    from streams.extractors.result import Budget, Document

    while (job := receive_job(connection)) is not None:
        header, descriptor = job
        payload = take(descriptor)
        extract(
            Document(
                path=(),
                payload=payload,
                declared_content_type=header["content_type"],
                filename=header["filename"],
                charset=header["charset"],
                ocr=header["ocr"],
                inline=header["inline"],
                languages=header["languages"],
                budget=Budget(Limits(**header["limits"])),
                emit=lambda record: send(connection, record),
            )
        )
        del payload
        send(connection, {"type": "done", "cpu_seconds": time.process_time()})


def main(arguments: list[str]) -> None:
    """The nursery: import everything once, then fork a process whenever the pool asks."""
    control = socket.socket(fileno=int(arguments[0]))
    directory, caps = arguments[1], Caps(*map(int, arguments[2:5]))
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # the kernel buries the dead
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the pool, which then hangs up
    from PIL import Image

    import streams.extractors.registry  # noqa: F401 - seconds, spent here once

    Image.preinit()  # the readers of common pictures, which Pillow imports with the first one

    while control.recv(1):
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
        if os.fork() == 0:
            control.close()
            theirs.close()
            # exit statuses are waited for: the parser's, tesseract's
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            # tesseract takes files: each process has a place of its own, so that whoever kills it knows
            # what to remove.
            os.environ["TMPDIR"] = tempfile.tempdir = tempfile.mkdtemp(prefix="parser-", dir=directory)
            run_confined(Path(tempfile.tempdir), caps, partial(_serve, ours))
        ours.close()
        socket.send_fds(control, [b"."], [theirs.fileno()])
        theirs.close()


def _serve(connection: socket.socket, protections: list[str]) -> None:
    # /proc is the one of outside, and so is the number that it gives.
    pid, directory = int(Path("/proc/self").readlink().name), tempfile.tempdir
    send(connection, {"type": "ready", "pid": pid, "directory": directory, "protections": protections})
    serve_jobs(connection)


if __name__ == "__main__":
    main(sys.argv[1:])
