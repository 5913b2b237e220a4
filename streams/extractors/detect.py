"""What a document is: by its content first, then by its name, then by what its header claims."""

import io
import mimetypes
import zipfile

_MAGIC: tuple[tuple[bytes, str], ...] = (
    (b"\x89PNG\r\n\x1a\n", "image/png"),
    (b"\xff\xd8\xff", "image/jpeg"),
    (b"GIF87a", "image/gif"),
    (b"GIF89a", "image/gif"),
    (b"II*\x00", "image/tiff"),
    (b"MM\x00*", "image/tiff"),
    (b"BM", "image/bmp"),
    (b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1", "application/x-ole-storage"),
    (b"{\\rtf", "application/rtf"),
    (b"\x1f\x8b", "application/gzip"),
    (b"7z\xbc\xaf\x27\x1c", "application/x-7z-compressed"),
    (b"Rar!\x1a\x07", "application/vnd.rar"),
    (b"BZh", "application/x-bzip2"),
    (b"\xfd7zXZ\x00", "application/x-xz"),
)
_OFFICE = {
    "word/": "application/vnd.openxmlformats-officedocument.wordprocessingml.document",
    "xl/": "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet",
    "ppt/": "application/vnd.openxmlformats-officedocument.presentationml.presentation",
}
_NAMES = {
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
_OCTET_STREAM = "application/octet-stream"


def detect(payload: bytes, filename: str | None, declared: str | None) -> str:
    """The media type, lower case, without parameters."""
    head = payload[:_HEAD_BYTES]
    if b"%PDF-" in head[:1024]:
        return "application/pdf"
    if head.startswith((b"PK\x03\x04", b"PK\x05\x06", b"PK\x07\x08")):
        return _zip_type(payload)
    for magic, content_type in _MAGIC:
        if head.startswith(magic) and (content_type != "image/bmp" or len(payload) > 26):
            return content_type
    if head[:4] == b"RIFF" and head[8:12] == b"WEBP":
        return "image/webp"
    declared = (declared or "").partition(";")[0].strip().lower()
    named = _by_name(filename)
    if not _looks_like_text(head):
        # A name or a header that promises text does not make bytes readable.
        claims = (named, declared)
        return next((c for c in claims if c and c != _OCTET_STREAM and not _is_text(c)), _OCTET_STREAM)
    if declared == "message/rfc822" or named == "message/rfc822":
        return "message/rfc822"
    if _looks_like_html(head) and named not in ("text/plain", "text/markdown", "text/csv"):
        return "text/html"
    return next((claim for claim in (named, declared) if claim and _is_text(claim)), "text/plain")


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
                return archive.read("mimetype").decode("ascii", "replace").strip() or "application/zip"
    except (zipfile.BadZipFile, OSError, ValueError, RuntimeError, NotImplementedError, EOFError):
        pass
    return "application/zip"


def _by_name(filename: str | None) -> str | None:
    if not filename or "." not in filename:
        return None
    extension = "." + filename.rpartition(".")[2].lower()
    return _NAMES.get(extension) or mimetypes.types_map.get(extension)


def _is_text(content_type: str) -> bool:
    return content_type.startswith("text/") or content_type in _TEXT_TYPES


def _looks_like_text(head: bytes) -> bool:
    if not head or head.startswith((b"\xff\xfe", b"\xfe\xff", b"\xef\xbb\xbf")):
        return True
    if b"\x00" in head:
        # UTF-16 without a mark has its zeros all on one side; binaries have them everywhere.
        even, odd = head[0::2].count(0), head[1::2].count(0)
        return max(even, odd) > 0.4 * len(head) / 2 and min(even, odd) < 0.02 * len(head)
    control = sum(byte < 32 and byte not in (7, 8, 9, 10, 12, 13, 27) for byte in head)
    return control <= 0.02 * len(head)


def _looks_like_html(head: bytes) -> bool:
    start = head.lstrip(b"\xef\xbb\xbf \t\r\n").lower()
    return start.startswith((b"<!doctype html", b"<html", b"<head", b"<body"))
