"""What a document is: by its content first, then by its name, then by what its header claims."""

import io
import re
import struct
import zipfile
import zlib

import olefile

from streams.extractors import magic
from streams.extractors.charsets import is_ebcdic, wide_charset

_OFFICE = {
    "word/": "application/vnd.openxmlformats-officedocument.wordprocessingml.document",
    "xl/": "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet",
    "ppt/": "application/vnd.openxmlformats-officedocument.presentationml.presentation",
}
_TEXT_TYPES = {
    "application/json",
    "application/xml",
    "message/rfc822",
    "application/xhtml+xml",
    "application/mbox",
    "image/svg+xml",
}
_HEAD_BYTES = 4096
# pdfium accepts a PDF that begins this late.
_PDF_WITHIN_BYTES = 1024
_OCTET_STREAM = "application/octet-stream"
_EPUB = "application/epub+zip"
# The second are OpenOffice 1's, before the standard.
_OPEN_DOCUMENTS = ("application/vnd.oasis.", "application/vnd.sun.xml.")
_PACKAGE = "application/vnd.openxmlformats-package"
# Root elements of office files that are one XML document.
_FLAT_OFFICE = (
    (
        re.compile(
            rb"<(?:\w+:)?(?:package|wordDocument|Workbook)\b[^>]*schemas[-.]microsoft[-.]com[:/]office"
        ),
        "application/vnd.ms-flat-office",
    ),
    (re.compile(rb"<office:document\b"), "application/vnd.oasis.opendocument.flat"),
)
# RFC 6838's names; anything else was made to confuse whoever shows it.
_MEDIA_TYPE = re.compile(r"[a-z0-9][a-z0-9!#$&^_.+-]{0,126}/[a-z0-9][a-z0-9!#$&^_.+-]{0,126}")

_MARK = re.compile(rb"^(?:\xef\xbb\xbf|\xff\xfe|\xfe\xff)")
_PROLOGUE = re.compile(rb"^\s*(?:<\?xml[^>]{0,300}\?>|<!--.{0,2000}?-->|\s+)*", re.DOTALL)
_HTML = re.compile(rb"<(?:!doctype\s+html|html|head|body|title|meta)\b", re.IGNORECASE)
_XML = re.compile(rb"^\s*<(?:\?xml\b|!doctype\s+(?!html)|[a-z][\w.-]*(?::[\w.-]+)?\s+xmlns)", re.IGNORECASE)
_SVG = re.compile(rb"<(?:\w+:)?svg\b")
# A mail: header lines from its first on, some of which only mails have.
_HEADER_LINE = re.compile(rb"(?:>?From [^\r\n]*\r?\n)?[A-Za-z][A-Za-z0-9-]{1,60}:(?:[ \t\r]|$)", re.MULTILINE)
_MAIL_HEADER = re.compile(
    rb"^(?:From|To|Subject|Date|Message-ID|Received|Return-Path|MIME-Version|Delivered-To|Reply-To|X-Mailer"
    rb"|Content-Type|X-MimeOLE|In-Reply-To|Sender):[ \t\r]",
    re.MULTILINE | re.IGNORECASE,
)
_MBOX = re.compile(rb"From \S+[^\r\n]*\d{4}[^\r\n]*\r?\n[A-Za-z][A-Za-z0-9-]*:")
# PKCS #7 and CMS content types, as DER writes them: data, signed, enveloped, ... and compressed data.
_CMS = re.compile(
    rb"\x30(?:\x80|[\x01-\x7f]|\x81.|\x82..|\x83...|\x84....)"
    rb"(?:\x06\x09\x2a\x86\x48\x86\xf7\x0d\x01\x07[\x01-\x06]"
    rb"|\x06\x0b\x2a\x86\x48\x86\xf7\x0d\x01\x09\x10\x01[\x09\x17])",
    re.DOTALL,
)
_PGP = "application/pgp-encrypted"
_ARMOUR = (
    (b"-----BEGIN PGP MESSAGE-----", _PGP),
    (b"-----BEGIN PGP SIGNATURE-----", "application/pgp-signature"),
    (b"-----BEGIN PKCS7-----", "application/pkcs7-mime"),
    (b"-----BEGIN CMS-----", "application/pkcs7-mime"),
)
_TEXTS = ((b"BEGIN:VCARD", "text/vcard"), (b"BEGIN:VCALENDAR", "text/calendar"))
# What lies at the root of a document; olefile does not mind the case.
_OLE_STREAMS = (
    ("WordDocument", "application/msword"),
    ("Workbook", "application/vnd.ms-excel"),
    ("Book", "application/vnd.ms-excel"),
    ("PowerPoint Document", "application/vnd.ms-powerpoint"),
)
# Outlook's properties lie in streams of this name ([MS-OXMSG] 2.1).
_MSG_STREAM = "__properties_version1.0".encode("utf-16-le")


def detect(payload: bytes, filename: str | None, declared: str | None) -> str:
    """The media type, lower case, without parameters."""
    head = payload[:_HEAD_BYTES]
    declared, named = media_type(declared), _by_name(filename)
    is_text = _looks_like_text(head)
    binary = _by_magic(payload, head)
    if not binary and _is_pdf(head, is_text, "application/pdf" in (declared, named)):
        return "application/pdf"
    if head.startswith(magic.ZIP):
        return _zip_type(payload)
    if binary:
        return binary
    if _PGP in (named, declared) and head[:1] >= b"\x80":
        return _PGP
    if not is_text:
        # A name or a header that promises text does not make bytes readable.
        claims = (named, declared)
        return next((c for c in claims if c and c != _OCTET_STREAM and not _is_text(c)), _OCTET_STREAM)
    plain = _plain_head(head)
    flat = next((kind for root, kind in _FLAT_OFFICE if root.search(plain)), None)
    return flat if flat and plain.startswith(b"<") else _text_type(plain, named, declared)


def media_type(header: str | None) -> str | None:
    """The type that a Content-Type header names, lower case, without parameters; None where it names none."""
    name = (header or "").partition(";")[0].strip().lower()
    return name if _MEDIA_TYPE.fullmatch(name) else None


def _is_pdf(head: bytes, is_text: bool, claimed: bool) -> bool:
    if head.lstrip(b"\xef\xbb\xbf \t\r\n\x00").startswith(b"%PDF-"):
        return True
    # Further down it is a PDF behind something else, unless it is a text that speaks of PDFs.
    return b"%PDF-" in head[:_PDF_WITHIN_BYTES] and (claimed or not is_text)


def _by_magic(payload: bytes, head: bytes) -> str | None:
    for start, content_type in magic.MAGIC:
        if head.startswith(start):
            return _ole_type(payload) if start == magic.OLE else content_type
    if head[40:44] == b" EMF":
        return "image/emf"
    if head[:4] == b"RIFF":
        return magic.RIFF.get(head[8:12])
    if head[4:8] == b"ftyp":
        brands = (head[8:12], *(head[at : at + 4] for at in range(16, min(int.from_bytes(head[:4]), 64), 4)))
        return next((magic.BOX_BRANDS[brand] for brand in brands if brand in magic.BOX_BRANDS), "video/mp4")
    if head[:2] == b"BM" and int.from_bytes(head[14:18], "little") in magic.BITMAP_HEADER_BYTES:
        return "image/bmp"
    if head[257:262] == b"ustar" or _is_old_tar(head):
        return "application/x-tar"
    if payload[0x8001:0x8006] == b"CD001":
        return "application/x-iso9660-image"
    if magic.LHA.match(head):
        return "application/x-lzh-compressed"
    if _CMS.match(head):
        return "application/pkcs7-mime"
    return "application/x-bzip2" if magic.BZIP2.match(head) else None


def _ole_type(payload: bytes) -> str:
    if _MSG_STREAM in payload:
        return "application/vnd.ms-outlook"
    try:
        with olefile.OleFileIO(io.BytesIO(payload)) as ole:
            return next((kind for stream, kind in _OLE_STREAMS if ole.exists(stream)), magic.OLE_STORAGE)
    except (OSError, ValueError, IndexError, TypeError, struct.error):
        return magic.OLE_STORAGE  # a damaged one is read as far as it goes


def _is_old_tar(head: bytes) -> bool:
    """A tar from before its magic: the header's own checksum says so."""
    if len(head) < 512 or not head[0] or not re.fullmatch(rb" *[0-7]+[\x00 ]*", head[148:156]):
        return False
    counted = sum(head[:148]) + 8 * 32 + sum(head[156:512])
    return int(head[148:156].strip(b"\x00 "), 8) == counted


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
                    _PACKAGE,
                )
            if "mimetype" in names and archive.getinfo("mimetype").file_size < 200:
                claimed = media_type(archive.read("mimetype").decode("ascii", "replace"))
                # A zip is no text and no image, whatever it says: only formats that are zips are believed.
                if claimed and (claimed == _EPUB or claimed.startswith(_OPEN_DOCUMENTS)):
                    return claimed
    except (zipfile.BadZipFile, OSError, ValueError, RuntimeError, NotImplementedError, EOFError, zlib.error):
        # A zip without its end: the first entries tell what it was.
        if b"[Content_Types].xml" in payload[:_HEAD_BYTES]:
            found = {folder: payload.find(folder.encode()) for folder in _OFFICE}
            there = {at: folder for folder, at in found.items() if at >= 0}
            return _OFFICE[there[min(there)]] if there else _PACKAGE
        if (start := payload.find(b"mimetypeapplication/", 0, 100)) >= 0:
            return re.split(rb"[^\w.+/-]|PK", payload[start + 8 : start + 120])[0].decode("ascii")
    return "application/zip"


def _by_name(filename: str | None) -> str | None:
    if not filename or "." not in filename:
        return None
    return magic.EXTENSIONS.get("." + filename.rpartition(".")[2].lower())


def _is_text(content_type: str) -> bool:
    return content_type.startswith("text/") or content_type in _TEXT_TYPES


def _looks_like_text(head: bytes) -> bool:
    if not head or _MARK.match(head):
        return True
    if b"\x00" in head:
        # A few zeros among lines are damage; as UTF-16 or UTF-32 they are half of the letters.
        return wide_charset(head) is not None or _is_plain(
            head.replace(b"\x00", b""), head.count(0), len(head)
        )
    return _is_plain(head, 0, len(head)) or is_ebcdic(head)


def _is_plain(head: bytes, zeros: int, size: int) -> bool:
    # Escape (27) is common in Japanese mail, shifts (14, 15) in Korean, bell to carriage return in logs.
    harmless = (7, 8, 9, 10, 12, 13, 27, *((14, 15) if b"\x1b" in head else ()))
    control = len(head) - len(head.translate(None, bytes(set(range(32)) - set(harmless))))
    return control + zeros <= 0.02 * size


def _plain_head(head: bytes) -> bytes:
    """The head with one byte a letter, without its mark, so that one expression fits every charset."""
    wide = wide_charset(head)
    if head.startswith((b"\xff\xfe", b"\xfe\xff")):
        wide = "utf-16"
    text = head.decode(wide, "ignore").encode("ascii", "replace") if wide else head
    return _MARK.sub(b"", text).lstrip(b" \t\r\n\x00")


def _text_type(head: bytes, named: str | None, declared: str | None) -> str:
    for start, content_type in (*_ARMOUR, *_TEXTS):
        if head.startswith(start):
            return content_type
    if declared == _PGP and head.lower().startswith(b"version: 1"):
        return _PGP
    claimed = next((claim for claim in (named, declared) if claim and _is_text(claim)), None)
    if _MBOX.match(head):
        return "application/mbox"
    if "message/rfc822" in (named, declared) or _is_mail(head):
        return "message/rfc822"
    if claimed == "application/mbox":
        return "text/plain"
    content = head[_PROLOGUE.match(head).end() :]  # type: ignore[union-attr] # it matches anything
    if _HTML.match(content) and claimed not in ("text/markdown", "text/csv"):
        return "text/html"
    if _XML.match(head) or content.startswith((b"<svg", b"<rss", b"<feed")):
        return "image/svg+xml" if _SVG.match(content) or _SVG.search(content[:1024]) else "application/xml"
    return claimed or "text/plain"


def _is_mail(head: bytes) -> bool:
    if not _HEADER_LINE.match(head):
        return False
    block = re.split(rb"\r?\n[ \t]*\r?\n", head, maxsplit=1)[0]
    names = {match[0].lower() for match in _MAIL_HEADER.finditer(block)}
    lines = block.splitlines()
    headers = sum(line[:1] in (b" ", b"\t") or bool(re.match(rb"[A-Za-z][\w-]*:", line)) for line in lines)
    return len(names) >= 3 and headers >= 0.9 * len(lines)
