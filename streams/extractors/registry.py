"""Extractors by detected type. They run in a parser process only, never in a worker."""

from collections.abc import Callable

from schemas.outcomes import Outcome
from streams.extractors.containers import extract_mail, extract_zip
from streams.extractors.detect import detect
from streams.extractors.image import extract_image
from streams.extractors.office import extract_docx, extract_ole, extract_pptx, extract_xlsx
from streams.extractors.pdf import extract_pdf
from streams.extractors.result import Document, ExtractionError
from streams.extractors.text import extract_html, extract_text

_OOXML = "application/vnd.openxmlformats-officedocument"
_EXTRACTORS: dict[str, Callable[[Document], None]] = {
    "application/pdf": extract_pdf,
    f"{_OOXML}.wordprocessingml.document": extract_docx,
    f"{_OOXML}.presentationml.presentation": extract_pptx,
    f"{_OOXML}.spreadsheetml.sheet": extract_xlsx,
    "application/x-ole-storage": extract_ole,
    "text/html": extract_html,
    "application/xhtml+xml": extract_html,
    "application/json": extract_text,
    "application/xml": extract_text,
    **dict.fromkeys(
        (f"image/{kind}" for kind in ("png", "jpeg", "tiff", "bmp", "gif", "webp")), extract_image
    ),
}
_CONTAINERS = {"application/zip": extract_zip, "message/rfc822": extract_mail}


def extract(document: Document) -> None:
    """Read a document and everything inside it; what is found is emitted, and nothing is raised."""
    document.content_type = detect(document.payload, document.filename, document.declared_content_type)
    with document.opened():
        if not document.payload:
            return
        if document.content_type in _CONTAINERS:
            _CONTAINERS[document.content_type](document, extract)
            return
        extractor = _EXTRACTORS.get(document.content_type)
        if extractor is None and document.content_type.startswith("text/"):
            extractor = extract_text
        if extractor is None:
            raise ExtractionError(Outcome.UNSUPPORTED)
        extractor(document)
