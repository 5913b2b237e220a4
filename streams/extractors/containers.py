"""What holds other documents: nested mail and zip archives. Every child is a document of its own."""

import io
import lzma
import zipfile
import zlib
from collections.abc import Callable

from schemas import mime
from schemas.outcomes import Outcome
from streams.extractors.result import Document, ExtractionError
from streams.extractors.text import decode, html_to_text

_HEADERS = ("Subject", "From", "To", "Cc", "Date")
# Below this an archive's entry may be as compressible as it likes.
_RATIO_FROM_BYTES = 1024 * 1024


def extract_mail(document: Document, extract: Callable[[Document], None]) -> None:
    """A mail inside a mail: its headers and body are its text, its attachments are children."""
    root = mime.parse(document.payload)
    lines = [f"{name}: {value}" for name in _HEADERS if (value := root.header(name))]
    for leaf in mime.body_leaves(root):
        text = decode(leaf.part.body or b"", leaf.part.charset)
        if leaf.part.content_type == "text/html":
            document.used("inscriptis")
            text = html_to_text(text)
        lines.append(text)
    document.text("\n".join(lines))
    if subject := root.header("Subject"):
        document.facts["title"] = subject
    for leaf in mime.attachments(root):
        part = leaf.part
        extract(
            document.child(
                part.body or b"",
                filename=part.filename,
                declared_content_type=part.content_type,
                charset=part.charset,
                inline=part.disposition == "inline",
            )
        )


def extract_zip(document: Document, extract: Callable[[Document], None]) -> None:
    """A zip archive: its files are children, in the order of its directory. An entry that cannot be read
    costs itself its outcome, not its neighbours theirs. Raises ExtractionError over the caps."""
    try:
        archive = zipfile.ZipFile(io.BytesIO(document.payload))
    except zipfile.BadZipFile as error:
        raise ExtractionError(Outcome.CORRUPT) from error
    document.is_container = True
    with archive:
        entries = [entry for entry in archive.infolist() if not entry.is_dir()]
        if entries and all(entry.flag_bits & 1 for entry in entries):
            raise ExtractionError(Outcome.ENCRYPTED)
        for entry in entries:
            read = _read(document, archive, entry)
            if isinstance(read, bytes):
                extract(document.child(read, filename=entry.filename))
                continue
            with document.child(b"", filename=entry.filename).opened():
                raise ExtractionError(read)


def _read(document: Document, archive: zipfile.ZipFile, entry: zipfile.ZipInfo) -> bytes | Outcome:
    """The entry's bytes, or why there are none; counted while they come: what the directory declares may
    be a lie. Raises ExtractionError over the caps."""
    if entry.flag_bits & 1:
        return Outcome.ENCRYPTED
    try:
        return _unpack(document, archive, entry)
    except NotImplementedError:  # a compression that Python does not know
        return Outcome.UNSUPPORTED
    except (zipfile.BadZipFile, zlib.error, lzma.LZMAError, EOFError, OSError, ValueError):
        return Outcome.CORRUPT


def _unpack(document: Document, archive: zipfile.ZipFile, entry: zipfile.ZipInfo) -> bytes:
    payload = io.BytesIO()
    with archive.open(entry) as file:
        while block := file.read(1024 * 1024):
            document.budget.unpack(len(block))
            payload.write(block)
            if payload.tell() > _RATIO_FROM_BYTES and payload.tell() > document.limits.max_ratio * max(
                entry.compress_size, 1
            ):
                raise ExtractionError(Outcome.LIMIT_EXCEEDED)
    return payload.getvalue()
