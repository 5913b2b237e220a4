"""Small office files of every kind, made here: by libraries where there are some, byte by byte where not."""

import io
import struct
import zipfile
from typing import Any

import docx
import openpyxl
import pptx
import xlwt
from docx.oxml import parse_xml

from streams.extractors import ole_file

W = 'xmlns:w="http://schemas.openxmlformats.org/wordprocessingml/2006/main"'
A = 'xmlns:a="http://schemas.openxmlformats.org/drawingml/2006/main"'
_RELATIONS = "http://schemas.openxmlformats.org/officeDocument/2006/relationships"
_HEAD = '<?xml version="1.0" encoding="UTF-8"?>'


def saved(document: Any) -> bytes:
    file = io.BytesIO()
    document.save(file)
    return file.getvalue()


def zipped(parts: dict[str, str | bytes]) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in parts.items():
            # formats that are zips are known by this entry, as long as it is not compressed
            archive.writestr(name, data, zipfile.ZIP_STORED if name == "mimetype" else None)
    return file.getvalue()


def unzipped(payload: bytes) -> dict[str, str | bytes]:
    with zipfile.ZipFile(io.BytesIO(payload)) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def with_part(payload: bytes, main: str, relation: str, target: str, data: str | bytes) -> bytes:
    """A package with one more part, which ``main`` refers to; a URL as ``target`` stands for itself."""
    parts = unzipped(payload)
    folder, _, base = main.rpartition("/")
    name = f"{folder}/_rels/{base}.rels" if folder else f"_rels/{base}.rels"
    empty = f'{_HEAD}<Relationships xmlns="http://schemas.openxmlformats.org/package/2006/relationships"/>'
    relations = parts.get(name, empty)
    relations = relations.decode() if isinstance(relations, bytes) else relations
    outside = "://" in target
    where = f'"{target}" TargetMode="External"' if outside else f'"/{target}"'
    node = f'<Relationship Id="new" Type="{_RELATIONS}/{relation}" Target={where}/>'
    if "/>" in relations and "</Relationships>" not in relations:
        relations = relations.replace("/>", "></Relationships>")
    parts[name] = relations.replace("</Relationships>", f"{node}</Relationships>")
    if not outside:
        parts[target] = data
    return zipped(parts)


def word(text: str = "body", extra: str | None = None) -> bytes:
    """A DOCX; ``extra`` is XML of WordprocessingML that is put behind the text."""
    document = docx.Document()
    document.add_paragraph(text)
    if extra:
        document.element.body.insert(1, parse_xml(extra))
    return saved(document)


def minutes(text: str) -> bytes:
    """A DOCX with an author, a heading and a table."""
    document = docx.Document()
    document.core_properties.author = "Ada"
    document.add_heading("Minutes", 1)
    document.add_paragraph(text)
    document.add_table(rows=1, cols=2).rows[0].cells[0].text = "bollard"
    return saved(document)


def tides(text: str) -> bytes:
    """An XLSX of two sheets, its texts in the cells themselves."""
    book = openpyxl.Workbook(write_only=True)
    book.create_sheet("Costs").append(["crane", 7])
    book.create_sheet("Tides").append([text, 42])
    return saved(book)


def slides(*texts: str) -> bytes:
    presentation = pptx.Presentation()
    for text in texts:
        slide = presentation.slides.add_slide(presentation.slide_layouts[5])
        slide.shapes.title.text = text
    return saved(presentation)


def workbook(**cells: Any) -> bytes:
    book = openpyxl.Workbook()
    sheet = book.active
    assert sheet is not None
    sheet.title = "Piles"
    for address, value in cells.items():
        sheet[address] = value
    return saved(book)


def text_box(text: str) -> str:
    box = f"<w:txbxContent><w:p><w:r><w:t>{text}</w:t></w:r></w:p></w:txbxContent>"
    shape = f'<v:shape xmlns:v="urn:schemas-microsoft-com:vml"><v:textbox>{box}</v:textbox></v:shape>'
    return f"<w:p {W}><w:r><w:pict>{shape}</w:pict></w:r></w:p>"


def content_control(text: str) -> str:
    return f"<w:sdt {W}><w:sdtContent><w:p><w:r><w:t>{text}</w:t></w:r></w:p></w:sdtContent></w:sdt>"


def chart(title: str, value: str) -> str:
    c = "http://schemas.openxmlformats.org/drawingml/2006/chart"
    heading = f"<c:title><c:tx><c:rich><a:p><a:r><a:t>{title}</a:t></a:r></a:p></c:rich></c:tx></c:title>"
    point = f'<c:pt idx="0"><c:v>{value}</c:v></c:pt>'
    series = f"<c:ser><c:val><c:numRef><c:numCache>{point}</c:numCache></c:numRef></c:val></c:ser>"
    return f'{_HEAD}<c:chartSpace xmlns:c="{c}" {A}><c:chart>{heading}{series}</c:chart></c:chartSpace>'


def diagram(text: str) -> str:
    dgm = "http://schemas.openxmlformats.org/drawingml/2006/diagram"
    point = f"<dgm:pt><dgm:t><a:p><a:r><a:t>{text}</a:t></a:r></a:p></dgm:t></dgm:pt>"
    return f'{_HEAD}<dgm:dataModel xmlns:dgm="{dgm}" {A}><dgm:ptLst>{point}</dgm:ptLst></dgm:dataModel>'


def notes(kind: str, text: str) -> str:
    one = kind.removesuffix("s")
    return (
        f'{_HEAD}<w:{kind} {W}><w:{one} w:id="2"><w:p><w:r><w:t>{text}</w:t></w:r></w:p></w:{one}></w:{kind}>'
    )


def native(name: str, payload: bytes) -> bytes:
    """An ``Ole10Native`` stream."""
    path = f"C:\\{name}".encode() + b"\0"
    body = b"\2\0" + name.encode() + b"\0" + path + b"\0\0\3\0" + struct.pack("<I", len(path)) + path
    body += struct.pack("<I", len(payload)) + payload
    return struct.pack("<I", len(body)) + body


def ole_package(name: str, payload: bytes) -> bytes:
    return ole_file.write({("\x01Ole10Native",): native(name, payload)})


def doc(
    text: str, *, footnote: str = "", wide: bool = True, objects: dict[str, bytes] | None = None
) -> bytes:
    """A Word 97 file with one piece of text, and embedded objects in its pool."""
    whole = text + "\r" + footnote
    start = 0x600
    head = bytearray(start)
    struct.pack_into("<HH", head, 0, 0xA5EC, 0xC1)
    struct.pack_into("<H", head, 0x0A, 0x0200)
    struct.pack_into("<II", head, 0x4C, len(text) + 1, len(footnote))
    where = start if wide else start * 2 | 0x40000000
    pieces = struct.pack("<IIHIH", 0, len(whole), 0, where, 0)
    clx = b"\2" + struct.pack("<I", len(pieces)) + pieces
    struct.pack_into("<II", head, 0x1A2, 0, len(clx))
    encoded = whole.encode("utf-16-le" if wide else "cp1252")
    streams: ole_file.Streams = {("WordDocument",): bytes(head) + encoded, ("1Table",): clx}
    for name, payload in (objects or {}).items():
        streams[("ObjectPool", f"_{len(streams)}", "\x01Ole10Native")] = native(name, payload)
    return ole_file.write(streams)


def ppt(*slide_texts: str, notes_text: str = "", embedded: bytes = b"") -> bytes:
    """A PowerPoint 97 file; texts stand in the outline, the notes in a container of their own."""

    def record(kind: int, body: bytes, version: int = 0) -> bytes:
        return struct.pack("<HHI", version, kind, len(body)) + body

    outline = b""
    for number, text in enumerate(slide_texts, start=1):
        outline += record(1011, struct.pack("<IIiII", number, 0, 0, 255 + number, 0))
        outline += record(4000, text.encode("utf-16-le"))
    data = record(1000, record(4080, outline, 0xF), 0xF)
    if notes_text:
        atom = record(1009, struct.pack("<II", 256, 0))
        data += record(1008, atom + record(4008, notes_text.encode("latin-1")), 0xF)
    if embedded:
        data += record(4113, embedded)
    return ole_file.write({("PowerPoint Document",): data, ("Current User",): b"\0" * 20})


def xls(text: str, number: float, number_format: str) -> bytes:
    book = xlwt.Workbook()
    sheet = book.add_sheet("Bohrpfähle")
    sheet.write(0, 0, text)
    sheet.write(0, 1, number, xlwt.easyxf(num_format_str=number_format))
    sheet.write(1, 0, xlwt.Formula('HYPERLINK("https://piles.example/7";"the log")'))
    sheet.set_header_str(b"&Lheader of piles")
    return saved(book)


def bare_xls(text: str) -> bytes:
    """The stream of a workbook without the container around it."""
    book = xlwt.Workbook()
    book.add_sheet("Piles").write(0, 0, text)
    return bytes(book.get_biff_data())


def xlsb(text: str, number: float) -> bytes:
    def record(kind: int, body: bytes) -> bytes:
        head = bytes([kind]) if kind < 0x80 else bytes([kind & 0x7F | 0x80, kind >> 7])
        return head + bytes([len(body) & 0x7F | 0x80, len(body) >> 7]) + body

    def counted(text: str) -> bytes:
        return struct.pack("<I", len(text)) + text.encode("utf-16-le")

    types = '<Types xmlns="http://schemas.openxmlformats.org/package/2006/content-types"/>'
    formats = record(44, struct.pack("<H", 200) + counted("0.0%"))
    formats += record(617, b"\1\0\0\0") + record(47, struct.pack("<HH12x", 0, 200)) + record(618, b"")
    cells = record(0, bytes(17)) + record(7, struct.pack("<III", 0, 0, 0))
    cells += record(5, struct.pack("<IId", 1, 0, number))
    package = zipped({"[Content_Types].xml": types})
    book = record(156, struct.pack("<II", 0, 1) + counted("new") + counted("Piles"))
    package = with_part(package, "", "officeDocument", "xl/workbook.bin", book)
    package = with_part(package, "xl/workbook.bin", "worksheet", "xl/worksheets/sheet1.bin", cells)
    strings = {"xl/sharedStrings.bin": record(19, b"\0" + counted(text)), "xl/styles.bin": formats}
    return zipped({**unzipped(package), **strings})


def emf(text: str) -> bytes:
    def record(kind: int, body: bytes) -> bytes:
        return struct.pack("<II", kind, len(body) + 8) + body

    header = record(1, bytes(32) + b" EMF" + bytes(64))
    written = struct.pack("<II", len(text), 76).rjust(44, b"\0").ljust(68, b"\0") + text.encode("utf-16-le")
    return header + record(84, written) + record(14, bytes(12))


def opendocument(kind: str, body: str, extra: dict[str, str | bytes] | None = None) -> bytes:
    return zipped(
        {
            "mimetype": f"application/vnd.oasis.opendocument.{kind}",
            "content.xml": flat_opendocument(kind, body),
            **(extra or {}),
        }
    )


def flat_opendocument(kind: str, body: str) -> str:
    names = "office text table draw presentation xlink dc"
    spaces = " ".join(
        f'xmlns:{name}="urn:oasis:names:tc:opendocument:xmlns:{name}:1.0"' for name in names.split()
    )
    spaces = spaces.replace("urn:oasis:names:tc:opendocument:xmlns:xlink:1.0", "http://www.w3.org/1999/xlink")
    body = f"<office:body><office:{kind}>{body}</office:{kind}></office:body>"
    return f"{_HEAD}<office:document {spaces}>{body}</office:document>"


def epub(*chapters: str) -> bytes:
    items = "".join(f'<item id="c{n}" href="c{n}.xhtml"/>' for n in range(len(chapters)))
    spine = "".join(f'<itemref idref="c{n}"/>' for n in reversed(range(len(chapters))))
    container = '<container><rootfiles><rootfile full-path="OPS/book.opf"/></rootfiles></container>'
    opf = f"<package><metadata/><manifest>{items}</manifest><spine>{spine}</spine></package>"
    pages = {
        f"OPS/c{n}.xhtml": f"{_HEAD}<html><body><p>{text}</p></body></html>"
        for n, text in enumerate(chapters)
    }
    return zipped(
        {
            "mimetype": "application/epub+zip",
            "META-INF/container.xml": container,
            "OPS/book.opf": opf,
            **pages,
        }
    )


def flat_word(text: str) -> bytes:
    pkg = "http://schemas.microsoft.com/office/2006/xmlPackage"
    body = f"<w:document {W}><w:body><w:p><w:r><w:t>{text}</w:t></w:r></w:p></w:body></w:document>"
    part = f'<pkg:part pkg:name="/word/document.xml"><pkg:xmlData>{body}</pkg:xmlData></pkg:part>'
    program = '<?mso-application progid="Word.Document"?>'
    return f'{_HEAD}{program}<pkg:package xmlns:pkg="{pkg}">{part}</pkg:package>'.encode()


def word_2003(text: str) -> bytes:
    w = 'xmlns:w="http://schemas.microsoft.com/office/word/2003/wordml"'
    body = f"<w:body><w:p><w:r><w:t>{text}</w:t></w:r></w:p></w:body>"
    return f"{_HEAD}<w:wordDocument {w}>{body}</w:wordDocument>".encode()


def spreadsheet_2003(text: str) -> bytes:
    ss = "urn:schemas-microsoft-com:office:spreadsheet"
    cell = f'<Cell ss:HRef="https://piles.example/9"><Data ss:Type="String">{text}</Data></Cell>'
    sheet = f'<Worksheet ss:Name="Piles"><Table><Row>{cell}</Row></Table></Worksheet>'
    return f'{_HEAD}<Workbook xmlns="{ss}" xmlns:ss="{ss}">{sheet}</Workbook>'.encode()
