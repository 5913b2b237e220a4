"""The ephemeral engine: every format gives its sentence, every bad document its outcome, nothing stays."""

import hashlib
import io
from collections.abc import Callable, Iterator
from email.message import EmailMessage
from pathlib import Path

import pptx
import pytest

from schemas.outcomes import Outcome
from streams.ephemeral import EphemeralAttachmentHandler
from streams.extractors.assembly import safe_name
from streams.extractors.limits import MEBIBYTE, Limits
from tests.files import archive, pdf, picture
from tests.office_files import minutes, tides
from tests.reading import SENTENCE, result_of

pytestmark = pytest.mark.asyncio(loop_scope="session")

OLE = bytes.fromhex("d0cf11e0a1b11ae1")


@pytest.fixture(autouse=True)
def nothing_stays(reader_directory: Path) -> Iterator[None]:
    yield
    assert [path for path in reader_directory.rglob("*") if not path.is_dir()] == []


def slides(text: str) -> bytes:
    show, file = pptx.Presentation(), io.BytesIO()
    for title in ("First", text):
        show.slides.add_slide(show.slide_layouts[5]).shapes.title.text = title
    show.slides[1].notes_slide.notes_text_frame.text = "said aloud"
    show.save(file)
    return file.getvalue()


def mail(*attachments: tuple[str, bytes]) -> bytes:
    message = EmailMessage()
    message["Subject"], message["From"] = "Quay", "ada@example.com"
    message.set_content(SENTENCE)
    for name, payload in attachments:
        message.add_attachment(payload, maintype="application", subtype="octet-stream", filename=name)
    return message.as_bytes()


@pytest.mark.parametrize(
    ("name", "make", "kind", "engine_name"),
    [
        ("a.txt", lambda: SENTENCE.encode(), "text/plain", None),
        ("a.txt", lambda: ("\ufeff" + SENTENCE).encode("utf-16"), "text/plain", None),
        ("a.csv", lambda: f"n;text\n1;{SENTENCE}\n".encode(), "text/csv", None),
        ("a.json", lambda: f'{{"note": "{SENTENCE}"}}'.encode(), "application/json", None),
        ("a.xml", lambda: f"<note>{SENTENCE}</note>".encode(), "application/xml", None),
        (
            "a.html",
            lambda: f"<html><body><p>{SENTENCE}</p></body></html>".encode(),
            "text/html",
            "inscriptis",
        ),
        ("a.pdf", lambda: pdf(SENTENCE), "application/pdf", "pypdfium2"),
        ("a.pptx", lambda: slides(SENTENCE), None, "unstructured"),
        ("a.xlsx", lambda: tides(SENTENCE), None, None),
        ("a.jpg", lambda: picture(SENTENCE, "JPEG"), "image/jpeg", "pytesseract"),
        ("a.tiff", lambda: picture(SENTENCE, "TIFF"), "image/tiff", "pytesseract"),
        ("a.bmp", lambda: picture(SENTENCE, "BMP"), "image/bmp", "pytesseract"),
        ("a.webp", lambda: picture(SENTENCE, "WEBP"), "image/webp", "pytesseract"),
        ("a.gif", lambda: picture(SENTENCE, "GIF"), "image/gif", "pytesseract"),
        ("a.pdf", lambda: picture(SENTENCE, "PDF"), "application/pdf", "pytesseract"),
        ("a.eml", lambda: mail(), "message/rfc822", None),
    ],
)
async def test_every_format_gives_its_sentence(
    reader: EphemeralAttachmentHandler,
    name: str,
    make: Callable[[], bytes],
    kind: str | None,
    engine_name: str | None,
) -> None:
    result = await result_of(reader, make(), name)
    assert result.outcome is Outcome.TEXT
    assert SENTENCE in " ".join(result.text.split())
    if kind:
        assert result.metadata.content_type == kind
    if engine_name:
        assert engine_name in result.engines


async def test_docx_is_read_by_unstructured(reader: EphemeralAttachmentHandler) -> None:
    result = await result_of(reader, minutes(SENTENCE), "minutes.docx")
    assert result.engines == ("unstructured",)
    assert result.outcome is Outcome.TEXT
    assert SENTENCE in result.text
    assert "bollard" in result.text
    assert result.metadata.author == "Ada"


async def test_scan_is_read_by_pytesseract(reader: EphemeralAttachmentHandler) -> None:
    result = await result_of(reader, picture(SENTENCE), "scan.png")
    assert result.engines == ("pytesseract",)
    assert SENTENCE in " ".join(result.text.split())


@pytest.mark.parametrize("name", ["scan.png", "scan.pdf"])
async def test_without_ocr_a_scan_waits(reader: EphemeralAttachmentHandler, name: str) -> None:
    payload = picture(SENTENCE, "PNG" if name.endswith("png") else "PDF")
    result = await result_of(reader, payload, name, ocr=False)
    assert result.outcome is Outcome.PENDING
    assert result.metadata.sha256 is not None


async def test_text_keeps_its_page_slide_and_sheet(reader: EphemeralAttachmentHandler) -> None:
    paged = await result_of(reader, pdf("first page", SENTENCE))
    assert [(s.page, s.text.strip()) for s in paged.segments] == [(1, "first page"), (2, SENTENCE)]
    assert paged.metadata.pages == 2
    shown = await result_of(reader, slides(SENTENCE))
    assert [s.label for s in shown.segments if SENTENCE in s.text] == ["slide 2"]
    assert "said aloud" in shown.text
    tabled = await result_of(reader, tides(SENTENCE))
    assert [s.label for s in tabled.segments if SENTENCE in s.text] == ["sheet Tides"]


async def test_a_zip_and_a_mail_give_their_contents_as_children(reader: EphemeralAttachmentHandler) -> None:
    payload = archive(("a/", b""), ("a/plan.txt", b"north"), ("post.eml", mail(("w.docx", minutes("south")))))
    result = await result_of(reader, payload, "all.zip")
    assert result.outcome is Outcome.CONTAINER
    found = {item.path: (item.outcome, item.metadata.filename) for item in result.walk()}
    assert found == {
        (): (Outcome.CONTAINER, "all.zip"),
        (1,): (Outcome.TEXT, "plan.txt"),
        (2,): (Outcome.TEXT, "post.eml"),
        (2, 1): (Outcome.TEXT, "w.docx"),
    }
    assert "south" in result.children[1].children[0].text


@pytest.mark.parametrize(
    ("make", "outcome"),
    [
        (lambda: b"", Outcome.EMPTY),
        (lambda: b"  \n ", Outcome.EMPTY),
        (lambda: pdf("x", password="secret"), Outcome.ENCRYPTED),
        (lambda: pdf(SENTENCE)[:300], Outcome.CORRUPT),
        (lambda: minutes(SENTENCE)[:2000], Outcome.CORRUPT),
        (lambda: picture(SENTENCE)[:50], Outcome.CORRUPT),
        (lambda: bytes(range(256)) * 20, Outcome.UNSUPPORTED),
        (lambda: b"\x1f\x8b" + bytes(100), Outcome.CORRUPT),
        (lambda: OLE + bytes(600), Outcome.CORRUPT),
        (lambda: OLE + bytes(600) + "EncryptedPackage".encode("utf-16-le"), Outcome.ENCRYPTED),
        (lambda: archive(("zeros", bytes(50 * MEBIBYTE))), Outcome.LIMIT_EXCEEDED),
        (lambda: archive(*((f"{n}.txt", b"x") for n in range(1100))), Outcome.LIMIT_EXCEEDED),
    ],
)
async def test_bad_documents_have_named_ends(
    reader: EphemeralAttachmentHandler, make: Callable[[], bytes], outcome: Outcome
) -> None:
    result = await result_of(reader, make(), "thing")
    assert result.outcome is outcome
    assert (await result_of(reader, SENTENCE.encode())).outcome is Outcome.TEXT


async def test_a_zip_in_a_zip_in_a_zip_ends(reader: EphemeralAttachmentHandler) -> None:
    payload = archive(("deep.txt", b"bottom"))
    for _ in range(20):
        payload = archive(("next.zip", payload))
    results = list((await result_of(reader, payload, "bomb.zip")).walk())
    assert len(results) <= Limits().max_depth + 1
    assert results[-1].outcome is Outcome.LIMIT_EXCEEDED


async def test_half_a_letter_costs_itself_only(reader: EphemeralAttachmentHandler) -> None:
    payload = archive(("a\ud800b.txt".encode("utf-8", "surrogatepass").decode("utf-8", "replace"), b"x"))
    listed = await result_of(reader, payload, "\ud83dall.zip")
    json = await result_of(reader, b'{"name": "\\ud83d' + SENTENCE.encode() + b'"}', "a.json")
    page = await result_of(reader, f"<p>&#xD800;{SENTENCE}</p>".encode(), "a.html")
    for result in (listed, json, page):
        result.text.encode()
        (result.metadata.filename or "").encode()
    assert SENTENCE in json.text and SENTENCE in page.text
    assert listed.metadata.filename == "all.zip"


async def test_a_damaged_entry_costs_itself_only(reader: EphemeralAttachmentHandler) -> None:
    payload = bytearray(archive(("bad.txt", b"north " * 100), ("good.txt", SENTENCE.encode())))
    payload[39:49] = b"\xff" * 10
    result = await result_of(reader, bytes(payload), "all.zip")
    assert [child.outcome for child in result.children] == [Outcome.CORRUPT, Outcome.TEXT]


@pytest.mark.parametrize("charset", ["iso2022_jp", "iso2022_kr", "hz", "utf-7", "shift_jis", "koi8-r"])
async def test_every_declared_charset_is_read(reader: EphemeralAttachmentHandler, charset: str) -> None:
    text = {"iso2022_kr": "안녕하세요", "hz": "你好世界", "koi8-r": "привет мир"}.get(charset, "日本語の文章")
    body = text.encode(charset)
    assert await reader.extract_body(body, "text/plain", charset) == text


async def test_content_decides_before_name_and_header(reader: EphemeralAttachmentHandler) -> None:
    result = await result_of(reader, pdf(SENTENCE), "invoice.png", "image/png")
    assert (result.metadata.content_type, result.outcome) == ("application/pdf", Outcome.TEXT)
    assert result.metadata.declared_content_type == "image/png"


@pytest.mark.parametrize(
    ("body", "kind", "charset", "expected"),
    [
        ("Fähre".encode("latin-1"), "text/plain", "iso-8859-1", "Fähre"),
        ("Fähre".encode("latin-1"), "text/plain", "utf-8", "Fähre"),
        ("Fähre".encode(), "text/plain", "us-ascii", "Fähre"),
        ("Fähre".encode("latin-1"), "text/plain", "x-nobody-knows", "Fähre"),
        (b"<p>Hello <b>quay</b></p><script>no()</script>", "text/html", None, "Hello quay"),
        (b"<div>" * 5_000 + b"deep", "text/html", None, "deep"),
    ],
)
async def test_no_charset_and_no_markup_loses_a_body(
    reader: EphemeralAttachmentHandler, body: bytes, kind: str, charset: str | None, expected: str
) -> None:
    assert (await reader.extract_body(body, kind, charset)).strip() == expected


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("../../etc/passwd", "passwd"),
        ("C:\\temp\\plan.pdf", "plan.pdf"),
        ("in\u202egpj.exe", "ingpj.exe"),
        ("a\x00b.txt", "ab.txt"),
        ("x" * 4096 + ".pdf", ("x" * 4096 + ".pdf")[-255:]),
        ("\x00\u202e", None),
        ("", None),
        (None, None),
    ],
)
async def test_names_are_shown_without_their_tricks(name: str | None, shown: str | None) -> None:
    assert safe_name(name) == shown


async def test_small_pictures_in_a_mails_text_are_skipped(reader: EphemeralAttachmentHandler) -> None:
    logo, pasted = picture("Quay", size=(128, 64)), picture(SENTENCE)
    pixel = picture("", "GIF", (1, 1))
    for payload, inline, reason in (
        (logo, True, "inline_image"),
        (logo, False, None),
        (pixel, False, "tracking_pixel"),
        (pasted, True, None),
    ):
        for ocr in (True, False):
            result = await reader.process_attachment(payload, "image/png", inline=inline, ocr=ocr)
            assert result.skipped_reason == reason
            assert (result.outcome is Outcome.SKIPPED) == bool(reason)
            assert result.metadata.inline is inline


async def test_metadata_is_complete(reader: EphemeralAttachmentHandler) -> None:
    payload = minutes(SENTENCE)
    found = (await result_of(reader, payload, "../mi\u202enutes.docx", "application/pdf; x=y")).metadata
    assert (found.filename, found.raw_filename) == ("minutes.docx", "../mi\u202enutes.docx")
    assert found.declared_content_type == "application/pdf; x=y"
    assert found.content_type.endswith("wordprocessingml.document")
    assert (found.size_bytes, found.sha256) == (len(payload), hashlib.sha256(payload).hexdigest())
    assert (found.author, found.inline, found.truncated) == ("Ada", False, False)
    assert found.created and found.seconds is not None
