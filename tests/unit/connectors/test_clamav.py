"""What clamd's words mean, and what its configuration file must say; the real one is in tests/services."""

import asyncio
import struct
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from connectors.clamav import ClamdConfig, ClamdScanner
from connectors.clamav_check import check_configuration
from connectors.errors import (
    ConfigurationError,
    ScannerDroppedError,
    ScannerFullError,
    ScannerUnavailableError,
)
from schemas.outcomes import Scan, ScanVerdict

LARGEST = 50 * 1024 * 1024
EXAMPLE = Path(__file__).parents[3] / "scripts" / "clamd.conf"


@asynccontextmanager
async def says(path: Path, answer: bytes, after_bytes: int | None = None) -> AsyncIterator[ClamdScanner]:
    """A server that reads a stream to its end, or only so many bytes, says something, and hangs up."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if await reader.readuntil(b"\0") == b"zINSTREAM\0":
            received = 0
            while after_bytes is None or received < after_bytes:
                [length] = struct.unpack("!I", await reader.readexactly(4))
                if not length:
                    break
                received += len(await reader.readexactly(length))
        writer.write(answer)
        writer.close()

    async with await asyncio.start_unix_server(serve, path / "socket"):
        yield ClamdScanner(ClamdConfig(f"unix:{path}/socket", LARGEST, path))


@pytest.mark.parametrize(
    ("answer", "verdict"),
    [
        (b"stream: OK\0", ScanVerdict(Scan.CLEAN)),
        (b"stream: Win.Test.EICAR_HDB-1 FOUND\0", ScanVerdict(Scan.INFECTED, "Win.Test.EICAR_HDB-1")),
        (
            b"stream: Heuristics.Phishing.Email FOUND\0",
            ScanVerdict(Scan.INFECTED, "Heuristics.Phishing.Email"),
        ),
        (
            b"stream: Heuristics.Limits.Exceeded.MaxFiles FOUND\0",
            ScanVerdict(Scan.UNSCANNED, "Heuristics.Limits.Exceeded.MaxFiles"),
        ),
        (
            b"stream: Heuristics.Encrypted.PDF FOUND\0",
            ScanVerdict(Scan.UNSCANNED, "Heuristics.Encrypted.PDF"),
        ),
        (b"stream: Malformed database ERROR\0", ScanVerdict(Scan.UNSCANNED)),
        (b"stream: Can't allocate memory ERROR\0", ScannerFullError),
        (b"stream: Can't write to file ERROR\0", ScannerFullError),
        (b"Error writing to temporary file ERROR\0stream: OK\0", ScannerUnavailableError),
        (b"INSTREAM size limit exceeded. ERROR\0", ScanVerdict(Scan.UNSCANNED)),
        (b"INSTREAM: Can't write to temporary file. ERROR\0", ScannerUnavailableError),
        (b"UNKNOWN COMMAND\0", ScannerUnavailableError),
        (b"stream: OK", ScannerDroppedError),
        (b"", ScannerDroppedError),
        (b"x" * 200_000, ScannerDroppedError),
    ],
)
async def test_only_ok_is_clean(tmp_path: Path, answer: bytes, verdict: ScanVerdict | type) -> None:
    async with says(tmp_path, answer) as scanner:
        if isinstance(verdict, ScanVerdict):
            assert await scanner.scan(memoryview(bytes(1_000_000))) == verdict
        else:
            with pytest.raises(verdict):
                await scanner.scan(memoryview(b"x"))


async def test_an_answer_before_the_end_of_the_stream_counts(tmp_path: Path) -> None:
    async with says(tmp_path, b"INSTREAM size limit exceeded. ERROR\0", after_bytes=300_000) as scanner:
        assert await scanner.scan(memoryview(bytes(20_000_000))) == ScanVerdict(Scan.UNSCANNED)


async def test_one_that_hangs_up_leaves_the_payload_alone(tmp_path: Path) -> None:
    payload = bytearray(20_000_000)
    async with says(tmp_path, b"", after_bytes=300_000) as scanner:
        with pytest.raises(ScannerDroppedError) as caught:
            with memoryview(payload) as view:
                await scanner.scan(view)
    payload.clear()  # refused while anybody looks at it, a traceback included
    assert caught.value.__traceback__ is not None


async def test_version_leaves_out_the_date(tmp_path: Path) -> None:
    async with says(tmp_path, b"ClamAV 1.4.3/27500/Thu Jan  1 08:00:00 2026\0") as scanner:
        assert await scanner.version() == "ClamAV 1.4.3/27500"
    with pytest.raises(ScannerUnavailableError, match="does not answer at unix:"):
        await scanner.version()


@pytest.mark.parametrize("address", ["", "host", "host:", ":3310", "host:port", "/run/clamd.sock"])
def test_an_address_that_is_none_is_one_clear_line(address: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="CLAMD_ADDRESS"):
        ClamdScanner(ClamdConfig(address, LARGEST, tmp_path))


def test_the_example_passes_its_own_check(tmp_path: Path) -> None:
    check_configuration(EXAMPLE, LARGEST, Path("/dev/shm/mailstream"))
    with pytest.raises(ConfigurationError, match="TemporaryDirectory"):
        check_configuration(EXAMPLE, LARGEST, tmp_path)
    with pytest.raises(ConfigurationError, match="CLAMD_CONFIG"):
        check_configuration(tmp_path / "none", LARGEST, tmp_path)


@pytest.mark.parametrize(
    ("line", "complaint"),
    [
        ("StreamMaxLength 25M", "StreamMaxLength above 50M"),
        ("MaxFileSize 25M", "MaxFileSize above 50M"),
        ("MaxFileSize 150M", "MaxFileSize to what MaxScanSize is"),
        ("MaxScanSize 0", "MaxFileSize to what MaxScanSize is"),
        ("MaxScanSize much", "no size"),
        ("MaxScanTime 120000", "MaxScanTime 20000"),
        ("MaxScanTime 0", "MaxScanTime 20000"),
        ("AlertExceedsMax no", "AlertExceedsMax yes"),
        ("AlertEncrypted no", "AlertEncrypted yes"),
        ("# AlertEncrypted yes", "AlertEncrypted yes"),
    ],
)
def test_each_line_that_matters_is_asked_for(tmp_path: Path, line: str, complaint: str) -> None:
    name = line.removeprefix("# ").split()[0]
    lines = [other for other in EXAMPLE.read_text().splitlines() if not other.startswith(name)]
    file = tmp_path / "clamd.conf"
    file.write_text("\n".join([*lines, line]))
    with pytest.raises(ConfigurationError, match=complaint):
        check_configuration(file, LARGEST, Path("/dev/shm/mailstream"))
