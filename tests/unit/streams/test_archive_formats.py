"""What is inside an archive is a document of its own, whatever the archive is."""

import bz2
import gzip
import io
import lzma
import tarfile
import zipfile
from collections.abc import Callable

import libarchive
import pytest

from schemas.outcomes import Outcome
from streams.ephemeral import EphemeralAttachmentHandler
from streams.extractors.limits import MEBIBYTE
from tests.reading import SENTENCE, read

pytestmark = pytest.mark.asyncio(loop_scope="session")

ENTRIES = (("notes/first.txt", SENTENCE.encode()), ("Büro/große.txt", b"bollard seven"))


def tar(*entries: tuple[str, bytes], mode: str = "w", form: int = tarfile.PAX_FORMAT) -> bytes:
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode=mode, format=form) as archive:  # type: ignore[call-overload]
        for name, payload in entries:
            about = tarfile.TarInfo(name)
            about.size = len(payload)
            archive.addfile(about, io.BytesIO(payload))
        link = tarfile.TarInfo("link")
        link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
        archive.addfile(link)
    return file.getvalue()


def written(form: str, *entries: tuple[str, bytes], **options: str) -> bytes:
    blocks: list[bytes] = []

    def write(block: bytes) -> int:
        blocks.append(bytes(block))
        return len(block)

    with libarchive.custom_writer(write, form, **options) as archive:
        for name, payload in entries:
            archive.add_file_from_memory(name, len(payload), payload)
    return b"".join(blocks)


def zipped(compression: int, *entries: tuple[str, bytes]) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", compression) as archive:
        for name, payload in entries:
            archive.writestr(name, payload)
    return file.getvalue()


ARCHIVES: dict[str, Callable[[], bytes]] = {
    "a.zip": lambda: zipped(zipfile.ZIP_DEFLATED, *ENTRIES),
    "bzip2.zip": lambda: zipped(zipfile.ZIP_BZIP2, *ENTRIES),
    "lzma.zip": lambda: zipped(zipfile.ZIP_LZMA, *ENTRIES),
    "a.tar": lambda: tar(*ENTRIES),
    "old.tar": lambda: tar(*ENTRIES, form=tarfile.USTAR_FORMAT),
    "gnu.tar": lambda: tar(*ENTRIES, form=tarfile.GNU_FORMAT),
    "a.tar.gz": lambda: tar(*ENTRIES, mode="w:gz"),
    "a.tgz": lambda: tar(*ENTRIES, mode="w:gz"),
    "a.tar.bz2": lambda: tar(*ENTRIES, mode="w:bz2"),
    "a.tar.xz": lambda: tar(*ENTRIES, mode="w:xz"),
    "a.7z": lambda: written("7zip", *ENTRIES),
    "a.cpio": lambda: written("cpio_newc", *ENTRIES),
}


@pytest.mark.parametrize("name", ARCHIVES)
async def test_entries_are_children_by_content(reader: EphemeralAttachmentHandler, name: str) -> None:
    payload = ARCHIVES[name]()
    for called in (name, None):
        found = await read(reader, payload, called)
        assert found.root.outcome is Outcome.CONTAINER
        assert found.by_path["1"].text == SENTENCE and found.by_path["2"].text == "bollard seven"
        assert found.names == ["first.txt", "große.txt"]


@pytest.mark.parametrize(
    ("name", "pack"),
    [("n.txt.gz", gzip.compress), ("n.txt.bz2", bz2.compress), ("n.txt.xz", lzma.compress)],
)
async def test_a_compressed_file_is_the_child(
    reader: EphemeralAttachmentHandler, name: str, pack: Callable[[bytes], bytes]
) -> None:
    found = await read(reader, pack(SENTENCE.encode()), name)
    assert found.root.outcome is Outcome.CONTAINER
    assert (found.by_path["1"].text, found.names) == (SENTENCE, ["n.txt"])


async def test_what_is_there_of_a_damaged_archive_is_read(reader: EphemeralAttachmentHandler) -> None:
    long = " ".join(f"word{number}" for number in range(40_000)).encode()
    cut = gzip.compress(long)
    found = await read(reader, cut[: len(cut) // 2], "long.txt.gz")
    assert found.root.metadata.truncated and "word10 " in found.text
    whole = tar(("a.txt", SENTENCE.encode()), ("b.txt", long))
    found = await read(reader, whole[: len(whole) // 2], "cut.tar")
    assert SENTENCE in found.text


@pytest.mark.parametrize("pack", [gzip.compress, bz2.compress, lzma.compress])
async def test_bombs_stop_at_the_ratio(
    reader: EphemeralAttachmentHandler, pack: Callable[[bytes], bytes]
) -> None:
    bomb = pack(bytes(8 * MEBIBYTE))
    assert (await read(reader, bomb, "zeros.gz")).root.outcome is Outcome.LIMIT_EXCEEDED
    inside = pack(tar(("zeros", bytes(8 * MEBIBYTE))))
    assert Outcome.LIMIT_EXCEEDED in (await read(reader, inside, "zeros.tar.gz")).outcomes


async def test_names_in_an_archive_harm_nobody(reader: EphemeralAttachmentHandler) -> None:
    names = ("../../etc/passwd", "/abs/olute.txt", "a\u202egnp.txt", "x" * 4000 + ".txt")
    entries = [(name, b"x") for name in names]
    for payload in (tar(*entries), zipped(0, *entries)):
        found = await read(reader, payload)
        assert [len(name or "") <= 255 and "/" not in (name or "") for name in found.names] == [True] * 4
        assert "\u202e" not in str(found.names)


async def test_names_from_before_utf8(reader: EphemeralAttachmentHandler) -> None:
    payload = zipped(0, ("gro_e.txt", SENTENCE.encode())).replace(
        b"gro_e.txt", "gro\xe1e.txt".encode("latin-1")
    )  # ß in code page 437
    assert (await read(reader, payload)).names == ["große.txt"]


async def test_an_encrypted_zip_is_named(reader: EphemeralAttachmentHandler) -> None:
    payload = bytearray(zipped(0, ("a.txt", b"x" * 20)))
    payload[6] |= 1
    payload[payload.index(b"PK\x01\x02") + 8] |= 1
    assert (await read(reader, bytes(payload))).root.outcome is Outcome.ENCRYPTED
