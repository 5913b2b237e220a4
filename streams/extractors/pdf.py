"""PDF: the text layer page by page; pages without one are read by OCR in the lane that may."""

import pypdfium2
from pypdfium2 import PdfDocument, PdfiumError
from pypdfium2.raw import FPDF_PAGEOBJ_IMAGE, FPDF_PAGEOBJ_PATH, FPDF_PAGEOBJ_SHADING

from schemas.outcomes import Outcome
from streams.extractors.image import read_image
from streams.extractors.result import Document, ExtractionError

# 200 dpi is where tesseract's accuracy levels off for print; PDF counts 72 points an inch.
OCR_SCALE = 200 / 72
# pdfium's error code for a missing or wrong password (FPDF_ERR_PASSWORD).
_PASSWORD_ERROR = "Incorrect password"  # noqa: S105
# A page with fewer letters than this and an image on it is a scan with a stamp or a page number.
_SCAN_CHARACTERS = 16
_PICTURES = (FPDF_PAGEOBJ_IMAGE, FPDF_PAGEOBJ_PATH, FPDF_PAGEOBJ_SHADING)


def extract_pdf(document: Document) -> None:
    """Emit every page's text with its number. Raises ExtractionError."""
    document.used("pypdfium2")
    try:
        opened = PdfDocument(document.payload)
    except PdfiumError as error:
        encrypted = _PASSWORD_ERROR in str(error)
        raise ExtractionError(Outcome.ENCRYPTED if encrypted else Outcome.CORRUPT) from error
    with opened:
        _facts(document, opened)
        pages = len(opened)
        document.facts["pages"] = pages
        document.truncated |= pages > document.limits.max_pages
        scans = damaged = 0
        for number in range(min(pages, document.limits.max_pages)):
            try:
                page = opened[number]
                text = page.get_textpage().get_text_range()
            except PdfiumError:
                # One damaged page does not cost the others their text.
                damaged += 1
                document.truncated = True
                continue
            if len("".join(text.split())) >= _SCAN_CHARACTERS or not _has_picture(page):
                document.text(text, page=number + 1)
            elif not document.ocr:
                document.waits_for_ocr = True
                document.text(text, page=number + 1)
            elif scans < document.limits.max_ocr_pages:
                scans += 1
                _read_scan(document, page, number + 1, text)
            else:
                document.truncated = True
            page.close()
        if damaged and not document.characters and not document.waits_for_ocr:
            raise ExtractionError(Outcome.CORRUPT)


def _read_scan(document: Document, page: pypdfium2.PdfPage, number: int, layer: str) -> None:
    width, height = page.get_size()
    scale = min(OCR_SCALE, (document.limits.max_pixels / max(width * height, 1.0)) ** 0.5)
    picture = page.render(scale=scale, grayscale=True).to_pil()
    document.used("pytesseract")
    read = read_image(picture, document.limits.max_pixels)
    # What the layer says and the picture shows is said once.
    unseen = [line for line in layer.splitlines() if line.strip() and line.strip() not in read]
    document.text("\n".join((*unseen, read)), page=number)
    document.progress()


def _has_picture(page: pypdfium2.PdfPage) -> bool:
    # Paths count too: they may be letters turned into outlines.
    return next(iter(page.get_objects(filter=_PICTURES, max_depth=3)), None) is not None


def _facts(document: Document, opened: PdfDocument) -> None:
    found = opened.get_metadata_dict(skip_empty=True)
    for name, key in (("title", "Title"), ("author", "Author"), ("created", "CreationDate")):
        if found.get(key):
            document.facts[name] = found[key]
