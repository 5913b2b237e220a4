"""Every office format gives its known sentence, with its place, wherever in the file it stands."""

import io
import re
import zipfile
from collections.abc import Callable
from typing import Any

import docx
import openpyxl
import pptx
import pytest

from schemas.outcomes import Outcome
from streams.extractors import number_format, ole_file, partition
from streams.extractors.limits import Limits
from streams.extractors.result import Budget, Document
from tests import office_files as made
from tests.reading import extracted

S = "the quay wall leans seven millimetres"


class Read:
    """What an extraction emitted."""

    def __init__(self, payload: bytes, filename: str | None = None, limits: Limits | None = None) -> None:
        self.records = extracted(payload, filename, limits)

    def text(self, path: tuple[int, ...] = ()) -> str:
        return "\n".join(r["text"] for r in self.records if r["type"] == "segment" and r["path"] == path)

    def place(self, sentence: str, path: tuple[int, ...] = ()) -> tuple[int | None, str | None]:
        for record in self.records:
            if record["type"] == "segment" and record["path"] == path and sentence in record["text"]:
                return record["page"], record["label"]
        raise AssertionError(f"{sentence!r} is not in {self.records}")

    def closed(self, path: tuple[int, ...] = ()) -> dict[str, Any]:
        [record] = [r for r in self.records if r["type"] == "close" and r["path"] == path]
        return record

    @property
    def paths(self) -> list[tuple[int, ...]]:
        return [record["path"] for record in self.records if record["type"] == "open"]


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
                made.ole_package("wall.pdf", made.pdf(S)),
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
            ole_file.write({("CONTENTS",): made.pdf(S)}),
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
    "pdf in a doc": (lambda: made.doc("x", objects={"w.pdf": made.pdf(S)}), S, (1, None), (1, 1)),
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


def ole_1(payload: bytes) -> bytes:
    name = b"Word.Document.12\0"
    head = (0x501).to_bytes(4, "little") + (2).to_bytes(4, "little")
    names = len(name).to_bytes(4, "little") + name + bytes(8)
    return head + names + len(payload).to_bytes(4, "little") + payload


@pytest.mark.parametrize("name", CASES)
def test_every_format_gives_its_sentence_where_it_stands(name: str) -> None:
    build, sentence, place, path = CASES[name]
    read = Read(build())
    assert read.place(sentence, path) == place
    assert read.closed(path)["outcome"] == Outcome.TEXT


@pytest.mark.parametrize("kind", ["docx", "pptx"])
def test_unstructured_reads_the_body_of_office_files(kind: str) -> None:
    payload = {"docx": made.word(S), "pptx": made.slides(S)}[kind]
    assert "unstructured" in Read(payload).closed()["engines"]


def test_what_unstructured_said_is_not_said_again() -> None:
    text = Read(made.word(S)).text()
    assert text.count(S) == 1


@pytest.mark.parametrize("kind", ["docx", "pptx", "xlsx"])
def test_where_unstructured_fails_the_text_is_read_all_the_same(
    kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("streams.extractors.ooxml.partition", lambda *_: [])
    payload = {"docx": made.word(S), "pptx": made.slides(S), "xlsx": made.workbook(A1=S)}[kind]
    assert S in Read(payload).text()


def test_numbers_are_read_as_a_sheet_shows_them() -> None:
    book = openpyxl.Workbook()
    sheet = book.active
    assert sheet is not None
    sheet["A1"], sheet["A1"].number_format = 0.125, "0.00%"
    sheet["A2"], sheet["A2"].number_format = 45000, "yyyy\\-mm\\-dd"
    sheet["A3"], sheet["A3"].number_format = 1192, "#,##0"
    text = Read(made.saved(book)).text()
    assert "12.50%" in text and "2023-03-15" in text
    assert "1,192\t1192" in text, "people look for either"


@pytest.mark.parametrize(
    ("value", "code", "shown"),
    [
        (1234.5, "#,##0.00", "1,234.50"),
        (-3, "0;(0)", "(3)"),
        (2.5, "General", "2.5"),
        (1e20, None, "1E+20"),
        (0.5, "h:mm", "12:00"),
        (45000.75, "d/m/yy h:mm AM/PM", "15/3/23 6:00 PM"),
        (60, "d", "29"),
        (1.5, "[h]:mm", "36:00:00"),
        (7, '0" piles"', "7 piles"),
        (5, "[$€-407] 0.0", "€ 5.0"),
        (0.5, "# ?/?", "0.5"),
        (3, "\\", "3"),
        (1e300, "yyyy", "1E+300"),
    ],
)
def test_number_formats(value: float, code: str | None, shown: str) -> None:
    if code == "d":  # the day that never was
        assert number_format.shown(value, code) in ("28", "29")
    else:
        assert number_format.shown(value, code) == shown


def test_an_encrypted_file_is_named_so() -> None:
    assert Read(ole_file.write({("EncryptedPackage",): b"x" * 5000})).closed()["outcome"] == Outcome.ENCRYPTED
    manifest = {"META-INF/manifest.xml": "<m:encryption-data xmlns:m='m'/>"}
    sealed = made.opendocument("text", "<text:p>x</text:p>", dict(manifest))
    assert Read(sealed).closed()["outcome"] == Outcome.ENCRYPTED


def test_a_workbook_under_the_password_that_everybody_knows_is_read() -> None:
    from msoffcrypto.format.ooxml import OOXMLFile

    sealed = io.BytesIO()
    OOXMLFile(io.BytesIO(made.workbook(A1=S))).encrypt("VelvetSweatshop", sealed)
    read = Read(sealed.getvalue())
    assert S in read.text((1,))
    sealed = io.BytesIO()
    OOXMLFile(io.BytesIO(made.workbook(A1=S))).encrypt("another", sealed)
    assert Read(sealed.getvalue()).closed()["outcome"] == Outcome.ENCRYPTED


@pytest.mark.parametrize("kind", ["docx", "odt", "epub", "xlsx"])
def test_a_file_that_lost_its_end_keeps_what_it_has(kind: str) -> None:
    payload = {
        "docx": lambda: made.word(S),
        "xlsx": lambda: made.workbook(A1=S),
        "odt": lambda: made.opendocument("text", f"<text:p>{S}</text:p>"),
        "epub": lambda: made.epub(S),
    }[kind]()
    with zipfile.ZipFile(io.BytesIO(payload)) as archive:
        directory = archive.start_dir
    read = Read(payload[:directory])
    assert S in read.text()
    assert read.closed()["truncated"]


@pytest.mark.parametrize("name", CASES)
def test_a_truncated_file_ends_in_an_outcome(name: str) -> None:
    payload = CASES[name][0]()
    read = Read(payload[: len(payload) * 2 // 3])
    assert Outcome(read.closed()["outcome"])


def test_entities_are_not_expanded() -> None:
    bomb = '<!DOCTYPE x [<!ENTITY a "lollollol"><!ENTITY b "&a;&a;&a;&a;&a;&a;&a;&a;">]>'
    for payload in (
        made.flat_word("&b;").replace(b"<?mso", bomb.encode() + b"<?mso"),
        made.flat_opendocument("text", "<text:p>&b;</text:p>")
        .replace("<office:document ", bomb + "<office:document ")
        .encode(),
        made.with_part(made.word(), DOCX, "chart", "word/charts/c.xml", bomb + "<c><t>&b;</t></c>"),
    ):
        assert "lollollol" not in Read(payload).text()


def test_nested_office_files_end_at_the_depth_limit() -> None:
    payload = made.word(S)
    for _ in range(12):
        payload = made.with_part(made.word(), DOCX, "package", "word/embeddings/a.docx", payload)
    read = Read(payload)
    assert max(map(len, read.paths)) == Limits().max_depth


def test_a_part_that_unpacks_to_a_memory_full_is_not_unpacked() -> None:
    bomb = made.with_part(made.word(), DOCX, "chart", "word/charts/c.xml", b" " * 60_000_000)
    read = Read(bomb)
    assert read.closed()["outcome"] == Outcome.LIMIT_EXCEEDED


def test_an_ole_file_of_ours_reads_back() -> None:
    streams = {("a",): b"1" * 5000, ("b", "c"): b"2" * 70_000, ("b", "dd"): b"3", ("e",): b""}
    document = Document(
        (), ole_file.write(streams), None, None, None, False, Budget(Limits()), lambda _: None
    )
    found = ole_file.read(document)
    assert {path: data.rstrip(b"\0") for path, data in found.items()} == streams


def test_the_tokenizers_of_ours_are_in_place() -> None:
    from unstructured.partition import text_type

    assert vars(text_type)["sent_tokenize"]("One. Two.") == ["One.", "Two."]
    assert partition.partition is not None
