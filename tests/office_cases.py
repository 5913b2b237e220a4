"""Office files with one known sentence each, and where in the file it stands."""

import re
from collections.abc import Callable

import docx
import openpyxl
import pptx

from streams.extractors import ole_file
from tests import office_files as made
from tests.files import pdf
from tests.reading import SENTENCE as S


def ole_1(payload: bytes) -> bytes:
    name = b"Word.Document.12\0"
    head = (0x501).to_bytes(4, "little") + (2).to_bytes(4, "little")
    names = len(name).to_bytes(4, "little") + name + bytes(8)
    return head + names + len(payload).to_bytes(4, "little") + payload


def rewritten(payload: bytes, old: str, new: str) -> bytes:
    parts = made.unzipped(payload)
    types = parts["[Content_Types].xml"]
    assert isinstance(types, bytes) and old.encode() in types
    return made.zipped({**parts, "[Content_Types].xml": types.replace(old.encode(), new.encode())})


def word_with_headers() -> bytes:
    document = docx.Document()
    document.sections[0].header.paragraphs[0].text = "above all"
    document.sections[0].footer.paragraphs[0].text = S
    return made.saved(document)


def word_with_comment() -> bytes:
    document = docx.Document()
    run = document.add_paragraph("body").add_run("here")
    document.add_comment(run, text=S, author="Ada")
    return made.saved(document)


def word_with_properties() -> bytes:
    document = docx.Document()
    document.add_paragraph("body")
    document.core_properties.keywords = S
    document.core_properties.title = "Quays"
    return made.saved(document)


def slides_with_notes() -> bytes:
    presentation = pptx.Presentation()
    for text in ("", S):
        slide = presentation.slides.add_slide(presentation.slide_layouts[5])
        slide.notes_slide.notes_text_frame.text = text
    return made.saved(presentation)


def sheet_with_phonetic() -> bytes:
    cell = '<c r="A1" t="s"><v>0</v></c>'
    strings = '<sst><si><t>東京</t><rPh sb="0" eb="2"><t>トウキョウ</t></rPh></si></sst>'
    parts = made.unzipped(made.workbook(A1="here"))
    sheet = parts["xl/worksheets/sheet1.xml"]
    assert isinstance(sheet, bytes)
    sheet, found = re.subn(rb"<c r=\"A1\".*</c>", cell.encode(), sheet)
    assert found
    payload = made.zipped({**parts, "xl/worksheets/sheet1.xml": sheet})
    return made.with_part(payload, "xl/workbook.xml", "sharedStrings", "xl/sharedStrings.xml", strings)


def sheet_with_link() -> bytes:
    book = openpyxl.Workbook()
    sheet = book.active
    assert sheet is not None
    sheet["A1"] = "log"
    sheet["A1"].hyperlink = "https://piles.example/7"
    return made.saved(book)


def sheet_with_comment() -> bytes:
    from openpyxl.comments import Comment

    book = openpyxl.Workbook()
    sheet = book.active
    assert sheet is not None
    sheet["A1"] = "log"
    sheet["A1"].comment = Comment(S, "Ada")
    assert sheet.oddHeader is not None and sheet.oddHeader.left is not None
    sheet.oddHeader.left.text = "header of piles"
    return made.saved(book)


DOCX = "word/document.xml"
MACRO = "application/vnd.ms-word.document.macroEnabled.main+xml"
TEMPLATE = "application/vnd.openxmlformats-officedocument.wordprocessingml.template.main+xml"
WORD_MAIN = "application/vnd.openxmlformats-officedocument.wordprocessingml.document.main+xml"
RTF_1251 = rb"{\rtf1\ansicpg1252{\fonttbl{\f0\fcharset0 A;}{\f1\fcharset204 A;}}\f1 \'ef\'f0\'e8\'f7\'e0\'eb}"
RTF_932 = rb"{\rtf1\ansi\ansicpg932{\fonttbl{\f0\fcharset128 MS Mincho;}}\f0 \'93\'8c\'8b\'9e}"

# What, the file, its sentence, and where that stands: page and label, path of the document.
CASES: dict[str, tuple[Callable[[], bytes], str, tuple[int | None, str | None], tuple[int, ...]]] = {
    "docx": (lambda: made.word(S), S, (None, None), ()),
    "docx footer": (word_with_headers, S, (None, "footer"), ()),
    "docx comment": (word_with_comment, S, (None, "comments"), ()),
    "docx keywords": (word_with_properties, S, (None, "properties"), ()),
    "docx text box": (lambda: made.word(extra=made.text_box(S)), S, (None, None), ()),
    "docx content control": (lambda: made.word(extra=made.content_control(S)), S, (None, None), ()),
    "docx footnote": (
        lambda: made.with_part(
            made.word(), DOCX, "footnotes", "word/footnotes.xml", made.notes("footnotes", S)
        ),
        S,
        (None, "footnotes"),
        (),
    ),
    "docx endnote": (
        lambda: made.with_part(made.word(), DOCX, "endnotes", "word/endnotes.xml", made.notes("endnotes", S)),
        S,
        (None, "endnotes"),
        (),
    ),
    "docx chart": (
        lambda: made.with_part(made.word(), DOCX, "chart", "word/charts/chart1.xml", made.chart(S, "4711")),
        S,
        (None, "chart"),
        (),
    ),
    "docx chart value": (
        lambda: made.with_part(made.word(), DOCX, "chart", "word/charts/chart1.xml", made.chart(S, "4711")),
        "4711",
        (None, "chart"),
        (),
    ),
    "docx diagram": (
        lambda: made.with_part(made.word(), DOCX, "diagramData", "word/diagrams/data1.xml", made.diagram(S)),
        S,
        (None, "diagram"),
        (),
    ),
    "docx link": (
        lambda: made.with_part(made.word(), DOCX, "hyperlink", "https://piles.example/7", b""),
        "https://piles.example/7",
        (None, "links"),
        (),
    ),
    "docx with macros": (lambda: rewritten(made.word(S), WORD_MAIN, MACRO), S, (None, None), ()),
    "docx template": (lambda: rewritten(made.word(S), WORD_MAIN, TEMPLATE), S, (None, None), ()),
    "docx in docx": (
        lambda: made.with_part(made.word(), DOCX, "package", "word/embeddings/a.docx", made.word(S)),
        S,
        (None, None),
        (1,),
    ),
    "pdf in an OLE package in a docx in a pptx": (
        lambda: made.with_part(
            made.slides("one"),
            "ppt/slides/slide1.xml",
            "package",
            "ppt/embeddings/b.docx",
            made.with_part(
                made.word(),
                DOCX,
                "oleObject",
                "word/embeddings/oleObject1.bin",
                made.ole_package("wall.pdf", pdf(S)),
            ),
        ),
        S,
        (1, None),
        (1, 1, 1),
    ),
    "pdf as the contents of an OLE object": (
        lambda: made.with_part(
            made.word(),
            DOCX,
            "oleObject",
            "word/embeddings/oleObject1.bin",
            ole_file.write({("CONTENTS",): pdf(S)}),
        ),
        S,
        (1, None),
        (1, 1),
    ),
    "html in a docx": (
        lambda: made.with_part(made.word(), DOCX, "aFChunk", "word/c.html", f"<html><p>{S}</p></html>"),
        S,
        (None, None),
        (1,),
    ),
    "pptx": (lambda: made.slides("one", S), S, (2, "slide 2"), ()),
    "pptx notes": (slides_with_notes, S, (2, "slide 2"), ()),
    "pptx chart": (
        lambda: made.with_part(
            made.slides("one", "two"),
            "ppt/slides/slide2.xml",
            "chart",
            "ppt/charts/c.xml",
            made.chart(S, "1"),
        ),
        S,
        (2, "slide 2, chart"),
        (),
    ),
    "pptx comment": (
        lambda: made.with_part(
            made.slides("one", "two"),
            "ppt/slides/slide2.xml",
            "comments",
            "ppt/comments/c.xml",
            f'<p:cmLst xmlns:p="p"><p:cm><p:text>{S}</p:text></p:cm></p:cmLst>',
        ),
        S,
        (2, "slide 2, comments"),
        (),
    ),
    "xlsx": (lambda: made.workbook(B7=S), S, (1, "sheet Piles"), ()),
    "xlsx phonetic": (sheet_with_phonetic, "トウキョウ", (1, "sheet Piles"), ()),
    "xlsx link": (sheet_with_link, "https://piles.example/7", (1, "sheet Sheet, links"), ()),
    "xlsx comment": (sheet_with_comment, S, (1, "sheet Sheet, comments"), ()),
    "xlsx header": (sheet_with_comment, "header of piles", (1, "sheet Sheet"), ()),
    "doc": (lambda: made.doc(S), S, (None, None), ()),
    "doc in eight bits": (lambda: made.doc(f"{S} – Käthe", wide=False), "Käthe", (None, None), ()),
    "doc footnote": (lambda: made.doc("body", footnote=S), S, (None, "footnotes"), ()),
    "doc link": (
        lambda: made.doc('see \x13 HYPERLINK "https://piles.example/7" \x14the log\x15'),
        "https://piles.example/7 the log",
        (None, None),
        (),
    ),
    "pdf in a doc": (lambda: made.doc("x", objects={"w.pdf": pdf(S)}), S, (1, None), (1, 1)),
    "ppt": (lambda: made.ppt("one", S), S, (2, "slide 2"), ()),
    "ppt notes": (lambda: made.ppt("one", notes_text=S), S, (1, "slide 1, notes"), ()),
    "doc in a ppt": (lambda: made.ppt("one", embedded=made.doc(S)), S, (None, None), (1,)),
    "xls": (lambda: made.xls(S, 1, "0"), S, (1, "sheet Bohrpfähle"), ()),
    "xls percent": (lambda: made.xls(S, 0.125, "0.0%"), "12.5%", (1, "sheet Bohrpfähle"), ()),
    "xls header": (lambda: made.xls(S, 1, "0"), "header of piles", (1, "sheet Bohrpfähle"), ()),
    "xls without a container": (lambda: made.bare_xls(S), S, (1, "sheet Piles"), ()),
    "xlsb": (lambda: made.xlsb(S, 0.125), S, (1, "sheet Piles"), ()),
    "xlsb percent": (lambda: made.xlsb(S, 0.125), "12.5%", (1, "sheet Piles"), ()),
    "emf in a docx": (
        lambda: made.with_part(made.word(), DOCX, "image", "word/media/image1.emf", made.emf(S)),
        S,
        (None, None),
        (1,),
    ),
    "sxw": (
        lambda: made.zipped(
            {
                "mimetype": "application/vnd.sun.xml.writer",
                "content.xml": made.flat_opendocument("text", f"<text:p>{S}</text:p>"),
            }
        ),
        S,
        (None, None),
        (),
    ),
    "rtf": (lambda: rb"{\rtf1\ansi " + S.encode() + b"}", S, (None, None), ()),
    "rtf unicode": (lambda: rb"{\rtf1\ansi\uc1 Stra\u223?e}", "Straße", (None, None), ()),
    "rtf in the font's code page": (lambda: RTF_1251, "причал", (None, None), ()),
    "rtf in a double-byte code page": (lambda: RTF_932, "東京", (None, None), ()),
    "rtf header": (lambda: rb"{\rtf1{\header " + S.encode() + rb"}body}", S, (None, "header"), ()),
    "rtf page": (lambda: rb"{\rtf1 one\page " + S.encode() + b"}", S, (2, None), ()),
    "rtf link": (
        lambda: rb'{\rtf1{\field{\*\fldinst HYPERLINK "https://piles.example/7"}{\fldrslt log}}}',
        "https://piles.example/7 log",
        (None, None),
        (),
    ),
    "docx in rtf": (
        lambda: rb"{\rtf1 x{\object\objemb{\*\objdata " + ole_1(made.word(S)).hex().encode() + b"}}}",
        S,
        (None, None),
        (1,),
    ),
    "odt": (lambda: made.opendocument("text", f"<text:p>{S}</text:p>"), S, (None, None), ()),
    "odt comment": (
        lambda: made.opendocument(
            "text", f"<text:p>x<office:annotation><text:p>{S}</text:p></office:annotation></text:p>"
        ),
        S,
        (None, "comments"),
        (),
    ),
    "odt page": (
        lambda: made.opendocument("text", f"<text:p>x<text:soft-page-break/>y</text:p><text:p>{S}</text:p>"),
        S,
        (2, None),
        (),
    ),
    "ods": (
        lambda: made.opendocument(
            "spreadsheet",
            f'<table:table table:name="Piles"><table:table-row><table:table-cell><text:p>{S}</text:p>'
            "</table:table-cell></table:table-row></table:table>",
        ),
        S,
        (1, "sheet Piles"),
        (),
    ),
    "odp": (
        lambda: made.opendocument(
            "presentation",
            f"<draw:page/><draw:page><draw:text-box><text:p>{S}</text:p></draw:text-box></draw:page>",
        ),
        S,
        (2, "slide 2"),
        (),
    ),
    "doc in odt": (
        lambda: made.opendocument("text", "<text:p>x</text:p>", {"Object 1": made.doc(S)}),
        S,
        (None, None),
        (1,),
    ),
    "fodt": (lambda: made.flat_opendocument("text", f"<text:p>{S}</text:p>").encode(), S, (None, None), ()),
    "epub": (lambda: made.epub("last", S), S, (1, "chapter 1"), ()),
    "flat WordprocessingML": (lambda: made.flat_word(S), S, (None, None), ()),
    "Word 2003 XML": (lambda: made.word_2003(S), S, (None, None), ()),
    "SpreadsheetML 2003": (lambda: made.spreadsheet_2003(S), S, (1, "sheet Piles"), ()),
    "SpreadsheetML 2003 link": (
        lambda: made.spreadsheet_2003(S), "https://piles.example/9", (1, "sheet Piles"), ()
    ),
}  # fmt: skip
