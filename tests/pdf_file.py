"""PDF files written object by object, for what no writer of PDFs writes: forms, XFA, odd trees."""

PAGE_TEXT = b"BT /F 12 Tf 40 700 Td (%s) Tj ET"


def pdf_file(objects: dict[int, bytes], root: int = 1) -> bytes:
    """The file: each object's bytes by its number; ``root`` is the catalog's."""
    body, offsets = b"%PDF-1.7\n", {}
    for number, content in objects.items():
        offsets[number] = len(body)
        body += b"%d 0 obj\n%s\nendobj\n" % (number, content)
    size = max(objects) + 1
    table = b"".join(
        b"%010d 00000 n \n" % offsets[number] if number in offsets else b"0000000000 65535 f \n"
        for number in range(size)
    )
    trailer = b"trailer\n<< /Size %d /Root %d 0 R >>\nstartxref\n%d\n%%%%EOF\n" % (size, root, len(body))
    return body + b"xref\n0 %d\n" % size + table + trailer


def stream(data: bytes, entries: bytes = b"") -> bytes:
    """A stream object."""
    return b"<< /Length %d %s >>\nstream\n%s\nendstream" % (len(data), entries, data)


def one_page(text: str, page: bytes = b"", catalog: bytes = b"", **objects: bytes) -> bytes:
    """One page with a line of text; ``objects`` are further ones, by "n" and their number."""
    return pdf_file(
        {
            1: b"<< /Type /Catalog /Pages 2 0 R %s >>" % catalog,
            2: b"<< /Type /Pages /Kids [3 0 R] /Count 1 >>",
            3: b"<< /Type /Page /Parent 2 0 R /MediaBox [0 0 612 792] /Contents 4 0 R /Resources "
            b"<< /Font << /F 5 0 R >> >> %s >>" % page,
            4: stream(PAGE_TEXT % text.encode("latin-1")),
            5: b"<< /Type /Font /Subtype /Type1 /BaseFont /Helvetica >>",
            **{int(name[1:]): content for name, content in objects.items()},
        }
    )


def form() -> bytes:
    """A page with a text field, a choice, a note, a link and a file pinned to it."""

    def annotation(kind: bytes, entries: bytes) -> bytes:
        return b"<< /Type /Annot /Subtype /%s /Rect [40 600 200 620] %s >>" % (kind, entries)

    choice = b"/FT /Ch /Ff 131072 /T (crane) /V (derrick) /Opt [(derrick) (gantry) (jib)]"
    note = b"/T (Ben) /Contents (the quay wall leans seven millimetres)"
    return one_page(
        "please fill in",
        b"/Annots [10 0 R 11 0 R 12 0 R 13 0 R 14 0 R]",
        b"/AcroForm << /Fields [10 0 R 11 0 R] >>",
        n10=annotation(b"Widget", b"/FT /Tx /T (inspector) /V (Ada Lovelace) /TU (who looked at it)"),
        n11=annotation(b"Widget", choice),
        n12=annotation(b"Text", note),
        n13=annotation(b"Link", b"/A << /S /URI /URI (https://example.com/bollards) >>"),
        n14=annotation(b"FileAttachment", b"/FS 15 0 R"),
        n15=b"<< /Type /Filespec /F (pinned.txt) /UF (pinned.txt) /EF << /F 16 0 R >> >>",
        n16=stream(b"pinned to the page", b"/Type /EmbeddedFile"),
    )


def xfa() -> bytes:
    """What a form of Adobe's designer looks like to everybody else: a page that asks for another program."""
    caption = b"<caption><value><text>Lean of the wall</text></value></caption>"
    template = b'<template xmlns="urn:t"><field>%s</field><script>hidden()</script></template>' % caption
    data = b'<d:datasets xmlns:d="urn:d"><x>the quay wall leans seven millimetres</x></d:datasets>'
    return one_page(
        "Please wait...",
        b"",
        b"/AcroForm << /Fields [] /XFA [(template) 10 0 R (datasets) 11 0 R] >>",
        n10=stream(template),
        n11=stream(data),
    )
