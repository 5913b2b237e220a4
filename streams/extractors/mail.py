"""Mail as a file: RFC 5322, mailboxes of many, and what S/MIME and PGP wrap around it."""

import base64
import binascii
import re
import zlib
from collections.abc import Iterator

from schemas import mime
from schemas.outcomes import Outcome
from streams.decoration import inline_paths
from streams.extractors.charsets import decode
from streams.extractors.result import Document, ExtractionError
from streams.extractors.text import html_to_text

_HEADERS = ("Subject", "From", "Sender", "To", "Cc", "Bcc", "Reply-To", "Date")
_MBOX_START = re.compile(rb"(?:\A|(?<=\n\n)|(?<=\n\r\n))From [^\r\n]*\r?\n(?=>?[A-Za-z][A-Za-z0-9-]*[: ])")
_MBOX_ESCAPE = re.compile(rb"^>(>*From )", re.MULTILINE)
# RFC 5652's content types that may hold something, as DER writes them.
_SIGNED, _COMPRESSED = "1.2.840.113549.1.7.2", "1.2.840.113549.1.9.16.1.9"
_ENVELOPED = {"1.2.840.113549.1.7.3", "1.2.840.113549.1.7.6", "1.2.840.113549.1.9.16.1.23"}


def extract_mail(document: Document) -> None:
    """A mail as a file: its headers and body are its text, its attachments are children."""
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
    if author := root.header("From"):
        document.facts["author"] = author
    if date := root.header("Date"):
        document.facts["created"] = date
    inline = inline_paths(root)
    for leaf in mime.attachments(root):
        part = leaf.part
        document.embedded(
            part.body or b"",
            filename=part.filename,
            declared_content_type=part.content_type,
            charset=part.charset,
            inline=leaf.path in inline,
        )


def extract_mbox(document: Document) -> None:
    """A file of mails one after the other: each is a child. Raises ExtractionError over the caps."""
    document.is_container = True
    for mail in _mails(document.payload):
        document.embedded(mail, declared_content_type="message/rfc822")


def _mails(payload: bytes) -> Iterator[bytes]:
    starts = [match.span() for match in _MBOX_START.finditer(payload)]
    for (_, begin), end in zip(starts, [*(start for start, _ in starts[1:]), len(payload)], strict=True):
        yield _MBOX_ESCAPE.sub(rb"\1", payload[begin:end])


def extract_cms(document: Document) -> None:
    """S/MIME: what is signed or compressed is read as a child, what is encrypted is not, and a signature
    alone is skipped. Raises ExtractionError."""
    from pyasn1.codec.ber import decoder
    from pyasn1.error import PyAsn1Error
    from pyasn1_modules import rfc3274, rfc5652

    document.used("pyasn1")
    try:
        content_info, _ = decoder.decode(_der(document.payload), asn1Spec=rfc5652.ContentInfo())
        kind = str(content_info["contentType"])
        if kind in _ENVELOPED:
            raise ExtractionError(Outcome.ENCRYPTED)
        if kind == _SIGNED:
            signed, _ = decoder.decode(content_info["content"], asn1Spec=rfc5652.SignedData())
            content = signed["encapContentInfo"]["eContent"]
            inner = bytes(content) if content.isValue else b""
        elif kind == _COMPRESSED:
            packed, _ = decoder.decode(content_info["content"], asn1Spec=rfc3274.CompressedData())
            inner = _inflated(document, bytes(packed["encapContentInfo"]["eContent"]))
        else:
            raise ExtractionError(Outcome.UNSUPPORTED)
    except (PyAsn1Error, ValueError, zlib.error) as error:
        raise ExtractionError(Outcome.CORRUPT) from error
    if not inner:
        skip_signature(document)
        return
    document.is_container = True
    document.embedded(inner, declared_content_type="message/rfc822")


def _der(payload: bytes) -> bytes:
    if not payload.lstrip().startswith(b"-----BEGIN"):
        return payload
    lines = payload.split(b"-----")[2]
    try:
        return base64.b64decode(lines)
    except binascii.Error as error:
        raise ExtractionError(Outcome.CORRUPT) from error


def _inflated(document: Document, packed: bytes) -> bytes:
    inflater = zlib.decompressobj()
    room = document.limits.max_unpacked_bytes - document.budget.unpacked_bytes
    inner = inflater.decompress(packed, min(max(room, 1), document.limits.max_ratio * len(packed) + 1))
    document.budget.unpack(len(inner))
    if inflater.unconsumed_tail:
        raise ExtractionError(Outcome.LIMIT_EXCEEDED)
    return inner


def extract_pgp(document: Document) -> None:
    """PGP: what is encrypted stays so. Raises ExtractionError, unless it is but the wrapper's version."""
    if document.payload.strip().lower() == b"version: 1":
        skip_signature(document)
        return
    raise ExtractionError(Outcome.ENCRYPTED)


def skip_signature(document: Document) -> None:
    """A signature says who wrote something else, and nothing itself."""
    document.skipped_reason = "signature"
