"""A real clamd behind the whole engine: nothing that it did not look through ends clean, nothing stays."""

import asyncio
import os
import re
import shutil
import socket
import tempfile
import time
from collections.abc import AsyncIterator, Iterator
from email.message import EmailMessage
from pathlib import Path

import pytest

from connectors import clamav
from connectors.clamav import BLOCK_BYTES, ClamdConfig, ClamdScanner
from connectors.clamav_check import EICAR
from connectors.errors import ConfigurationError, ScannerUnavailableError
from devstack.clamd import clamd_server
from devstack.servers import LocalServer
from schemas.outcomes import Outcome, Scan
from streams import scanning
from streams.ephemeral import AttachmentResult, EngineConfig, EphemeralAttachmentHandler
from streams.extractors.limits import MEBIBYTE
from streams.parser_pool import PoolConfig
from streams.reaper import reap
from tests.files import archive

SIGNATURES = {"test.ndb": f"Eicar-Test:0:*:{EICAR.hex()}\n"}
NAME = "Eicar-Test.UNOFFICIAL"
LARGEST = 50 * MEBIBYTE
SENTENCE = b"the quay wall leans seven millimetres"


@pytest.fixture(scope="module")
def directory() -> Iterator[Path]:
    path = Path(tempfile.mkdtemp(prefix="mailstream-test-", dir="/dev/shm"))
    yield path
    shutil.rmtree(path)


@pytest.fixture(scope="module")
def server(directory: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalServer]:
    server = clamd_server(tmp_path_factory.mktemp("clamd"), directory, SIGNATURES)
    server.start()
    server.wait_until_ready()
    yield server
    server.stop()


@pytest.fixture
def running(server: LocalServer) -> LocalServer:
    """clamd, whatever the test before did to it."""
    server.start()
    server.wait_until_ready()
    return server


def scanner(server: LocalServer, directory: Path, **changes: object) -> ClamdScanner:
    config = {
        "address": f"unix:{server.directory}/clamd.sock",
        "largest_bytes": LARGEST,
        "temporary_directory": directory,
        **changes,
    }
    return ClamdScanner(ClamdConfig(**config))  # type: ignore[arg-type]


@pytest.fixture
async def engine(running: LocalServer, directory: Path) -> AsyncIterator[EphemeralAttachmentHandler]:
    config = EngineConfig(scan_seconds=20.0)
    pool = PoolConfig(directory, processes=1)
    async with EphemeralAttachmentHandler(pool, config, scanner(running, directory)) as handler:
        yield handler


def encrypted(payload: bytes) -> bytes:
    data = bytearray(archive(("secret.txt", payload)))
    data[6] |= 1
    data[data.index(b"PK\1\2") + 8] |= 1
    return bytes(data)


def mail(*attachments: bytes) -> bytes:
    message = EmailMessage()
    message["Subject"], message["From"] = "Quay", "ada@example.com"
    message.set_content(SENTENCE.decode())
    for payload in attachments:
        message.add_attachment(payload, maintype="application", subtype="zip", filename="all.zip")
    return message.as_bytes()


def nested(levels: int, payload: bytes) -> bytes:
    for _ in range(levels):
        payload = archive(("next.zip", payload))
    return payload


async def blocks(payload: bytes) -> AsyncIterator[bytes]:
    for start in range(0, len(payload), MEBIBYTE):
        yield payload[start : start + MEBIBYTE]


def assert_blocked(result: AttachmentResult, scan: Scan, signature: str | None) -> None:
    assert (result.outcome, result.scan, result.signature) == (Outcome.BLOCKED, scan, signature)
    assert not result.segments and not result.children, "it was read"
    assert result.metadata.sha256 is not None


async def test_what_is_infected_is_named_and_not_read(engine: EphemeralAttachmentHandler) -> None:
    filler = os.urandom(15 * MEBIBYTE)
    for payload in (
        EICAR,
        mail(archive(("readme.com", EICAR))),
        mail(encrypted(SENTENCE), archive(("readme.com", EICAR))),
        filler + EICAR + filler,
        archive(("huge", bytes(70 * MEBIBYTE) + EICAR)),
    ):
        result = await engine.process_attachment(blocks(payload), "text/plain", filename="a")
        assert_blocked(result, Scan.INFECTED, NAME)


async def test_what_is_harmless_is_clean_and_read(engine: EphemeralAttachmentHandler) -> None:
    plain = await engine.process_attachment(SENTENCE, "text/plain")
    empty = await engine.process_attachment(b"", "text/plain")
    held = await engine.process_attachment(mail(archive(("a.txt", SENTENCE))), "message/rfc822")
    assert (plain.outcome, plain.scan, plain.text) == (Outcome.TEXT, Scan.CLEAN, SENTENCE.decode())
    assert (empty.outcome, empty.scan) == (Outcome.EMPTY, Scan.CLEAN)
    assert {item.scan for item in held.walk()} == {Scan.CLEAN}


@pytest.mark.parametrize(
    ("payload", "signature"),
    [
        (nested(30, SENTENCE), "Heuristics.Limits.Exceeded.MaxRecursion"),
        (nested(30, EICAR), "Heuristics.Limits.Exceeded.MaxRecursion"),
        (archive(("bomb", os.urandom(16) + bytes(230 * MEBIBYTE))), "Heuristics.Limits.Exceeded.MaxScanSize"),
        (encrypted(SENTENCE), "Heuristics.Encrypted.Zip"),
        (mail(encrypted(SENTENCE)), "Heuristics.Encrypted.Zip"),
    ],
    ids=["deep", "deep infected", "large", "encrypted", "encrypted in a mail"],
)
async def test_what_was_not_looked_through_is_not_clean(
    engine: EphemeralAttachmentHandler, payload: bytes, signature: str
) -> None:
    result = await engine.process_attachment(payload, "application/zip")
    assert_blocked(result, Scan.UNSCANNED, signature)


async def test_open_reads_what_has_no_verdict_but_nothing_infected(
    running: LocalServer, directory: Path
) -> None:
    config = EngineConfig(block_unscanned=False)
    pool = PoolConfig(directory, processes=1)
    async with EphemeralAttachmentHandler(pool, config, scanner(running, directory)) as handler:
        deep = await handler.process_attachment(mail(nested(30, SENTENCE)), "message/rfc822")
        assert (deep.outcome, deep.scan) == (Outcome.TEXT, Scan.UNSCANNED)
        assert SENTENCE.decode() in deep.text
        assert_blocked(await handler.process_attachment(EICAR, None), Scan.INFECTED, NAME)
        running.kill()
        away = await handler.process_attachment(SENTENCE, "text/plain")
        assert (away.outcome, away.scan) == (Outcome.TEXT, Scan.UNSCANNED)


class _Held:
    """A stream to clamd that waits half-way until it is told to go on."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.arrived, self.go_on = asyncio.Event(), asyncio.Event()
        send, sent = clamav._send, 0

        async def slowly(connection: socket.socket, *blocks: bytes | memoryview) -> bool:
            nonlocal sent
            taken = await send(connection, *blocks)
            sent += 1
            if sent == 15 * MEBIBYTE // BLOCK_BYTES:
                self.arrived.set()
                await self.go_on.wait()
            return taken

        monkeypatch.setattr(clamav, "_send", slowly)


async def test_clamd_killed_with_a_stream_in_flight(
    engine: EphemeralAttachmentHandler,
    running: LocalServer,
    directory: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """It leaves its file, which goes with the reaper's round; the attachment waits, and is read later."""
    payload = b"marker-of-clamd-killed" + bytes(30 * MEBIBYTE)
    assert (await engine.process_attachment(SENTENCE, "text/plain")).scan is Scan.CLEAN
    held = _Held(monkeypatch)
    work = asyncio.create_task(engine.process_attachment(payload, "application/octet-stream"))
    await held.arrived.wait()
    running.kill()
    held.go_on.set()
    with pytest.raises(ScannerUnavailableError):
        await work
    left = list(directory.glob("clamav-*"))  # and that of the sentence, if clamd had not come to remove it
    assert any(path.stat().st_size > MEBIBYTE for path in left), "nothing was left, so nothing was shown"
    for path in left:
        os.utime(path, (time.time() - 31,) * 2)
    assert reap(directory).removed == len(left)
    assert list(directory.rglob("clamav-*")) == []
    running.start()
    running.wait_until_ready()
    result = await engine.process_attachment(payload, "application/octet-stream")
    assert (result.outcome, result.scan) == (Outcome.UNSUPPORTED, Scan.CLEAN)


async def test_clamd_stopped_with_a_stream_in_flight(
    running: LocalServer, directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It hangs without an answer: no verdict, and none is made up; when it goes on, so do we."""
    config = EngineConfig(scan_seconds=2.0)
    pool = PoolConfig(directory, processes=1)
    async with EphemeralAttachmentHandler(pool, config, scanner(running, directory)) as engine:
        assert (await engine.process_attachment(SENTENCE, "text/plain")).scan is Scan.CLEAN
        held = _Held(monkeypatch)
        work = asyncio.create_task(engine.process_attachment(bytes(30 * MEBIBYTE), None))
        await held.arrived.wait()
        running.pause()
        try:
            held.go_on.set()
            with pytest.raises(ScannerUnavailableError):
                await work
            with pytest.raises(ScannerUnavailableError):
                await engine.require_scanner()
        finally:
            running.resume()
        await engine.require_scanner()
        assert (await engine.process_attachment(SENTENCE, "text/plain")).scan is Scan.CLEAN


async def test_a_scan_that_stands_still_is_tried_again(
    running: LocalServer, directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # A busy machine takes seconds for the second try; beyond the patience the attachment would be deferred.
    monkeypatch.setattr(scanning, "PATIENCE_SECONDS", 60.0)
    config = EngineConfig(scan_seconds=5.0)
    pool = PoolConfig(directory, processes=1)
    async with EphemeralAttachmentHandler(pool, config, scanner(running, directory)) as engine:
        held = _Held(monkeypatch)
        result = await engine.process_attachment(os.urandom(16 * MEBIBYTE), None)
        assert held.arrived.is_set()
        assert (result.outcome, result.scan) == (Outcome.UNSUPPORTED, Scan.CLEAN)


async def test_a_document_that_always_takes_too_long_costs_itself_only(
    running: LocalServer, directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # On a busy machine three tries take longer than a scanner that is away would be waited for.
    monkeypatch.setattr(scanning, "PATIENCE_SECONDS", 60.0)
    config = EngineConfig(scan_seconds=0.02)
    pool = PoolConfig(directory, processes=1)
    async with EphemeralAttachmentHandler(pool, config, scanner(running, directory)) as engine:
        assert_blocked(await engine.process_attachment(os.urandom(20 * MEBIBYTE), None), Scan.UNSCANNED, None)


async def test_version_is_engine_and_database(running: LocalServer, directory: Path) -> None:
    # The database of this test is not one of ClamAV's: it has no number.
    assert re.fullmatch(r"ClamAV \d+\.\d+\.\d+(/\d+)?", await scanner(running, directory).version())


@pytest.mark.parametrize(
    ("changes", "line"),
    [
        ({"StreamMaxLength": "25M"}, "StreamMaxLength above 50M"),
        ({"MaxFileSize": "25M"}, "MaxFileSize above 50M"),
        ({"MaxFileSize": "60M"}, "MaxFileSize to what MaxScanSize is"),
        ({"MaxScanSize": "25M"}, "MaxScanSize"),
        ({"AlertExceedsMax": "no"}, "AlertExceedsMax yes"),
        ({"AlertEncrypted": "no"}, "AlertEncrypted yes"),
        ({"AlertEncrypted": "no", "AlertEncryptedArchive": "yes"}, "AlertEncrypted yes"),
        ({"TemporaryDirectory": "/var/tmp"}, "TemporaryDirectory /dev/shm"),
    ],
)
async def test_a_careless_clamd_is_refused_with_the_line_to_set(
    tmp_path: Path, directory: Path, changes: dict[str, str], line: str
) -> None:
    """Asked by probes alone, and again by its file."""
    server = clamd_server(tmp_path, directory, SIGNATURES, **changes)
    server.start()
    try:
        server.wait_until_ready()
        with pytest.raises(ConfigurationError, match=line):
            await scanner(server, directory).check()
        with pytest.raises(ConfigurationError, match=line):
            await scanner(server, directory, configuration_file=tmp_path / "clamd.conf").check()
    finally:
        server.stop()


async def test_a_clamd_without_signatures_is_refused(tmp_path: Path, directory: Path) -> None:
    server = clamd_server(tmp_path, directory, {"other.ndb": "Other:0:*:deadbeefdeadbeef\n"})
    server.start()
    try:
        server.wait_until_ready()
        with pytest.raises(ConfigurationError, match="signature database"):
            await scanner(server, directory).check()
    finally:
        server.stop()
