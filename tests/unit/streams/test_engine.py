"""The ephemeral engine: every format gives its sentence, every bad document its outcome, nothing stays."""

import asyncio
import hashlib
import io
import os
import signal
import subprocess
import sys
import time
import zipfile
from collections.abc import AsyncIterator, Callable, Iterator
from email.message import EmailMessage
from pathlib import Path

import docx
import openpyxl
import pptx
import pytest
import pytest_asyncio
from fpdf import FPDF
from PIL import Image, ImageDraw, ImageFont

from schemas.outcomes import Outcome
from streams.ephemeral import AttachmentResult, EngineConfig, EphemeralAttachmentHandler
from streams.extractors.assembly import safe_name
from streams.extractors.limits import MEBIBYTE, Limits
from streams.parser_pool import PoolConfig
from tests.processes import descendants, program

pytestmark = pytest.mark.asyncio(loop_scope="module")

OLE = bytes.fromhex("d0cf11e0a1b11ae1")
SENTENCE = "the quay wall leans seven millimetres"


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("ephemeral")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def engine(directory: Path) -> AsyncIterator[EphemeralAttachmentHandler]:
    async with EphemeralAttachmentHandler(PoolConfig(directory)) as handler:
        yield handler


@pytest.fixture(autouse=True)
def nothing_stays(directory: Path) -> Iterator[None]:
    yield
    assert [path for path in directory.rglob("*") if not path.is_dir()] == []


def pdf(*pages: str, password: str | None = None) -> bytes:
    document = FPDF()
    document.set_font("helvetica", size=14)
    for text in pages:
        document.add_page()
        document.multi_cell(0, 10, text)
    if password:
        document.set_encryption(owner_password=password, user_password=password)
    return bytes(document.output())


def picture(text: str, file_format: str = "PNG", size: tuple[int, int] = (1200, 300)) -> bytes:
    image = Image.new("RGB", size, "white")
    ImageDraw.Draw(image).text((40, 100), text, fill="black", font=ImageFont.load_default(size=44))
    file = io.BytesIO()
    image.save(file, file_format)
    return file.getvalue()


def word(text: str) -> bytes:
    document, file = docx.Document(), io.BytesIO()
    document.core_properties.author = "Ada"
    document.add_heading("Minutes", 1)
    document.add_paragraph(text)
    table = document.add_table(rows=1, cols=2)
    table.rows[0].cells[0].text = "bollard"
    document.save(file)
    return file.getvalue()


def sheet(text: str) -> bytes:
    book, file = openpyxl.Workbook(write_only=True), io.BytesIO()
    book.create_sheet("Costs").append(["crane", 7])
    book.create_sheet("Tides").append([text, 42])
    book.save(file)
    return file.getvalue()


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


def archive(*entries: tuple[str, bytes]) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as opened:
        for name, payload in entries:
            opened.writestr(name, payload)
    return file.getvalue()


async def _read(
    engine: EphemeralAttachmentHandler,
    payload: bytes,
    name: str = "file",
    kind: str | None = None,
    ocr: bool = True,
) -> AttachmentResult:
    return await engine.process_attachment(payload, kind, filename=name, ocr=ocr)


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
        ("a.xlsx", lambda: sheet(SENTENCE), None, None),
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
    engine: EphemeralAttachmentHandler,
    name: str,
    make: Callable[[], bytes],
    kind: str | None,
    engine_name: str | None,
) -> None:
    result = await _read(engine, make(), name)
    assert result.outcome is Outcome.TEXT
    assert SENTENCE in " ".join(result.text.split())
    if kind:
        assert result.metadata.content_type == kind
    if engine_name:
        assert engine_name in result.engines


async def test_docx_is_read_by_unstructured(engine: EphemeralAttachmentHandler) -> None:
    result = await _read(engine, word(SENTENCE), "minutes.docx")
    assert result.engines == ("unstructured",)
    assert result.outcome is Outcome.TEXT
    assert SENTENCE in result.text
    assert "bollard" in result.text
    assert result.metadata.author == "Ada"


async def test_scan_is_read_by_pytesseract(engine: EphemeralAttachmentHandler) -> None:
    result = await _read(engine, picture(SENTENCE), "scan.png")
    assert result.engines == ("pytesseract",)
    assert SENTENCE in " ".join(result.text.split())


@pytest.mark.parametrize("name", ["scan.png", "scan.pdf"])
async def test_without_ocr_a_scan_waits(engine: EphemeralAttachmentHandler, name: str) -> None:
    payload = picture(SENTENCE, "PNG" if name.endswith("png") else "PDF")
    result = await _read(engine, payload, name, ocr=False)
    assert result.outcome is Outcome.PENDING
    assert result.metadata.sha256 is not None


async def test_text_keeps_its_page_slide_and_sheet(engine: EphemeralAttachmentHandler) -> None:
    paged = await _read(engine, pdf("first page", SENTENCE))
    assert [(s.page, s.text.strip()) for s in paged.segments] == [(1, "first page"), (2, SENTENCE)]
    assert paged.metadata.pages == 2
    shown = await _read(engine, slides(SENTENCE))
    assert [s.label for s in shown.segments if SENTENCE in s.text] == ["slide 2"]
    assert "said aloud" in shown.text
    tabled = await _read(engine, sheet(SENTENCE))
    assert [s.label for s in tabled.segments if SENTENCE in s.text] == ["sheet Tides"]


async def test_a_zip_and_a_mail_give_their_contents_as_children(engine: EphemeralAttachmentHandler) -> None:
    payload = archive(("a/", b""), ("a/plan.txt", b"north"), ("post.eml", mail(("w.docx", word("south")))))
    result = await _read(engine, payload, "all.zip")
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
        (lambda: word(SENTENCE)[:2000], Outcome.CORRUPT),
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
    engine: EphemeralAttachmentHandler, make: Callable[[], bytes], outcome: Outcome
) -> None:
    result = await _read(engine, make(), "thing")
    assert result.outcome is outcome
    assert (await _read(engine, SENTENCE.encode())).outcome is Outcome.TEXT


async def test_a_zip_in_a_zip_in_a_zip_ends(engine: EphemeralAttachmentHandler) -> None:
    payload = archive(("deep.txt", b"bottom"))
    for _ in range(20):
        payload = archive(("next.zip", payload))
    results = list((await _read(engine, payload, "bomb.zip")).walk())
    assert len(results) <= Limits().max_depth + 1
    assert results[-1].outcome is Outcome.LIMIT_EXCEEDED


async def test_a_picture_of_too_many_pixels_is_refused(directory: Path) -> None:
    config = EngineConfig(limits=Limits(max_pixels=10_000))
    async with EphemeralAttachmentHandler(PoolConfig(directory, processes=1), config) as handler:
        result = await _read(handler, picture("large"), "large.png")
    assert result.outcome is Outcome.LIMIT_EXCEEDED


async def test_a_parser_that_needs_too_much_memory_costs_its_document_only(directory: Path) -> None:
    config = PoolConfig(directory, processes=1, memory_bytes=64 * MEBIBYTE)
    file = io.BytesIO()
    Image.new("RGB", (9_000, 9_000), "white").save(file, "PNG")
    async with EphemeralAttachmentHandler(config) as handler:
        assert (await _read(handler, file.getvalue(), "huge.png")).outcome is Outcome.LIMIT_EXCEEDED
        assert (await _read(handler, SENTENCE.encode())).outcome is Outcome.TEXT


async def test_what_takes_too_long_is_killed_and_the_next_is_read(directory: Path) -> None:
    config = EngineConfig(deadline_seconds=0.0)
    async with EphemeralAttachmentHandler(PoolConfig(directory, processes=1), config) as handler:
        result = await _read(handler, word(SENTENCE), "slow.docx", ocr=False)
        assert result.outcome is Outcome.TIMED_OUT
        assert result.metadata.filename == "slow.docx"
        assert (await _read(handler, SENTENCE.encode())).outcome is Outcome.TEXT


async def test_a_parser_that_dies_costs_its_document_only(directory: Path) -> None:
    async with EphemeralAttachmentHandler(PoolConfig(directory, processes=1)) as handler:
        work = asyncio.create_task(_read(handler, picture(SENTENCE, size=(6_000, 6_000)), "big.png"))
        while not handler._pool._busy:  # noqa: ASYNC110 - nothing announces it
            await asyncio.sleep(0.01)
        os.kill(next(iter(handler._pool._busy)).pid, signal.SIGKILL)
        assert (await work).outcome is Outcome.LIMIT_EXCEEDED
        assert (await _read(handler, SENTENCE.encode())).outcome is Outcome.TEXT


async def test_a_scan_that_takes_too_long_leaves_no_file(directory: Path) -> None:
    config = EngineConfig(ocr_page_seconds=20.0)
    async with EphemeralAttachmentHandler(PoolConfig(directory, processes=1), config) as handler:
        work = asyncio.create_task(_read(handler, picture(SENTENCE, size=(6_000, 6_000)), "big.png"))
        while "tesseract" not in map(program, descendants()):  # noqa: ASYNC110 - nothing announces it
            await asyncio.sleep(0.01)
        work.cancel()
        with pytest.raises(asyncio.CancelledError):
            await work
        while "tesseract" in map(program, descendants()):  # noqa: ASYNC110 - it is dying
            await asyncio.sleep(0.01)
        assert [path for path in directory.rglob("*") if not path.is_dir()] == []


async def test_half_a_letter_costs_itself_only(engine: EphemeralAttachmentHandler) -> None:
    payload = archive(("a\ud800b.txt".encode("utf-8", "surrogatepass").decode("utf-8", "replace"), b"x"))
    listed = await _read(engine, payload, "\ud83dall.zip")
    json = await _read(engine, b'{"name": "\\ud83d' + SENTENCE.encode() + b'"}', "a.json")
    page = await _read(engine, f"<p>&#xD800;{SENTENCE}</p>".encode(), "a.html")
    for result in (listed, json, page):
        result.text.encode()
        (result.metadata.filename or "").encode()
    assert SENTENCE in json.text and SENTENCE in page.text
    assert listed.metadata.filename == "all.zip"


async def test_a_damaged_entry_costs_itself_only(engine: EphemeralAttachmentHandler) -> None:
    payload = bytearray(archive(("bad.txt", b"north " * 100), ("good.txt", SENTENCE.encode())))
    payload[39:49] = b"\xff" * 10
    result = await _read(engine, bytes(payload), "all.zip")
    assert [child.outcome for child in result.children] == [Outcome.CORRUPT, Outcome.TEXT]


@pytest.mark.parametrize("charset", ["iso2022_jp", "iso2022_kr", "hz", "utf-7", "shift_jis", "koi8-r"])
async def test_every_declared_charset_is_read(engine: EphemeralAttachmentHandler, charset: str) -> None:
    text = {"iso2022_kr": "안녕하세요", "hz": "你好世界", "koi8-r": "привет мир"}.get(charset, "日本語の文章")
    body = text.encode(charset)
    assert await engine.extract_body(body, "text/plain", charset) == text


async def test_parsers_are_replaced_after_some_documents(directory: Path) -> None:
    config = PoolConfig(directory, processes=1, jobs_per_process=2)
    async with EphemeralAttachmentHandler(config) as handler:
        pids = set()
        for _ in range(5):
            await _read(handler, b"text")
            pids |= {parser.pid for parser in handler._pool._idle}
    assert len(pids) >= 2


async def test_the_size_that_counts_is_the_one_received(directory: Path) -> None:
    read = 0

    async def blocks() -> AsyncIterator[bytes]:
        nonlocal read
        for _ in range(20):
            read += 1
            yield b"x" * 100_000

    config = EngineConfig(max_attachment_bytes=1_000_000)
    async with EphemeralAttachmentHandler(PoolConfig(directory, processes=1), config) as handler:
        lied = await handler.process_attachment(blocks(), "text/plain", declared_size_bytes=10)
        assert (lied.outcome, lied.skipped_reason) == (Outcome.TOO_LARGE, "too_large")
        assert lied.metadata.sha256 is None
        assert read == 11
        said = await handler.process_attachment(blocks(), "text/plain", declared_size_bytes=10**9)
        assert (said.outcome, said.metadata.size_bytes) == (Outcome.TOO_LARGE, 10**9)
        assert read == 11, "what says that it is too large is not read at all"
        whole = await handler.process_attachment(blocks_of(SENTENCE.encode()), "text/plain")
        assert whole.text == SENTENCE


async def blocks_of(payload: bytes) -> AsyncIterator[bytes]:
    for start in range(0, len(payload), 7):
        yield payload[start : start + 7]


async def test_content_decides_before_name_and_header(engine: EphemeralAttachmentHandler) -> None:
    result = await _read(engine, pdf(SENTENCE), "invoice.png", "image/png")
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
    engine: EphemeralAttachmentHandler, body: bytes, kind: str, charset: str | None, expected: str
) -> None:
    assert (await engine.extract_body(body, kind, charset)).strip() == expected


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


async def test_small_pictures_in_a_mails_text_are_skipped(engine: EphemeralAttachmentHandler) -> None:
    logo, pasted = picture("Quay", size=(128, 64)), picture(SENTENCE)
    pixel = picture("", "GIF", (1, 1))
    for payload, inline, reason in (
        (logo, True, "inline_image"),
        (logo, False, None),
        (pixel, False, "tracking_pixel"),
        (pasted, True, None),
    ):
        for ocr in (True, False):
            result = await engine.process_attachment(payload, "image/png", inline=inline, ocr=ocr)
            assert result.skipped_reason == reason
            assert (result.outcome is Outcome.SKIPPED) == bool(reason)
            assert result.metadata.inline is inline


async def test_metadata_is_complete(engine: EphemeralAttachmentHandler) -> None:
    payload = word(SENTENCE)
    found = (await _read(engine, payload, "../mi\u202enutes.docx", "application/pdf; x=y")).metadata
    assert (found.filename, found.raw_filename) == ("minutes.docx", "../mi\u202enutes.docx")
    assert found.declared_content_type == "application/pdf; x=y"
    assert found.content_type.endswith("wordprocessingml.document")
    assert (found.size_bytes, found.sha256) == (len(payload), hashlib.sha256(payload).hexdigest())
    assert (found.author, found.inline, found.truncated) == ("Ada", False, False)
    assert found.created and found.seconds is not None


async def test_bytes_that_dawdle_end_in_time(directory: Path) -> None:
    async def dawdling() -> AsyncIterator[bytes]:
        yield b"one"
        await asyncio.sleep(600)
        yield b"two"

    config = EngineConfig(receive_seconds=0.2)
    async with EphemeralAttachmentHandler(PoolConfig(directory, processes=1), config) as handler:
        result = await handler.process_attachment(dawdling(), "text/plain", filename="a.txt")
    assert (result.outcome, result.metadata.sha256) == (Outcome.TIMED_OUT, None)


async def test_no_parser_outlives_its_worker(directory: Path) -> None:
    script = (
        "import asyncio, sys\nfrom pathlib import Path\n"
        "from streams.ephemeral import EphemeralAttachmentHandler\n"
        "from streams.parser_pool import PoolConfig\n"
        "async def main():\n"
        "    async with EphemeralAttachmentHandler(PoolConfig(Path(sys.argv[1]))) as engine:\n"
        "        print(engine._pool._nursery.pid, engine._pool._idle[0].pid, flush=True)\n"
        "        await asyncio.sleep(600)\n"
        "asyncio.run(main())"
    )
    arguments = [sys.executable, "-c", script, str(directory)]
    worker = subprocess.Popen(arguments, stdout=subprocess.PIPE)  # noqa: ASYNC220 - starting takes no time
    assert worker.stdout is not None
    pids = [int(pid) for pid in worker.stdout.readline().split()]
    assert len(pids) == 2
    worker.kill()
    worker.wait()
    deadline = time.monotonic() + 20
    while _alive(pids) and time.monotonic() < deadline:  # noqa: ASYNC110 - the kernel sends no event
        await asyncio.sleep(0.1)
    assert not _alive(pids)


def _alive(pids: list[int]) -> list[int]:
    return [pid for pid in pids if Path(f"/proc/{pid}").exists()]
