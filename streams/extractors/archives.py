"""Archives and compressed files: what is inside them are documents of their own.

Zip is read by Python, which knows its many irregularities; the others by libarchive, block by block, so that
what a bomb unpacks to is counted while it comes.
"""

import ctypes
import io
import lzma
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from schemas.outcomes import Outcome
from streams.extractors.result import Document, ExtractionError

# Below this an archive's entry may be as compressible as it likes.
_RATIO_FROM_BYTES = 1024 * 1024
_BLOCK_BYTES = 64 * 1024
# Not zip: a compressed DOCX would come out in pieces.
_FORMATS = ("tar", "7zip", "rar", "rar5", "cpio", "ar", "cab", "iso9660", "lha", "xar")
# What compressing adds to a name.
_SUFFIXES = (".gz", ".bz2", ".xz", ".lzma", ".lz", ".z", ".zst", ".lz4")
_ENCRYPTED = ("encrypt", "passphrase", "password")


def extract_zip(document: Document) -> None:
    """A zip archive: its files are children, in the order of its directory. An entry that cannot be read
    costs itself its outcome, not its neighbours theirs. Raises ExtractionError over the caps."""
    try:
        archive = zipfile.ZipFile(io.BytesIO(document.payload))
    except (zipfile.BadZipFile, NotImplementedError, ValueError) as error:
        raise ExtractionError(Outcome.CORRUPT) from error
    document.is_container = True
    with archive:
        entries = [entry for entry in archive.infolist() if not entry.is_dir()]
        if entries and all(entry.flag_bits & 1 for entry in entries):
            raise ExtractionError(Outcome.ENCRYPTED)
        for entry in entries:
            name = _zip_name(entry)
            read = _read(document, archive, entry)
            if isinstance(read, bytes):
                document.embedded(read, filename=name)
            else:
                document.unreadable(read, filename=name)


def _zip_name(entry: zipfile.ZipInfo) -> str:
    """The name; Python reads one without the mark of UTF-8 as a PC of 1981 did."""
    if entry.flag_bits & 0x800:
        return entry.filename
    try:
        raw = entry.filename.encode("cp437")
        return raw.decode("utf-8")
    except UnicodeError:
        return entry.filename


def _read(document: Document, archive: zipfile.ZipFile, entry: zipfile.ZipInfo) -> bytes | Outcome:
    """The entry's bytes, or why there are none; counted while they come: what the directory declares may
    be a lie. Raises ExtractionError over the caps."""
    if entry.flag_bits & 1:
        return Outcome.ENCRYPTED
    try:
        with archive.open(entry) as file:
            blocks = iter(lambda: file.read(_BLOCK_BYTES), b"")
            return _gathered(document, blocks, entry.compress_size)
    except NotImplementedError:  # a compression that Python does not know
        return Outcome.UNSUPPORTED
    except (zipfile.BadZipFile, zlib.error, lzma.LZMAError, EOFError, OSError, ValueError):
        return Outcome.CORRUPT


def _gathered(document: Document, blocks: Iterator[bytes], compressed_bytes: int) -> bytes:
    """The blocks in one, as long as the caps hold. Raises ExtractionError over them."""
    payload = io.BytesIO()
    for block in blocks:
        document.budget.unpack(len(block))
        payload.write(block)
        size = payload.tell()
        if size > _RATIO_FROM_BYTES and size > document.limits.max_ratio * max(compressed_bytes, 1):
            raise ExtractionError(Outcome.LIMIT_EXCEEDED)
    return payload.getvalue()


def extract_archive(document: Document) -> None:
    """Tar (compressed or not), 7z, rar, cpio, ar, cab, iso, lha, xar, and files that are only compressed:
    those have one child. Raises ExtractionError."""
    import libarchive  # rare enough not to be in every parser's memory

    document.used("libarchive")
    document.is_container = True
    try:
        _children(document, _FORMATS)
        if not document.children and document.content_type == "application/gzip":
            _only_compressed(document)  # zeros pass for a tar of nothing
    except libarchive.ArchiveError as error:
        if document.children:
            document.truncated = True  # what came before the damage is there
        elif _why(error) is Outcome.ENCRYPTED:
            raise ExtractionError(Outcome.ENCRYPTED) from error
        else:
            _only_compressed(document)
        return
    if not document.children:
        # Zeros pass for an archive without files; in a compressed file they are what it holds.
        _only_compressed(document, strict=False)


def _children(document: Document, formats: tuple[str, ...]) -> None:
    with _opened(document.payload, formats) as archive:
        for entry in archive:
            if not entry.isreg:
                continue
            payload, failure = _entry(document, entry)
            if failure is None:
                document.embedded(payload, filename=entry.pathname)
            else:
                document.unreadable(failure, filename=entry.pathname)


def _only_compressed(document: Document, *, strict: bool = True) -> None:
    """One compressed file and nothing around it: what it holds, damaged or not, is the child. What is not
    compressed raises ExtractionError where that is ``strict``: it would be its own child."""
    import libarchive

    try:
        with _opened(document.payload, ("raw",)) as archive:
            for entry in archive:
                if not archive.filter_names:
                    if strict:
                        raise ExtractionError(Outcome.CORRUPT)
                    return
                payload, failure = _entry(document, entry)
                document.truncated |= failure is not None
                if failure is not None and not payload:
                    raise ExtractionError(failure)
                document.embedded(payload, filename=_uncompressed_name(document.filename))
    except libarchive.ArchiveError as error:
        raise ExtractionError(_why(error)) from error


def _entry(document: Document, entry: Any) -> tuple[bytes, Outcome | None]:
    """What can be read of an entry, and why not all of it. Raises ExtractionError over the caps."""
    import libarchive

    failures: list[Outcome] = []

    def blocks() -> Iterator[bytes]:
        try:
            yield from entry.get_blocks(_BLOCK_BYTES)
        except libarchive.ArchiveError as error:
            failures.append(_why(error))

    # Archives of these kinds are compressed as one: the whole is what an entry is measured by.
    payload = _gathered(document, blocks(), len(document.payload))
    return payload, failures[0] if failures else None


@contextmanager
def _opened(payload: bytes, formats: tuple[str, ...]) -> Iterator[Any]:
    from libarchive import ffi, read

    with read.new_archive_read(formats[0], "all") as pointer:
        for name in formats[1:]:
            ffi.get_read_format_function(name)(pointer)
        ffi.read_open_memory(pointer, ctypes.cast(ctypes.c_char_p(payload), ctypes.c_void_p), len(payload))
        yield read.ArchiveRead(pointer)


def _why(error: Exception) -> Outcome:
    said = str(error).lower()
    return Outcome.ENCRYPTED if any(word in said for word in _ENCRYPTED) else Outcome.CORRUPT


def _uncompressed_name(name: str | None) -> str | None:
    """The name without what compressing added to it."""
    if not name:
        return None
    stem, dot, suffix = name.rpartition(".")
    if suffix.lower() in ("tgz", "tbz", "tbz2", "txz"):
        return f"{stem}.tar"
    return stem if dot and f".{suffix.lower()}" in _SUFFIXES else name
