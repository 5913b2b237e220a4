"""OLE containers told apart by their streams: DOC, XLS, PPT, encrypted packages, embedded objects."""

from __future__ import annotations

import io
import struct

import msoffcrypto
import olefile

from schemas.outcomes import Outcome
from streams.extractors import ole_file
from streams.extractors.excel_binary import extract_excel
from streams.extractors.ole_file import Streams
from streams.extractors.powerpoint_binary import extract_powerpoint
from streams.extractors.result import Document, ExtractionError
from streams.extractors.word_binary import extract_word

# Excel encrypts with this where a workbook is protected without a password: anybody may read it.
_DEFAULT_PASSWORD = "VelvetSweatshop"  # noqa: S105
_ENCRYPTED_PACKAGE = "EncryptedPackage".encode("utf-16-le")
# What servers of embedded objects call the stream that holds a whole file.
_WHOLE_FILES = ("Package", "CONTENTS", "Contents", "EmbeddedOdf", "PDF", "package_stream")


def extract_ole(document: Document) -> None:
    """Emit what the container holds, and children for what is embedded. Raises ExtractionError."""
    try:
        streams = ole_file.read(document)
    except ExtractionError as error:
        # A damaged one that was encrypted was never ours to read.
        raise (
            ExtractionError(Outcome.ENCRYPTED) if _ENCRYPTED_PACKAGE in document.payload else error
        ) from error
    _facts(document)
    if ("EncryptedPackage",) in streams:
        _decrypt(document)
        return
    try:
        _main(document, streams)
    finally:
        _embedded(document, streams)


def _main(document: Document, streams: Streams) -> None:
    names = {path[0].lower(): path for path in streams if len(path) == 1}
    workbook = names.get("workbook") or names.get("book")
    if ("WordDocument",) in streams:
        extract_word(document, streams)
    elif workbook:
        try:
            extract_excel(document, streams[workbook])
        except ExtractionError as error:
            if error.outcome is not Outcome.ENCRYPTED:
                raise
            _decrypt(document)
    elif ("PowerPoint Document",) in streams:
        extract_powerpoint(document, streams)
    elif _file_in(streams) is None:
        raise ExtractionError(Outcome.UNSUPPORTED)
    else:
        document.is_container = True


def _embedded(document: Document, streams: Streams) -> None:
    """Files in this object, and objects in its object pool (or below any storage that looks like one)."""
    whole = _file_in(streams)
    if whole is not None:
        name, payload = whole
        document.embedded(payload, filename=name)
    storages = {path[: depth + 1] for path in streams for depth in range(len(path) - 1)}
    taken: list[tuple[str, ...]] = []
    for storage in sorted(storages, key=lambda path: (len(path), path)):
        if any(storage[: len(outer)] == outer for outer in taken):
            continue
        inside = ole_file.below(streams, storage)
        if _is_object(inside):
            taken.append(storage)
            document.embedded(ole_file.write(inside))


def _is_object(streams: Streams) -> bool:
    names = {path[0] for path in streams if len(path) == 1}
    documents = {"WordDocument", "Workbook", "Book", "PowerPoint Document", "EncryptedPackage"}
    return bool(names & documents) or _file_in(streams) is not None


def _file_in(streams: Streams) -> tuple[str | None, bytes] | None:
    """The name and bytes of the file that an object wraps."""
    for name in _WHOLE_FILES:
        data = streams.get((name,))
        if data and not data.startswith(b"\0\0\0\0"):
            return None, data
    native = streams.get(("\x01Ole10Native",))
    return unwrap_native(native) if native else None


def unwrap_native(data: bytes) -> tuple[str | None, bytes] | None:
    """The file in an ``Ole10Native`` stream: its size, a label, its path, where it was cached, its bytes."""
    try:
        [total] = struct.unpack_from("<I", data)
        at = 6
        label, at = _text(data, at)
        _, at = _text(data, at)
        at += 4
        [length] = struct.unpack_from("<I", data, at)
        at += 4 + length
        [size] = struct.unpack_from("<I", data, at)
        payload = data[at + 4 : at + 4 + size]
        if size and len(payload) == size:
            return label.decode("utf-8", "replace") or None, payload
    except (struct.error, ValueError):
        pass
    # Some write the bytes alone behind their size.
    return (None, data[4 : 4 + total]) if 4 < total <= len(data) - 4 else None


def _text(data: bytes, at: int) -> tuple[bytes, int]:
    end = data.index(b"\0", at)
    return data[at:end], end + 1


def _decrypt(document: Document) -> None:
    """What is encrypted with the password that everybody knows is read. Raises ExtractionError."""
    opened = io.BytesIO()
    try:
        file = msoffcrypto.OfficeFile(io.BytesIO(document.payload))
        file.load_key(password=_DEFAULT_PASSWORD)
        file.decrypt(opened)
    except Exception as error:
        raise ExtractionError(Outcome.ENCRYPTED) from error
    payload = opened.getvalue()
    if not payload or payload == document.payload:
        raise ExtractionError(Outcome.ENCRYPTED)
    document.budget.unpack(len(payload))
    document.is_container = True
    document.embedded(payload, filename=document.filename)


def _facts(document: Document) -> None:
    try:
        with olefile.OleFileIO(io.BytesIO(document.payload)) as ole:
            found = ole.get_metadata()
    except Exception:  # noqa: BLE001 - properties are a courtesy; damaged ones raise anything
        return
    codec = f"cp{found.codepage}" if found.codepage and found.codepage > 0 else "utf-8"
    for fact, value in (("title", found.title), ("author", found.author)):
        if isinstance(value, bytes) and value.strip(b"\0 "):
            try:
                document.facts[fact] = value.decode(
                    "utf-8" if codec == "cp65001" else codec, "replace"
                ).strip("\0 ")
            except LookupError:
                document.facts[fact] = value.decode("utf-8", "replace").strip("\0 ")
    if found.create_time:
        document.facts["created"] = found.create_time.isoformat()
