"""A clamd on this machine that scans with the signatures it is given: nothing is downloaded."""

from __future__ import annotations

import socket
from functools import partial
from pathlib import Path

from devstack.programs import find_clamd
from devstack.servers import LocalServer, handed_on

# What `scripts/clamd.conf` sets, too: the reasons stand there.
SETTINGS = {
    "Foreground": "yes",
    "FixStaleSocket": "yes",
    "OfficialDatabaseOnly": "no",
    "StreamMaxLength": "60M",
    "MaxFileSize": "200M",
    "MaxScanSize": "200M",
    "MaxScanTime": "20000",
    "AlertExceedsMax": "yes",
    "AlertEncrypted": "yes",
}
_ANSWER_SECONDS = 5.0


def clamd_server(
    directory: Path, temporary_directory: Path, signatures: dict[str, str], **settings: str
) -> LocalServer:
    """A clamd in this directory, not started, on the socket ``clamd.sock`` there.

    ``signatures`` are database files by name; ``settings`` replace those of SETTINGS. It runs as the caller:
    its temporary files lie in a directory that is the caller's alone. Raises ``DevstackError``.
    """
    program = find_clamd()
    database = directory / "database"
    database.mkdir(parents=True, exist_ok=True)
    for name, text in signatures.items():
        (database / name).write_text(text)
    address = directory / "clamd.sock"
    lines = {
        **SETTINGS,
        "DatabaseDirectory": str(database),
        "TemporaryDirectory": str(temporary_directory),
        "LocalSocket": str(address),
        **settings,
    }
    configuration = directory / "clamd.conf"
    configuration.write_text("".join(f"{name} {value}\n" for name, value in lines.items()))
    return LocalServer(
        name="clamd",
        directory=directory,
        command=[str(program), "--config-file", str(configuration)],
        answers=partial(_answers, address),
        environment=handed_on(),
    )


def _answers(address: Path) -> bool:
    with socket.socket(socket.AF_UNIX) as connection:
        connection.settimeout(_ANSWER_SECONDS)
        try:
            connection.connect(str(address))
            connection.sendall(b"zPING\0")
            return connection.recv(16) == b"PONG\0"
        except OSError:
            return False
