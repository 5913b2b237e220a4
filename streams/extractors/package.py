"""Zips of XML, as OOXML, OpenDocument and EPUB are: read part by part under the caps, damaged ones too."""

from __future__ import annotations

import io
import posixpath
import struct
import zipfile
import zlib
from typing import Any
from urllib.parse import unquote

from schemas.outcomes import Outcome
from streams.extractors import xml
from streams.extractors.result import Document, ExtractionError

# Real parts compress 100:1 at times; this stops one that unpacks to a memory full of spaces.
_MAX_RATIO = 400
_RATIO_FROM_BYTES = 1024 * 1024
_LOCAL_HEADER = struct.Struct("<4sHHHHHIIIHH")
_MAX_SALVAGED = 2_000


class Package:
    """The parts of a zip by name. Raises ExtractionError where nothing can be read, or over the caps."""

    def __init__(self, document: Document) -> None:
        self._document = document
        self._salvaged: dict[str, bytes] = {}
        self._archive: zipfile.ZipFile | None = None
        self._entries: dict[str, zipfile.ZipInfo] = {}
        self._lower: dict[str, str] = {}
        try:
            self._archive = zipfile.ZipFile(io.BytesIO(document.payload))
            entries = [entry for entry in self._archive.infolist() if not entry.is_dir()]
        except (zipfile.BadZipFile, ValueError, OSError, struct.error) as error:
            self._salvaged = _salvage(document)
            if not self._salvaged:
                raise ExtractionError(Outcome.CORRUPT) from error
            document.truncated = True
            self.names = list(self._salvaged)
            return
        if entries and all(entry.flag_bits & 1 for entry in entries):
            raise ExtractionError(Outcome.ENCRYPTED)
        # zipfile reads no more of an entry than it declares, so this also bounds what other libraries read.
        declared = sum(entry.file_size for entry in entries)
        if declared > document.limits.max_unpacked_bytes - document.budget.unpacked_bytes or any(
            entry.file_size > max(_RATIO_FROM_BYTES, _MAX_RATIO * entry.compress_size) for entry in entries
        ):
            raise ExtractionError(Outcome.LIMIT_EXCEEDED)
        self._entries = {entry.filename.replace("\\", "/").lstrip("/"): entry for entry in entries}
        self.names = list(self._entries)
        self._lower = {name.lower(): name for name in self.names}

    @property
    def intact(self) -> bool:
        """Whether other libraries can read it."""
        return self._archive is not None

    def read(self, name: str) -> bytes:
        """A part's bytes, empty where it is missing; of a damaged one as much as there is."""
        if not self.intact:
            return self._salvaged.get(name, b"")
        entry = self._entries.get(name) or self._entries.get(self._lower.get(name.lower(), ""))
        if entry is None or entry.flag_bits & 1:
            return b""
        assert self._archive is not None, "an intact package has an archive"
        limit = max(_RATIO_FROM_BYTES, _MAX_RATIO * entry.compress_size)
        data = io.BytesIO()
        try:
            with self._archive.open(entry) as file:
                while block := file.read(1024 * 1024):
                    self._document.budget.unpack(len(block))
                    data.write(block)
                    if data.tell() > limit:
                        raise ExtractionError(Outcome.LIMIT_EXCEEDED)
        except (zipfile.BadZipFile, zlib.error, EOFError, OSError, NotImplementedError, ValueError):
            self._document.truncated = True
            return data.getvalue() or _inflate(self._document, entry.header_offset)[1]
        return data.getvalue()

    def has(self, name: str) -> bool:
        """Whether there is such a part."""
        return name in self._salvaged or name in self._entries or name.lower() in self._lower

    def size_bytes(self, name: str) -> int:
        """What the package declares of a part."""
        return self._entries[name].file_size if name in self._entries else 0

    def tree(self, name: str) -> Any:
        """A part's root element; None where there is none."""
        data = self.read(name)
        return xml.parse(data) if data else None

    def relations(self, name: str) -> list[tuple[str, str, str, bool]]:
        """Of a part (the package itself: ""): id, last word of the type, target, whether that is outside."""
        folder, base = posixpath.split(name)
        root = self.tree(posixpath.join(folder, "_rels", f"{base}.rels"))
        found = []
        for node in root if root is not None else ():
            if xml.local_name(node) != "Relationship":
                continue
            target, outside = node.get("Target") or "", node.get("TargetMode") == "External"
            if not outside:
                target = posixpath.normpath(posixpath.join("/", folder, unquote(target)))[1:]
            kind = (node.get("Type") or "").rpartition("/")[2]
            found.append((node.get("Id") or "", kind, target, outside))
        return found


def _salvage(document: Document) -> dict[str, bytes]:
    """What stands behind the local headers of a zip that has lost its directory."""
    found: dict[str, bytes] = {}
    position = document.payload.find(b"PK\x03\x04")
    while position >= 0 and len(found) < _MAX_SALVAGED:
        name, data = _inflate(document, position)
        if name and data:
            found.setdefault(name, data)
        position = document.payload.find(b"PK\x03\x04", position + 4)
    return found


def _inflate(document: Document, offset: int) -> tuple[str, bytes]:
    payload = document.payload
    if offset + _LOCAL_HEADER.size > len(payload):
        return "", b""
    header = _LOCAL_HEADER.unpack_from(payload, offset)
    flags, method, packed, name_length, extra_length = header[2], header[3], header[7], header[9], header[10]
    start = offset + _LOCAL_HEADER.size
    name = payload[start : start + name_length].decode("utf-8", "replace").replace("\\", "/")
    start += name_length + extra_length
    room = document.limits.max_unpacked_bytes - document.budget.unpacked_bytes
    if flags & 1 or method not in (0, 8):
        return name, b""
    if method == 0:
        data = payload[start : start + packed]
    else:
        inflater, parts = zlib.decompressobj(-15), []
        try:
            # In small steps: what stands before the damage is kept.
            for at in range(start, len(payload), 1024):
                parts.append(inflater.decompress(payload[at : at + 1024], max(room, 1)))
                room -= len(parts[-1])
                if inflater.eof or room <= 0:
                    break
        except zlib.error:
            pass
        data = b"".join(parts)
    document.budget.unpack(len(data))
    return name, data
