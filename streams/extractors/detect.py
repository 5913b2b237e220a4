"""What a document is: by its content first, then by its name, then by what its header claims."""

import io
import mimetypes
import re
import zipfile
import zlib

_MAGIC: tuple[tuple[bytes, str], ...] = (
    (b"\x89PNG\r\n\x1a\n", "image/png"),
    (b"\xff\xd8\xff", "image/jpeg"),
    (b"GIF87a", "image/gif"),
    (b"GIF89a", "image/gif"),
    (b"II*\x00", "image/tiff"),
    (b"MM\x00*", "image/tiff"),
    (b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1", "application/x-ole-storage"),
    (b"{\\rtf", "application/rtf"),
    (b"\x1f\x8b", "application/gzip"),
    (b"7z\xbc\xaf\x27\x1c", "application/x-7z-compressed"),
    (b"Rar!\x1a\x07", "application/vnd.rar"),
    (b"\xfd7zXZ\x00", "application/x-xz"),
)
# "BM" and "BZh" alone also begin texts (BMW, BZh...): these formats are told by what follows.
_BZIP2 = re.compile(rb"BZh[1-9]1AY&SY")
_BITMAP_HEADER_BYTES = (12, 40, 52, 56, 64, 108, 124)
_OFFICE = {
    "word/": "application/vnd.openxmlformats-officedocument.wordprocessingml.document",
    "xl/": "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet",
    "ppt/": "application/vnd.openxmlformats-officedocument.presentationml.presentation",
}
# Python's own table: what a machine has in /etc/mime.types must not decide.
_EXTENSIONS = {
    **mimetypes.MimeTypes().types_map[True],
    ".md": "text/markdown",
    ".log": "text/plain",
    ".tsv": "text/tab-separated-values",
    ".eml": "message/rfc822",
    ".ics": "text/calendar",
    ".vcf": "text/vcard",
    ".json": "application/json",
    ".xml": "application/xml",
    ".webp": "image/webp",
}
_TEXT_TYPES = {"application/json", "application/xml", "message/rfc822", "application/xhtml+xml"}
_HEAD_BYTES = 4096
# pdfium accepts a PDF that begins this late.
_PDF_WITHIN_BYTES = 1024
_OCTET_STREAM = "application/octet-stream"
_EPUB = "application/epub+zip"
# RFC 6838's names; anything else was made to confuse whoever shows it.
_MEDIA_TYPE = re.compile(r"[a-z0-9][a-z0-9!#$&^_.+-]{0,126}/[a-z0-9][a-z0-9!#$&^_.+-]{0,126}")


def detect(payload: bytes, filename: str | None, declared: str | None) -> str:
    """The media type, lower case, without parameters."""
    head = payload[:_HEAD_BYTES]
    declared, named = media_type(declared), _by_name(filename)
    is_text = _looks_like_text(head)
    if _is_pdf(head, is_text, "application/pdf" in (declared, named)):
        return "application/pdf"
    if head.startswith((b"PK\x03\x04", b"PK\x05\x06", b"PK\x07\x08")):
        return _zip_type(payload)
    binary = _by_magic(head)
    if binary:
        return binary
    if not is_text:
        # A name or a header that promises text does not make bytes readable.
        claims = (named, declared)
        return next((c for c in claims if c and c != _OCTET_STREAM and not _is_text(c)), _OCTET_STREAM)
    if declared == "message/rfc822" or named == "message/rfc822":
        return "message/rfc822"
    if _looks_like_html(head) and named not in ("text/plain", "text/markdown", "text/csv"):
        return "text/html"
    return next((claim for claim in (named, declared) if claim and _is_text(claim)), "text/plain")


def media_type(header: str | None) -> str | None:
    """The type that a Content-Type header names, lower case, without parameters; None where it names none."""
    name = (header or "").partition(";")[0].strip().lower()
    return name if _MEDIA_TYPE.fullmatch(name) else None


def _is_pdf(head: bytes, is_text: bool, claimed: bool) -> bool:
    if head.lstrip(b"\xef\xbb\xbf \t\r\n\x00").startswith(b"%PDF-"):
        return True
    # Further down it is a PDF behind something else, unless it is a text that speaks of PDFs.
    return b"%PDF-" in head[:_PDF_WITHIN_BYTES] and (claimed or not is_text)


def _by_magic(head: bytes) -> str | None:
    for magic, content_type in _MAGIC:
        if head.startswith(magic):
            return content_type
    if head[:4] == b"RIFF" and head[8:12] == b"WEBP":
        return "image/webp"
    if head[:2] == b"BM" and int.from_bytes(head[14:18], "little") in _BITMAP_HEADER_BYTES:
        return "image/bmp"
    return "application/x-bzip2" if _BZIP2.match(head) else None


def _zip_type(payload: bytes) -> str:
    try:
        with zipfile.ZipFile(io.BytesIO(payload)) as archive:
            names = archive.namelist()
            if "[Content_Types].xml" in names:
                return next(
                    (
                        kind
                        for folder, kind in _OFFICE.items()
                        if any(name.startswith(folder) for name in names)
                    ),
                    "application/zip",
                )
            if "mimetype" in names and archive.getinfo("mimetype").file_size < 200:
                claimed = media_type(archive.read("mimetype").decode("ascii", "replace"))
                # A zip is no text and no image, whatever it says: only formats that are zips are believed.
                if claimed and (claimed == _EPUB or claimed.startswith("application/vnd.oasis.")):
                    return claimed
    except (zipfile.BadZipFile, OSError, ValueError, RuntimeError, NotImplementedError, EOFError, zlib.error):
        pass
    return "application/zip"


def _by_name(filename: str | None) -> str | None:
    if not filename or "." not in filename:
        return None
    return _EXTENSIONS.get("." + filename.rpartition(".")[2].lower())


def _is_text(content_type: str) -> bool:
    return content_type.startswith("text/") or content_type in _TEXT_TYPES


def _looks_like_text(head: bytes) -> bool:
    if not head or head.startswith((b"\xff\xfe", b"\xfe\xff", b"\xef\xbb\xbf")):
        return True
    if b"\x00" in head:
        # UTF-16 without a mark has its zeros all on one side; binaries have them everywhere.
        even, odd = head[0::2].count(0), head[1::2].count(0)
        return max(even, odd) > 0.4 * len(head) / 2 and min(even, odd) < 0.02 * len(head)
    # Escape (27) is common in Japanese mail, bell to carriage return in logs.
    control = sum(byte < 32 and byte not in (7, 8, 9, 10, 12, 13, 27) for byte in head)
    return control <= 0.02 * len(head)


def _looks_like_html(head: bytes) -> bool:
    start = head.lstrip(b"\xef\xbb\xbf \t\r\n").lower()
    return start.startswith((b"<!doctype html", b"<html", b"<head", b"<body"))
