"""PDF: the text layer page by page; pages without one are read by OCR in the lane that may."""

import io
import re

import pypdfium2
from pypdfium2 import PdfDocument, PdfiumError
from pypdfium2.raw import FORMTYPE_NONE, FPDF_PAGEOBJ_IMAGE, FPDF_PAGEOBJ_PATH, FPDF_PAGEOBJ_SHADING

from schemas.outcomes import Outcome
from streams.extractors.image import read_image
from streams.extractors.pdf_extras import attached_files, has_pinned_files, outline, page_notes, xfa_texts
from streams.extractors.result import Document, ExtractionError

# 200 dpi is where tesseract's accuracy levels off for print; PDF counts 72 points an inch.
OCR_SCALE = 200 / 72
# A picture that fills this part of its page is the page, and drawn as large as it is, as far as scanners go.
_WHOLE_PAGE = 0.8
_SCANNED_SCALES = (72 / 72, 300 / 72)
# pdfium's error code for a missing or wrong password (FPDF_ERR_PASSWORD).
_PASSWORD_ERROR = "Incorrect password"  # noqa: S105
# A page with fewer letters than this and an image on it is a scan with a stamp or a page number.
_SCAN_CHARACTERS = 16
_PICTURES = (FPDF_PAGEOBJ_IMAGE, FPDF_PAGEOBJ_PATH, FPDF_PAGEOBJ_SHADING)
# What a font without a table of its letters leaves: replacement marks, control characters, private use.
_GARBAGE = re.compile("[\x00-\x08\x0e-\x1f\x7f-\x9f\ufffd\ue000-\uf8ff]")
_GARBAGE_SHARE = 0.3
# pdfium marks the hyphen at a line's end where a word goes on (and eats the line's end).
_HYPHEN = re.compile("[\x02\ufffe\uffff]")
_FACTS = (
    ("title", "Title"),
    ("author", "Author"),
    ("created", "CreationDate"),
)


def extract_pdf(document: Document) -> None:
    """Emit every page's text with its number, notes and fields with it, then what belongs to the whole:
    bookmarks, subject and keywords, XFA forms. Attached files are children. Raises ExtractionError."""
    document.used("pypdfium2")
    try:
        opened = PdfDocument(document.payload)
    except PdfiumError as error:
        if _PASSWORD_ERROR in str(error):
            raise ExtractionError(Outcome.ENCRYPTED) from error
        _read_without_pdfium(document)
        return
    with opened:
        _facts(document, opened)
        if opened.get_formtype() != FORMTYPE_NONE:
            opened.init_forms()
        damaged, pinned = _read_pages(document, opened)
        for label, texts in (("form", xfa_texts(opened)), ("bookmarks", outline(opened))):
            document.text("\n".join(texts), label=label)
        for name, payload in attached_files(opened, pinned):
            document.embedded(payload, filename=name)
        if damaged and not document.characters and not document.waits_for_ocr:
            raise ExtractionError(Outcome.CORRUPT)


def _read_pages(document: Document, opened: PdfDocument) -> tuple[int, list[int]]:
    """Emit the pages; returns how many could not be read, and those to which files are or may be pinned."""
    pages = len(opened)
    document.facts["pages"] = pages
    document.truncated |= pages > document.limits.max_pages
    scans = damaged = 0
    pinned = []
    for number in range(min(pages, document.limits.max_pages)):
        try:
            page = opened[number]
            text = page.get_textpage().get_text_range()
            notes = page_notes(page)
        except (PdfiumError, AssertionError):
            # One damaged page does not cost the others their text.
            damaged += 1
            document.truncated = True
            pinned.append(number)
            continue
        if has_pinned_files(page):
            pinned.append(number)
        if not _wants_ocr(page, text):
            document.text("\n".join((_as_written(text), *notes)), page=number + 1)
        elif not document.ocr:
            document.waits_for_ocr = True
            document.text("\n".join((_as_written(text), *notes)), page=number + 1)
        elif scans < document.limits.max_ocr_pages:
            scans += 1
            _read_scan(document, page, number + 1, _as_written(text), notes)
        else:
            document.truncated = True
        page.close()
    return damaged, pinned


def _wants_ocr(page: pypdfium2.PdfPage, text: str) -> bool:
    letters = len("".join(text.split()))
    if len(_GARBAGE.findall(_HYPHEN.sub("", text))) > _GARBAGE_SHARE * letters:
        return True
    return letters < _SCAN_CHARACTERS and _has_picture(page)


def _as_written(text: str) -> str:
    return _GARBAGE.sub("", _HYPHEN.sub("-\n", text))


def _read_scan(
    document: Document, page: pypdfium2.PdfPage, number: int, layer: str, notes: list[str]
) -> None:
    width, height = page.get_size()
    scale = min(_scale(page), (document.limits.max_pixels / max(width * height, 1.0)) ** 0.5)
    picture = page.render(scale=scale).to_pil()
    document.used("pytesseract")
    read = read_image(picture, document.limits.max_pixels, document.languages)
    # What the layer says and the picture shows is said once.
    unseen = [line for line in layer.splitlines() if line.strip() and line.strip() not in read]
    document.text("\n".join((*unseen, read, *notes)), page=number)
    document.progress()


def _scale(page: pypdfium2.PdfPage) -> float:
    """Pixels a point. To draw a scan in another size than its own only blurs it: of a table's words 41 % were
    read at 200 dpi, and all at the 72 of its scan."""
    width, height = page.get_size()
    smallest, largest = _SCANNED_SCALES
    for picture in page.get_objects(filter=(FPDF_PAGEOBJ_IMAGE,), max_depth=3):
        left, bottom, right, top = picture.get_bounds()
        # The longer sides: a page that is shown turned has its sides exchanged, and the picture has not.
        scanned = max(picture.get_px_size()) / max(width, height)
        if (right - left) * (top - bottom) >= _WHOLE_PAGE * width * height and scanned >= smallest:
            return float(min(scanned, largest))
    return OCR_SCALE


def _has_picture(page: pypdfium2.PdfPage) -> bool:
    # Paths count too: they may be letters turned into outlines.
    return next(iter(page.get_objects(filter=_PICTURES, max_depth=3)), None) is not None


def _facts(document: Document, opened: PdfDocument) -> None:
    found = opened.get_metadata_dict(skip_empty=True)
    for name, key in _FACTS:
        if found.get(key):
            document.facts[name] = found[key]
    document.text("\n".join(found[key] for key in ("Subject", "Keywords") if found.get(key)), label="about")


def _read_without_pdfium(document: Document) -> None:
    """What pdfium does not open, a slower reader that forgives more may. Raises ExtractionError."""
    from pypdf import PdfReader
    from pypdf.errors import FileNotDecryptedError, PyPdfError

    document.used("pypdf")
    try:
        reader = PdfReader(io.BytesIO(document.payload), strict=False)
        for number, page in enumerate(reader.pages[: document.limits.max_pages], start=1):
            document.text(page.extract_text(), page=number)
        document.facts["pages"] = len(reader.pages)
    except FileNotDecryptedError as error:
        raise ExtractionError(Outcome.ENCRYPTED) from error
    except (PyPdfError, ValueError, KeyError, TypeError, AttributeError, OSError) as error:
        raise ExtractionError(Outcome.CORRUPT) from error
    if not document.characters:
        raise ExtractionError(Outcome.CORRUPT)
