"""What holds other documents: nested mail and zip archives. Every child is a document of its own."""

import io
import zipfile
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
        lines.append(html_to_text(text) if leaf.part.content_type == "text/html" else text)
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
            )
        )


def extract_zip(document: Document, extract: Callable[[Document], None]) -> None:
    """A zip archive: its files are children, in the order of its directory. Raises ExtractionError."""
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
            child = document.child(_read(document, archive, entry), filename=entry.filename)
            if entry.flag_bits & 1:
                with child.opened():
                    raise ExtractionError(Outcome.ENCRYPTED)
            extract(child)


def _read(document: Document, archive: zipfile.ZipFile, entry: zipfile.ZipInfo) -> bytes:
    """The entry's bytes, counted while they come: what the directory declares may be a lie."""
    if entry.flag_bits & 1:
        return b""
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
