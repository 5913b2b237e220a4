"""A real PostgreSQL for a test, of the system's package, in a directory of its own."""

import os
import pwd
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from devstack.local import HOST, free_ports
from devstack.programs import DevstackError


@contextmanager
def postgres() -> Iterator[str]:
    """Its address. It refuses to be run by root: then another user runs it."""
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/pg_ctl"))
    if not found:
        raise DevstackError("there is no PostgreSQL: install the package postgresql")
    programs = found[-1].parent
    directory = Path(tempfile.mkdtemp(prefix="mailstream-postgres-", dir="/tmp"))
    [port] = free_ports(1)
    who: dict[str, object] = {}
    if os.getuid() == 0:
        nobody = pwd.getpwnam("nobody")
        os.chown(directory, nobody.pw_uid, nobody.pw_gid)
        who = {"user": nobody.pw_uid, "group": nobody.pw_gid, "extra_groups": []}
    options = f"-p {port} -h {HOST} -k {directory} -F"

    def call(*command: str) -> None:
        done = subprocess.run(command, capture_output=True, text=True, timeout=60, cwd=directory, **who)  # type: ignore[call-overload]
        assert done.returncode == 0, done.stderr + done.stdout

    data = str(directory / "data")
    try:
        call(str(programs / "initdb"), "-D", data, "-U", "fetcher", "-A", "trust", "-E", "UTF8", "--no-sync")
        call(str(programs / "pg_ctl"), "-D", data, "-o", options, "-w", "-l", str(directory / "log"), "start")
        try:
            yield f"postgresql://fetcher@{HOST}:{port}/postgres"
        finally:
            call(str(programs / "pg_ctl"), "-D", data, "-m", "immediate", "stop")
    finally:
        shutil.rmtree(directory, ignore_errors=True)
