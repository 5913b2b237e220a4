"""Documents that were made to harm whoever reads them, as small as they can be written."""

import io
import random
import struct
import zipfile
import zlib
from collections.abc import Iterator
from functools import cache
from urllib.parse import quote

from tests.files import archive

MEBIBYTE = 1024 * 1024
GIBIBYTE = 1024 * MEBIBYTE
_ZEROS_BYTES = 64 * MEBIBYTE


@cache
def deflated_zeros(size_bytes: int) -> bytes:
    """A raw deflate stream of zeros: one compressed run of them, written again and again."""
    packer = zlib.compressobj(9, zlib.DEFLATED, -15)
    run = packer.compress(bytes(MEBIBYTE)) + packer.flush(zlib.Z_FULL_FLUSH)
    again = packer.compress(bytes(MEBIBYTE)) + packer.flush(zlib.Z_FULL_FLUSH)
    return run + again * (size_bytes // MEBIBYTE - 1) + packer.flush(zlib.Z_FINISH)


def gzip_of_zeros(size_bytes: int = 10 * GIBIBYTE) -> bytes:
    trailer = struct.pack("<II", 0, size_bytes % 2**32)
    return b"\x1f\x8b\x08\0\0\0\0\0\0\x03" + deflated_zeros(size_bytes) + trailer


def zip_of_zeros(declared_bytes: int) -> bytes:
    """One entry of 10 GiB, whatever it says."""
    return _zip([b"zeros.txt"], deflated_zeros(10 * GIBIBYTE), declared_bytes)


def overlapping_zip(entries: int = 900) -> bytes:
    """Entries that all share one run of compressed zeros."""
    return _zip([b"%d.txt" % number for number in range(entries)], deflated_zeros(_ZEROS_BYTES), _ZEROS_BYTES)


def _zip(names: list[bytes], packed: bytes, declared_bytes: int) -> bytes:
    # Without a check sum of its own an entry is read to its end before it is found out.
    numbers = (20, 0, 8, 0, 0x5A21, 0, len(packed), declared_bytes, len(names[0]), 0)
    local = b"PK\x03\x04" + struct.pack("<HHHHHIIIHH", *numbers) + names[0] + packed
    central = b""
    for name in names:
        central += b"PK\x01\x02\x14\0" + local[4:26] + struct.pack("<H", len(name)) + bytes(16) + name
    count = len(names)
    end = struct.pack("<HHHHIIH", 0, 0, count, count, len(central), len(local), 0)
    return local + central + b"PK\x05\x06" + end


def nested_zip(levels: int = 6, width: int = 10) -> bytes:
    """Zips of zips, ten a level: a million files of 64 MiB."""
    payload = _zip([b"0.txt"], deflated_zeros(_ZEROS_BYTES), _ZEROS_BYTES)
    for _ in range(levels):
        payload = archive(*((f"{number}.zip", payload) for number in range(width)))
    return payload


def _pdf(objects: list[bytes]) -> bytes:
    file = io.BytesIO(b"%PDF-1.4\n")
    file.seek(0, io.SEEK_END)
    places = []
    for number, content in enumerate(objects, start=1):
        places.append(file.tell())
        file.write(b"%d 0 obj\n%s\nendobj\n" % (number, content))
    start = file.tell()
    file.write(b"xref\n0 %d\n0000000000 65535 f \n" % (len(objects) + 1))
    file.writelines(b"%010d 00000 n \n" % place for place in places)
    file.write(b"trailer<</Size %d/Root 1 0 R>>\nstartxref\n%d\n%%%%EOF" % (len(objects) + 1, start))
    return file.getvalue()


def pdf_of_pages(pages: int = 1_000_000) -> bytes:
    """A page tree that lists one page again and again."""
    text = b"BT /F1 12 Tf 72 720 Td (the quay) Tj ET"
    return _pdf(
        [
            b"<</Type/Catalog/Pages 2 0 R>>",
            b"<</Type/Pages/Count %d/Kids[%s]>>" % (pages, b"3 0 R " * pages),
            b"<</Type/Page/Parent 2 0 R/MediaBox[0 0 612 792]/Contents 4 0 R"
            b"/Resources<</Font<</F1 5 0 R>>>>>>",
            b"<</Length %d>>stream\n%s\nendstream" % (len(text), text),
            b"<</Type/Font/Subtype/Type1/BaseFont/Helvetica>>",
        ]
    )


def pdf_with_a_loop() -> bytes:
    """A page tree that is its own branch."""
    return _pdf(
        [
            b"<</Type/Catalog/Pages 2 0 R>>",
            b"<</Type/Pages/Count 1000000/Kids[3 0 R]>>",
            b"<</Type/Pages/Count 1000000/Parent 2 0 R/Kids[2 0 R 3 0 R]>>",
        ]
    )


def _laughs(levels: int) -> str:
    """Entities, each ten of the one before; lol stands for the last."""
    entities = (
        f'<!ENTITY lol{n} "{f"&lol{n - 1};" * 10}">' if n else '<!ENTITY lol0 "laughter">'
        for n in range(levels)
    )
    return "".join((*entities, f'<!ENTITY lol "&lol{levels - 1};">'))


def laughing(document: bytes, part: str, levels: int) -> bytes:
    """An office file with the billion laughs (at ten levels) in one of its parts."""
    with zipfile.ZipFile(io.BytesIO(document)) as source:
        entries = [(name, source.read(name)) for name in source.namelist()]
    return archive(*((name, _laugh(xml, levels) if name == part else xml) for name, xml in entries))


def _laugh(xml: bytes, levels: int) -> bytes:
    text = xml.decode()
    head, body = text.split("?>", 1) if text.startswith("<?xml") else ("<?xml version='1.0'", text)
    name = body.lstrip()[1:].split()[0].rstrip(">")
    for tag in ("</w:t>", "</t>", "</dc:creator>"):
        body = body.replace(tag, f"&lol;{tag}", 1)
    if "&lol;" not in body:
        raise ValueError("nothing of this part has text to laugh in")
    return f"{head}?><!DOCTYPE {name} [{_laughs(levels)}]>{body}".encode()


def laughing_svg(levels: int) -> bytes:
    shape = "<svg xmlns='http://www.w3.org/2000/svg'><text>quay &lol;</text></svg>"
    return f"<?xml version='1.0'?><!DOCTYPE svg [{_laughs(levels)}]>{shape}".encode()


def png(width: int = 100_000, height: int = 100_000) -> bytes:
    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", width, height, 1, 0, 0, 0, 0)
    rows = zlib.compress(bytes((width // 8 + 1) * 100), 9)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", rows) + chunk(b"IEND", b"")


def nested_mail(levels: int = 1_000) -> bytes:
    head = b"Subject: inner\nContent-Type: message/rfc822\n\n"
    return head * levels + b"Subject: bottom\n\nthe very bottom\n"


def nested_multipart(levels: int = 1_000) -> bytes:
    heads = (b'Content-Type: multipart/mixed; boundary="b%d"\n\n--b%d\n' % (n, n) for n in range(levels))
    return b"Subject: deep\n" + b"".join(heads) + b"\nthe very bottom\n"


NAMES = {
    "a\0b.txt": "ab.txt",
    "../../etc/cron.d/job.txt": "job.txt",
    "..\\..\\boot.txt": "boot.txt",
    "/etc/passwd.txt": "passwd.txt",
    "invoice\u202etxt.exe": "invoicetxt.exe",
    "n" * 4_096 + ".txt": ("n" * 4_096 + ".txt")[-255:],
    "..": None,
}


def mail_of_names() -> bytes:
    parts = (
        f"--b\nContent-Type: text/plain\n"
        f"Content-Disposition: attachment; filename*=utf-8''{quote(name, safe='')}\n\nharmless\n"
        for name in NAMES
    )
    return "".join(("Content-Type: multipart/mixed; boundary=b\n\n", *parts, "--b--\n")).encode()


def random_blocks(size_bytes: int, block_bytes: int = 256 * 1024) -> Iterator[bytes]:
    """Bytes of no format, that nothing compresses; the same in every run."""
    source = random.Random(7)
    for start in range(0, size_bytes, block_bytes):
        yield source.randbytes(min(block_bytes, size_bytes - start))
