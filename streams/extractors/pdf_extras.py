"""What a PDF holds beside its pages' text: notes, links, fields, bookmarks, XFA forms, attached files."""

import contextlib
import ctypes
from collections.abc import Callable, Iterable, Iterator
from itertools import islice
from typing import Any

from pypdfium2 import PdfAttachment, PdfDocument, PdfiumError, PdfPage, raw

from streams.extractors import xml

_MAX_OUTLINE_ITEMS = 10_000
_MAX_NOTES_PER_PAGE = 5_000
_MAX_OPTIONS = 500
_NOTE_KEYS = (b"T", b"Subj", b"Contents")
# Of an XFA form: what it shows, and what was filled in.
_XFA_PACKETS = ("template", "datasets")


def page_notes(page: PdfPage) -> list[str]:
    """What stands on a page above its text: a line a note, link or field, each said once."""
    notes: dict[str, None] = {}
    for annotation in _annotations(page):
        kind = raw.FPDFAnnot_GetSubtype(annotation)
        if kind == raw.FPDF_ANNOT_WIDGET:
            texts = _field(page, annotation)
        elif kind == raw.FPDF_ANNOT_LINK:
            texts = [_link(page.pdf, annotation)]
        elif kind == raw.FPDF_ANNOT_POPUP:
            texts = []  # says what its parent says
        else:
            texts = [_wide(raw.FPDFAnnot_GetStringValue, annotation, key) for key in _NOTE_KEYS]
        notes |= dict.fromkeys(text for text in texts if text.strip())
    return list(notes)


def _annotations(page: PdfPage) -> Iterator[Any]:
    """pdfium's handles, each good until the next is asked for."""
    for number in range(min(raw.FPDFPage_GetAnnotCount(page), _MAX_NOTES_PER_PAGE)):
        annotation = raw.FPDFPage_GetAnnot(page, number)
        if annotation:
            try:
                yield annotation
            finally:
                raw.FPDFPage_CloseAnnot(annotation)


def _field(page: PdfPage, annotation: Any) -> list[str]:
    """Name and value of a form field, what its tooltip says, and what one may choose."""
    if page.formenv is None:
        return []
    field = (page.formenv, annotation)
    name = _wide(raw.FPDFAnnot_GetFormFieldName, *field)
    value = _wide(raw.FPDFAnnot_GetFormFieldValue, *field)
    tooltip = _wide(raw.FPDFAnnot_GetFormFieldAlternateName, *field)
    options = min(max(raw.FPDFAnnot_GetOptionCount(*field), 0), _MAX_OPTIONS)
    labels = [_wide(raw.FPDFAnnot_GetOptionLabel, *field, number) for number in range(options)]
    if name or value:
        name = f"{name}: {value}"
    return [name, tooltip, *labels]


def _link(opened: PdfDocument, annotation: Any) -> str:
    link = raw.FPDFAnnot_GetLink(annotation)
    action = raw.FPDFLink_GetAction(link) if link else None
    if not action:
        return ""
    size = raw.FPDFAction_GetURIPath(opened, action, None, 0)
    buffer = ctypes.create_string_buffer(size)
    raw.FPDFAction_GetURIPath(opened, action, buffer, size)
    return buffer.value.decode("utf-8", "replace")


def _wide(getter: Callable[..., int], *arguments: Any) -> str:
    """The string that a function of pdfium's writes in UTF-16, asked for its length first."""
    size = getter(*arguments, None, 0)
    if size <= 2:
        return ""
    buffer = (ctypes.c_ushort * (size // 2))()
    getter(*arguments, buffer, size)
    return bytes(buffer).decode("utf-16-le", "ignore").rstrip("\x00")


def outline(opened: PdfDocument) -> list[str]:
    """The bookmarks' titles, in order."""
    try:
        return [item.get_title() for item in islice(opened.get_toc(), _MAX_OUTLINE_ITEMS)]
    except PdfiumError:
        return []


def xfa_texts(opened: PdfDocument) -> list[str]:
    """What an XFA form shows and holds; pdfium's pages of one only ask for another program. Raises
    ExtractionError over the cap on XML."""
    texts: dict[str, None] = {}
    for number in range(max(raw.FPDF_GetXFAPacketCount(opened), 0)):
        size = raw.FPDF_GetXFAPacketName(opened, number, None, 0)
        name = ctypes.create_string_buffer(max(size, 1))
        raw.FPDF_GetXFAPacketName(opened, number, name, size)
        if name.value.decode("latin-1") not in _XFA_PACKETS:
            continue
        needed = ctypes.c_ulong()
        raw.FPDF_GetXFAPacketContent(opened, number, None, 0, ctypes.byref(needed))
        content = ctypes.create_string_buffer(max(needed.value, 1))
        raw.FPDF_GetXFAPacketContent(opened, number, content, needed.value, ctypes.byref(needed))
        texts |= dict.fromkeys(_xml_texts(content.raw[: needed.value]))
    return list(texts)


def _xml_texts(content: bytes) -> Iterator[str]:
    root = xml.parse(content)
    for node in root.iter() if root is not None else ():
        # Scripts calculate, they say nothing; nor do comments, which have no name.
        if xml.local_name(node) not in ("script", ""):
            for text in (node.text, node.tail):
                if text and text.strip():
                    yield " ".join(text.split())


def has_pinned_files(page: PdfPage) -> bool:
    """Whether the page is worth a second look, for the files in its notes: to load it is to read it again."""
    return any(
        raw.FPDFAnnot_GetSubtype(annotation) == raw.FPDF_ANNOT_FILEATTACHMENT
        for annotation in _annotations(page)
    )


def attached_files(opened: PdfDocument, pages: Iterable[int]) -> Iterator[tuple[str | None, bytes]]:
    """Names and bytes of the files inside: those of the document, then those pinned to these pages."""
    for number in range(opened.count_attachments()):
        try:
            attachment = opened.get_attachment(number)
            yield attachment.get_name() or None, bytes(attachment.get_data())
        except PdfiumError:
            continue  # listed, and not there
    for page_number in pages:
        try:
            page = opened[page_number]
        except PdfiumError:
            continue
        for annotation in _annotations(page):
            file = raw.FPDFAnnot_GetFileAttachment(annotation)
            if file:
                pinned = PdfAttachment(file, opened)
                with contextlib.suppress(PdfiumError):
                    yield pinned.get_name() or None, bytes(pinned.get_data())
        page.close()
