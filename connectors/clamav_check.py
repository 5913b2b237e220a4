"""Whether a clamd may be believed: its answers to content that is known, and its configuration file.

clamd tells its settings to nobody. What they do is asked by probes, of the clamd that really runs; how long
it scans, and where a clamd on another machine keeps its files, stands in its configuration file alone.
"""

from __future__ import annotations

import io
import logging
import os
import re
import struct
import zipfile
import zlib
from collections.abc import Awaitable, Callable, Iterable, Iterator
from pathlib import Path

from connectors.errors import ConfigurationError, ScannerFullError

log = logging.getLogger(__name__)

MEBIBYTE = 1024 * 1024
MAX_SCAN_SECONDS = 20
# An archive that is deeper, or unpacks to more, is beyond the limits of any clamd that is set with care.
DEEP, LARGE_ENTRY_BYTES = 101, 1024 * MEBIBYTE
# In halves, so that this file is not taken for what it asks about.
EICAR = b"X5O!P%@AP[4\\PZX54(P^)7CC)7}$" + b"EICAR-STANDARD-ANTIVIRUS-TEST-FILE!$H+H*"
_UNITS = {"": 1, "K": 1024, "M": MEBIBYTE, "G": 1024 * MEBIBYTE}
# What clamd takes for a setting that its file does not name.
_DEFAULTS = {
    "StreamMaxLength": "100M",
    "MaxFileSize": "100M",
    "MaxScanSize": "400M",
    "MaxScanTime": "120000",
    "AlertExceedsMax": "no",
    "AlertEncrypted": "no",
    "TemporaryDirectory": os.environ.get("TMPDIR", "/tmp"),  # noqa: S108 - clamd's default, refused below
}

Stream = Callable[[Iterable[bytes]], Awaitable[str]]


async def check_answers(stream: Stream, largest_bytes: int, directory: Path | None) -> None:
    """Ask about what a clamd set up carelessly calls clean. With a ``directory`` its temporary file must be
    seen there. Raises ConfigurationError, ScannerFullError where clamd has no room for what is asked (the
    largest probe takes all that MaxFileSize allows), and what ``stream`` raises."""
    # Bytes that no clamd has seen: what it knows to be clean, it does not look at again.
    new = os.urandom(16)
    found = "FOUND"
    await _ask(stream, [EICAR], found, "does not know EICAR: give it a signature database (freshclam)")
    deep = new
    for _ in range(DEEP):
        deep = _zip(deep)
    await _ask(stream, [deep], found, "set AlertExceedsMax yes: clamd calls clean what exceeds its limits")
    for sealed in (_encrypted_zip(new), _encrypted_pdf()):
        await _ask(
            stream, [sealed], "Encrypted", "set AlertEncrypted yes: clamd calls clean what it cannot open"
        )
    spied = _Spied(new, largest_bytes, directory)
    answer = await _answer(stream, spied)
    for words, name in (("INSTREAM size", "StreamMaxLength"), ("MaxFileSize", "MaxFileSize")):
        if words in answer:
            raise ConfigurationError(f"clamd.conf: set {name} above {largest_bytes // MEBIBYTE}M")
    if "OK" not in answer:
        raise ConfigurationError(f"clamd.conf: raise the limits, for zeros clamd says: {answer[:100]}")
    if directory is not None and not spied.seen:
        raise ConfigurationError(f"clamd.conf: set TemporaryDirectory {directory}")
    # The entry of a zip is cut at MaxFileSize without a word; what goes beyond MaxScanSize is reported.
    await _ask(stream, _large_zip(new), found, "set MaxFileSize to what MaxScanSize is, and both below 1G")


async def _ask(stream: Stream, blocks: Iterable[bytes], expected: str, complaint: str) -> None:
    answer = await _answer(stream, blocks)
    if expected not in answer:
        log.error("clamd answered a probe with: %s", answer[:200])
        raise ConfigurationError(f"clamd.conf: {complaint}")


async def _answer(stream: Stream, blocks: Iterable[bytes]) -> str:
    answer = await stream(blocks)
    if "Error writing" in answer or "Can't " in answer:
        # A full directory says nothing of how it is set up.
        raise ScannerFullError(f"clamd has no room for a probe: {answer[:200]}")
    return answer


class _Spied:
    """Zeros of a length, and a look at the directory on the way: clamd writes down what comes."""

    def __init__(self, head: bytes, size_bytes: int, directory: Path | None) -> None:
        self._head, self._size_bytes, self._directory = head, size_bytes, directory
        self.seen = False

    def __iter__(self) -> Iterator[bytes]:
        yield self._head
        sent = len(self._head)
        while sent < self._size_bytes:
            block = bytes(min(MEBIBYTE, self._size_bytes - sent))
            sent += len(block)
            yield block
            self.seen = self.seen or (self._directory is not None and any(self._directory.glob("clamav-*")))


def check_configuration(file: Path, largest_bytes: int, directory: Path) -> None:
    """What clamd's configuration file says. Raises ConfigurationError that names the line to set."""
    try:
        lines = file.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigurationError(f"CLAMD_CONFIG cannot be read: {error}") from error
    words = [line.split(None, 1) for line in lines if line.strip() and not line.startswith("#")]
    values = _DEFAULTS | {line[0]: line[1].strip() for line in words if len(line) == 2}
    for name in ("StreamMaxLength", "MaxFileSize", "MaxScanSize"):
        if _bytes(values[name]) < largest_bytes:
            raise ConfigurationError(f"{file}: set {name} above {largest_bytes // MEBIBYTE}M")
    if _bytes(values["MaxFileSize"]) < _bytes(values["MaxScanSize"]):
        raise ConfigurationError(f"{file}: set MaxFileSize to what MaxScanSize is: {values['MaxScanSize']}")
    milliseconds = int(values["MaxScanTime"]) if values["MaxScanTime"].isdecimal() else 0
    if not 0 < milliseconds <= MAX_SCAN_SECONDS * 1000:
        raise ConfigurationError(f"{file}: set MaxScanTime {MAX_SCAN_SECONDS * 1000}")
    for name in ("AlertExceedsMax", "AlertEncrypted"):
        if values[name].lower() not in ("yes", "true", "1"):
            raise ConfigurationError(f"{file}: set {name} yes")
    if Path(values["TemporaryDirectory"]).resolve() != directory.resolve():
        raise ConfigurationError(f"{file}: set TemporaryDirectory {directory}")


def _bytes(value: str) -> int:
    """A size as clamd reads it; 0 means no limit."""
    match = re.fullmatch(r"(\d+)([KMG]?)", value.upper())
    if match is None:
        raise ConfigurationError(f"clamd.conf: {value} is no size")
    return int(match[1]) * _UNITS[match[2]] or 2**63


def _zip(payload: bytes) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("probe", payload)
    return file.getvalue()


def _encrypted_zip(payload: bytes) -> bytes:
    """A zip that says of its entry that it is encrypted, which is as far as clamd can see."""
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("probe", payload + bytes(12))
    data = bytearray(file.getvalue())
    for header, flags in ((b"PK\3\4", 6), (b"PK\1\2", 8)):
        data[data.index(header) + flags] |= 1
    return bytes(data)


def _encrypted_pdf() -> bytes:
    """The least PDF that bears a password: nothing in it can be read without one."""
    key = "00" * 32
    objects = (
        "%PDF-1.4\n1 0 obj\n<</Type/Catalog/Pages 2 0 R>>\nendobj\n2 0 obj\n<</Type/Pages/Kids[]/Count 0>>\n"
        f"endobj\n3 0 obj\n<</Filter/Standard/V 1/R 2/O<{key}>/U<{key}>/P -4>>\nendobj\n"
    )
    trailer = "xref\n0 1\n0000000000 65535 f \ntrailer\n<</Root 1 0 R/Encrypt 3 0 R/Size 4>>\n"
    return f"{objects}{trailer}startxref\n{len(objects)}\n%%EOF\n".encode()


def _large_zip(head: bytes) -> Iterator[bytes]:
    """A zip whose one entry unpacks to LARGE_ENTRY_BYTES: zeros, packed once and repeated."""
    packer = zlib.compressobj(9, zlib.DEFLATED, -15)
    first = packer.compress(head + bytes(MEBIBYTE - len(head))) + packer.flush(zlib.Z_FULL_FLUSH)
    block = packer.compress(bytes(MEBIBYTE)) + packer.flush(zlib.Z_FULL_FLUSH)
    packed = first + block * (LARGE_ENTRY_BYTES // MEBIBYTE - 1) + packer.flush()
    # version, flags, method, time, date, checksum (nobody gets that far), sizes, length of the name
    about = struct.pack("<5H3I2H", 20, 0, 8, 0, 0, 0, len(packed), LARGE_ENTRY_BYTES, 1, 0)
    listed = b"PK\1\2" + struct.pack("<H", 20) + about + struct.pack("<3H2I", 0, 0, 0, 0, 0) + b"x"
    starts_at = 4 + len(about) + 1 + len(packed)
    yield b"PK\3\4" + about + b"x"
    yield packed
    yield listed + b"PK\5\6" + struct.pack("<4H2IH", 0, 0, 1, 1, len(listed), starts_at, 0)
