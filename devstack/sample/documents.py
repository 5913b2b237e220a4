"""Renders documents from plain data: PDF, DOCX, XLSX, PPTX, archives. Same data, same bytes.

Libraries stamp the hour into what they write; here every date is ``WHEN``, and OOXML files are packed
again with fixed entry dates.
"""

import io
import re
import zipfile
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from functools import partial

import docx
from fpdf import FPDF
from fpdf.enums import AccessPermission, EncryptionMethod
from openpyxl import Workbook
from pptx import Presentation
from pptx.util import Inches

from devstack.sample.model import COMPANY, Attachment

WHEN = datetime(2025, 1, 1, 12, 0, 0, tzinfo=UTC)
_NAIVE = WHEN.replace(tzinfo=None)
_ENTRY_DATE = (2025, 1, 1, 12, 0, 0)

Row = Sequence[str | int | float]
# A paragraph; a heading where it starts with "# "; or a table.
Block = str | Sequence[Row]

_WORD = "application/vnd.openxmlformats-officedocument"


def new_pdf() -> FPDF:
    """An empty A4 document with the fixed date."""
    pdf = FPDF(format="A4")
    pdf.set_creation_date(WHEN)
    pdf.set_margin(20)
    return pdf


def pdf_bytes(title: str, blocks: Sequence[Block], password: str = "") -> bytes:
    """A PDF with a text layer; encrypted where there is a password."""
    pdf = new_pdf()
    if password:
        # RC4 because it needs no random numbers: the other methods give new bytes every time.
        pdf.set_encryption(
            owner_password=password + "-owner",
            user_password=password,
            encryption_method=EncryptionMethod.RC4,
            permissions=AccessPermission.none(),
        )
    pdf.set_title(title)
    pdf.add_page()
    pdf.set_font("Helvetica", "B", 16)
    pdf.multi_cell(0, 9, _core(title), new_x="LMARGIN", new_y="NEXT")
    for block in blocks:
        pdf.ln(3)
        if isinstance(block, str):
            heading = block.startswith("# ")
            pdf.set_font("Helvetica", "B" if heading else "", 12 if heading else 11)
            pdf.multi_cell(0, 6, _core(block.removeprefix("# ")), new_x="LMARGIN", new_y="NEXT")
        else:
            pdf.set_font("Helvetica", "", 10)
            with pdf.table(text_align="LEFT", padding=1) as table:
                for cells in block:
                    table.row([_core(str(cell)) for cell in cells])
    return bytes(pdf.output())


def docx_bytes(title: str, blocks: Sequence[Block]) -> bytes:
    """A Word document."""
    document = docx.Document()
    properties = document.core_properties
    properties.author, properties.title = COMPANY, title
    properties.created = properties.modified = _NAIVE
    document.add_heading(title, 0)
    for block in blocks:
        if isinstance(block, str):
            if block.startswith("# "):
                document.add_heading(block[2:], 1)
            else:
                document.add_paragraph(block)
            continue
        table = document.add_table(rows=0, cols=len(block[0]))
        table.style = "Table Grid"
        for cells in block:
            for cell, value in zip(table.add_row().cells, cells, strict=True):
                cell.text = str(value)
    buffer = io.BytesIO()
    document.save(buffer)
    return repack(buffer.getvalue())


def xlsx_bytes(sheets: Mapping[str, Sequence[Row]]) -> bytes:
    """A workbook, a sheet for each entry."""
    workbook = Workbook()
    workbook.remove(workbook.worksheets[0])
    workbook.properties.creator = COMPANY
    workbook.properties.created = _NAIVE
    for name, rows in sheets.items():
        sheet = workbook.create_sheet(name)
        for row in rows:
            sheet.append(list(row))
    buffer = io.BytesIO()
    workbook.save(buffer)
    return repack(buffer.getvalue())


def pptx_bytes(slides: Sequence[tuple[str, Sequence[str], str]]) -> bytes:
    """A presentation of (title, bullet points, speaker's note)."""
    presentation = Presentation()
    properties = presentation.core_properties
    properties.author, properties.title = COMPANY, slides[0][0]
    properties.created = properties.modified = _NAIVE
    for number, (title, points, note) in enumerate(slides):
        slide = presentation.slides.add_slide(presentation.slide_layouts[0 if number == 0 else 1])
        slide.shapes.title.text = title
        slide.placeholders[1].text = "\n".join(points)
        if number == 0:
            slide.shapes.title.top = Inches(1.5)
        if note:
            slide.notes_slide.notes_text_frame.text = note
    buffer = io.BytesIO()
    presentation.save(buffer)
    return repack(buffer.getvalue())


def zip_bytes(entries: Mapping[str, bytes]) -> bytes:
    """An archive of these files, in this order, all of one date."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in entries.items():
            entry = zipfile.ZipInfo(name, _ENTRY_DATE)
            entry.compress_type = zipfile.ZIP_DEFLATED
            entry.external_attr = 0o644 << 16
            archive.writestr(entry, content)
    return buffer.getvalue()


def repack(archive: bytes) -> bytes:
    """The same OOXML file with fixed entry dates and a fixed date of last change."""
    with zipfile.ZipFile(io.BytesIO(archive)) as source:
        entries = {name: source.read(name) for name in source.namelist()}
    stamp = WHEN.strftime("%Y-%m-%dT%H:%M:%SZ").encode()
    core = "docProps/core.xml"
    entries[core] = re.sub(rb"(<dcterms:modified[^>]*>)[^<]*", rb"\g<1>" + stamp, entries[core])
    return zip_bytes(entries)


def _core(text: str) -> str:
    """Text as the built-in PDF fonts can show it (Windows-1252 less the typographic signs)."""
    for sign, plain in (("–", "-"), ("—", "-"), ("’", "'"), ("“", '"'), ("”", '"'), ("€", "EUR")):
        text = text.replace(sign, plain)
    return text


def pdf(name: str, title: str, *blocks: Block) -> Attachment:
    """A PDF with text."""
    return Attachment(name, "application/pdf", "pdf", partial(pdf_bytes, title, blocks))


def locked_pdf(name: str, title: str, password: str, *blocks: Block) -> Attachment:
    """A PDF that opens with a password only."""
    render = partial(pdf_bytes, title, blocks, password)
    return Attachment(name, "application/pdf", "encrypted-pdf", render)


def word(name: str, title: str, *blocks: Block) -> Attachment:
    """A Word document."""
    return Attachment(name, f"{_WORD}.wordprocessingml.document", "docx", partial(docx_bytes, title, blocks))


def workbook(name: str, sheets: Mapping[str, Sequence[Row]]) -> Attachment:
    """A spreadsheet."""
    return Attachment(name, f"{_WORD}.spreadsheetml.sheet", "xlsx", partial(xlsx_bytes, sheets))


def slides(name: str, *pages: tuple[str, Sequence[str], str]) -> Attachment:
    """A presentation."""
    return Attachment(name, f"{_WORD}.presentationml.presentation", "pptx", partial(pptx_bytes, pages))


def text(name: str, content: str, media_type: str = "text/plain", kind: str = "text") -> Attachment:
    """A text file of any kind, in UTF-8."""
    return Attachment(name, media_type, kind, partial(bytes, content, "utf-8"))


def table(name: str, *rows: str) -> Attachment:
    """A CSV file."""
    return text(name, "\n".join(rows) + "\n", "text/csv", "csv")


def event(name: str, uid: str, start: str, end: str, summary: str, place: str, about: str) -> Attachment:
    """A calendar entry; times as iCalendar writes them (UTC)."""
    lines = (
        "BEGIN:VCALENDAR",
        "VERSION:2.0",
        f"PRODID:-//{COMPANY}//EN",
        "BEGIN:VEVENT",
        f"UID:{uid}",
        "DTSTAMP:20250101T120000Z",
        f"DTSTART:{start}",
        f"DTEND:{end}",
        f"SUMMARY:{summary}",
        f"LOCATION:{place}",
        f"DESCRIPTION:{about}",
        "END:VEVENT",
        "END:VCALENDAR",
    )
    return text(name, "\r\n".join(lines) + "\r\n", "text/calendar", "ics")


def binary(name: str, content: bytes, kind: str = "binary") -> Attachment:
    """A file of no type that anybody reads."""
    return Attachment(name, "application/octet-stream", kind, partial(bytes, content))
