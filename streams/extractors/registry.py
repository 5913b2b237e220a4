"""Extractors by detected type. They run in a parser process only, never in a worker."""

from collections.abc import Callable

from schemas.outcomes import Outcome
from streams.extractors import magic
from streams.extractors.archives import extract_archive, extract_zip
from streams.extractors.cards import extract_card
from streams.extractors.detect import detect
from streams.extractors.epub import extract_epub
from streams.extractors.excel_binary import extract_bare_excel
from streams.extractors.flat_office import extract_flat_office
from streams.extractors.image import extract_image
from streams.extractors.mail import extract_cms, extract_mail, extract_mbox, extract_pgp, skip_signature
from streams.extractors.metafile import extract_metafile
from streams.extractors.ole import extract_ole
from streams.extractors.ooxml import extract_ooxml
from streams.extractors.opendocument import extract_flat_opendocument, extract_opendocument
from streams.extractors.outlook import extract_msg, extract_tnef
from streams.extractors.pdf import extract_pdf
from streams.extractors.result import Document, ExtractionError
from streams.extractors.rtf import extract_rtf
from streams.extractors.text import extract_html, extract_text, extract_xml

_OOXML = "application/vnd.openxmlformats-officedocument"
_OPEN_DOCUMENTS = ("application/vnd.oasis.opendocument.", "application/vnd.sun.xml.")
_ARCHIVES = (
    *("tar", "7z-compressed", "xz", "bzip2", "lz4", "compress", "lzip", "lzma", "archive", "cpio", "xar"),
    *("iso9660-image", "lzh-compressed"),
)


def _extract_excel(document: Document) -> None:
    """In a container, or, before Excel 5, the records alone."""
    (extract_ole if document.payload.startswith(magic.OLE) else extract_bare_excel)(document)


_EXTRACTORS: dict[str, Callable[[Document], None]] = {
    "application/pdf": extract_pdf,
    f"{_OOXML}.wordprocessingml.document": extract_ooxml,
    f"{_OOXML}.presentationml.presentation": extract_ooxml,
    f"{_OOXML}.spreadsheetml.sheet": extract_ooxml,
    "application/vnd.openxmlformats-package": extract_ooxml,
    **dict.fromkeys((magic.OLE_STORAGE, "application/msword", "application/vnd.ms-powerpoint"), extract_ole),
    "application/vnd.ms-excel": _extract_excel,
    "image/emf": extract_metafile,
    "image/wmf": extract_metafile,
    "application/rtf": extract_rtf,
    "application/epub+zip": extract_epub,
    "application/vnd.ms-flat-office": extract_flat_office,
    "application/vnd.oasis.opendocument.flat": extract_flat_opendocument,
    "text/html": extract_html,
    "application/xhtml+xml": extract_html,
    "application/json": extract_text,
    "application/xml": extract_xml,
    "text/xml": extract_xml,
    "image/svg+xml": extract_xml,
    "text/calendar": extract_card,
    "text/vcard": extract_card,
    **dict.fromkeys(
        (f"image/{kind}" for kind in ("png", "jpeg", "tiff", "bmp", "gif", "webp", "heic", "avif", "jp2")),
        extract_image,
    ),
    # what holds other documents
    "message/rfc822": extract_mail,
    "application/mbox": extract_mbox,
    "application/vnd.ms-outlook": extract_msg,
    "application/vnd.ms-tnef": extract_tnef,
    "application/pkcs7-mime": extract_cms,
    "application/pgp-encrypted": extract_pgp,
    "application/pgp-signature": skip_signature,
    "application/zip": extract_zip,
    **dict.fromkeys(
        ("application/gzip", "application/zstd", "application/vnd.rar", "application/vnd.ms-cab-compressed"),
        extract_archive,
    ),
    **dict.fromkeys((f"application/x-{kind}" for kind in _ARCHIVES), extract_archive),
}


def extract(document: Document) -> None:
    """Read a document and everything inside it; what is found is emitted, and nothing is raised."""
    document.content_type = detect(document.payload, document.filename, document.declared_content_type)
    document.read = extract
    with document.opened():
        if not document.payload:
            return
        extractor = _EXTRACTORS.get(document.content_type)
        if extractor is None and document.content_type.startswith("text/"):
            extractor = extract_text
        if extractor is None and document.content_type.startswith(_OPEN_DOCUMENTS):
            extractor = extract_opendocument
        if extractor is None:
            raise ExtractionError(Outcome.UNSUPPORTED)
        extractor(document)
