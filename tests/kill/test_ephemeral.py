"""SIGKILL with attachments in flight: no byte of them stays on a disk, in Kafka, or in Elasticsearch."""

import asyncio
import base64
import os
import random
import secrets
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from cli.forks import Fork
from cli.pipeline import Pipeline
from connectors.elasticsearch import Index
from devstack.stack import Stack
from schemas import topics
from schemas.events import DeadLetter
from streams.reaper import reap
from tests.attachments_worker import MAKERS, size_of
from tests.leaks import disk_files, holding, needles, open_on_disk, payloads_in_flight
from tests.pipelines import dead_letters, pipeline, settle
from tests.processes import descendants, wait_until_gone
from tests.records import read_all

pytestmark = pytest.mark.timeout(3_600)

# ``make test-full`` asks for 180 and 20.
KILLS = int(os.environ.get("KILLS", "3"))
PIPELINE_KILLS = int(os.environ.get("PIPELINE_KILLS", "1"))
EVERYWHERE = KILLS > 50
START_SECONDS = 120.0
REAPED_AFTER_SECONDS = 1.0
REAPER_ROUNDS = 10


@pytest.fixture
def ephemeral() -> Iterator[Path]:
    """A directory in memory, as a worker has it."""
    directory = Path(tempfile.mkdtemp(prefix="mailstream-test-", dir="/dev/shm"))
    yield directory
    shutil.rmtree(directory, ignore_errors=True)


def _stop_and_look(worker: subprocess.Popen[bytes] | Fork, wanted: tuple[bytes, ...]) -> int:
    """Freeze the worker, look what it and its parsers hold, and kill it; how many attachments that hit."""
    worker.send_signal(signal.SIGSTOP)
    family = [worker.pid, *descendants(worker.pid)]
    hit = len(payloads_in_flight(worker.pid))
    assert holding(open_on_disk(family), wanted) == []
    worker.kill()
    worker.wait()
    wait_until_gone(*family[1:])
    return hit


def _assert_nothing_is_left(ephemeral: Path) -> None:
    """No file at all where parsers have file systems of their own; and nothing after the reaper's rounds, of
    which the last parser of a killed worker may outlive one."""
    assert [path for path in ephemeral.rglob("*") if not path.is_dir()] == []
    for _ in range(REAPER_ROUNDS):
        time.sleep(REAPED_AFTER_SECONDS)
        reap(ephemeral, REAPED_AFTER_SECONDS)
        if not list(ephemeral.iterdir()):
            return
    assert list(ephemeral.iterdir()) == []


def test_a_leak_would_be_found(tmp_path: Path) -> None:
    marker, started = secrets.token_bytes(32), time.time()
    wanted = needles(marker)
    for number, left in enumerate((marker, base64.b64encode(b"x" + marker), marker.hex().encode())):
        (tmp_path / str(number)).write_bytes(bytes(5 << 20) + left)
    (tmp_path / "harmless").write_bytes(secrets.token_bytes(100))
    found = holding(disk_files(started, tmp_path), wanted)
    assert [Path(path).name for path in found] == ["0", "1", "2"]
    with tempfile.TemporaryFile() as nameless, tempfile.TemporaryFile(dir="/dev/shm") as in_memory:
        for file in (nameless, in_memory):
            file.write(marker)
            file.flush()
        assert holding(open_on_disk([os.getpid()]), wanted) == [f"/proc/{os.getpid()}/fd/{nameless.fileno()}"]


def test_no_kill_leaves_a_byte(ephemeral: Path, tmp_path: Path) -> None:
    marker, source = secrets.token_bytes(32), random.Random(5)
    wanted, started = needles(marker), time.time()
    hit = 0
    for seed in range(KILLS):
        worker = subprocess.Popen(
            [sys.executable, "-m", "tests.attachments_worker", str(ephemeral), str(seed), marker.hex()],
            stdout=subprocess.PIPE,
            env={**os.environ, "TMPDIR": str(tmp_path), "PYTHONDONTWRITEBYTECODE": "1"},
        )
        assert worker.stdout is not None
        assert worker.stdout.readline() == b"begin\n"
        time.sleep(source.uniform(0, 1.5))
        assert worker.poll() is None, "the worker ended by itself"
        hit += _stop_and_look(worker, wanted) > 0
        worker.stdout.close()
    assert hit >= KILLS * 0.6, f"only {hit} of {KILLS} kills hit an attachment in flight"
    _assert_nothing_is_left(ephemeral)
    assert holding(disk_files(started, tmp_path, everywhere=EVERYWHERE), wanted) == []


def _mail(path: Path, count: int, marker: bytes) -> None:
    """Mails with large attachments that are full of the marker."""
    source = random.Random(3)
    with path.open("wb") as file:
        for number in range(count):
            name = list(MAKERS)[number % len(MAKERS)]
            body = base64.encodebytes(MAKERS[name](min(size_of(source), 20 << 20), marker))
            file.write(
                b"From MAILER-DAEMON Thu Jan  1 00:00:00 2026\nSubject: %d\nMessage-ID: <%d@example.com>\n"
                b"Content-Type: application/octet-stream; name=%s\nContent-Transfer-Encoding: base64\n\n"
                % (number, number, name.encode())
            )
            file.write(body + b"\n")


def test_no_kill_of_the_extract_worker_leaves_a_byte(ephemeral: Path, stack: Stack, tmp_path: Path) -> None:
    marker = secrets.token_bytes(32)
    wanted, started = needles(marker), time.time()
    input_directory, run = tmp_path / "input", tmp_path / "run"
    for directory in (input_directory, run):
        directory.mkdir()
    mails = PIPELINE_KILLS * 4
    _mail(input_directory / "large.mbox", mails, marker)
    also = {"EPHEMERAL_DIRECTORY": str(ephemeral), "TMPDIR": str(run)}
    with pipeline(input_directory / "large.mbox", run, stack=stack, also=also) as running:
        running.start("source", "index")
        hit = sum(_kill_extract(running, wanted) for _ in range(PIPELINE_KILLS))
        assert hit >= PIPELINE_KILLS * 0.6, f"only {hit} kills hit an attachment in flight"
        running.start()
        status = settle(running)
        # On a busy machine the kills come to the same mails again; what three workers died on is given up.
        given_up = [DeadLetter.decode(value) for value in dead_letters(running)]
        assert {letter.error_class for letter in given_up} <= {"worker_killed"}
        assert mails - len(given_up) <= status.messages <= mails
        ours = [process.pid for name, process in running.processes.items() if name != "gmail"]
        servers = [pid for pid in (stack.kafka.pid, stack.elasticsearch.pid) if pid is not None]
        family = [pid for parent in (*ours, *servers) for pid in (parent, *descendants(parent))]
        assert len(family) >= 6
        assert holding(open_on_disk(family), wanted) == []
        changed = (path for path in disk_files(started, run) if input_directory not in path.parents)
        assert holding(changed, wanted) == []
        # What the servers store is compressed: it is read as they give it.
        assert asyncio.run(_stored(running, wanted)) == []
    _assert_nothing_is_left(ephemeral)


def _kill_extract(running: Pipeline, wanted: tuple[bytes, ...]) -> int:
    running.start("extract")
    worker = running.processes["extract"]
    _wait_for_a_payload(worker.pid)
    time.sleep(random.Random(worker.pid).uniform(0, 0.3))
    _wait_for_a_payload(worker.pid)
    return _stop_and_look(worker, wanted) > 0


def _wait_for_a_payload(pid: int) -> None:
    """Return when an attachment is in flight; between two there is the time of a fetch."""
    deadline = time.monotonic() + START_SECONDS
    while not payloads_in_flight(pid) and time.monotonic() < deadline:
        time.sleep(0.002)


async def _stored(running: Pipeline, wanted: tuple[bytes, ...]) -> list[str]:
    found: list[str] = []
    seen: dict[str, int] = {}
    for topic in topics.ALL:
        for key, value in await read_all(running.kafka_bootstrap, topic.name):
            seen[topic.name] = seen.get(topic.name, 0) + 1
            found += [f"{topic.name} {key}"] * _in(f"{key}".encode() + (value or b""), wanted)
    assert seen[topics.DOCUMENTS.name] > 0
    async with Index.open(running.elasticsearch_url) as index:
        documents: list[dict[str, Any]] = [hit async for hit in index.scan({"match_all": {}}, ["*"])]
    assert documents
    return found + [hit["_id"] for hit in documents if _in(repr(hit).encode(), wanted)]


def _in(data: bytes, wanted: tuple[bytes, ...]) -> bool:
    return any(needle in data for needle in wanted)
