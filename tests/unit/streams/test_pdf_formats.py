"""PDF: its pages' text, and everything else in it that somebody may look for."""

import io

import pypdfium2
import pytest
from fpdf import FPDF
from PIL import Image, ImageDraw, ImageFont

from schemas.outcomes import Outcome
from streams.ephemeral import EphemeralAttachmentHandler
from tests.pdf_file import form, one_page, pdf_file, xfa
from tests.reading import SENTENCE, read

pytestmark = pytest.mark.asyncio(loop_scope="session")


def picture(text: str) -> Image.Image:
    image = Image.new("RGB", (1200, 300), "white")
    ImageDraw.Draw(image).text((40, 100), text, fill="black", font=ImageFont.load_default(size=44))
    return image


def book() -> bytes:
    """Three pages: text, a scan, text; with bookmarks, keywords, a link and an attached file."""
    document = FPDF()
    document.set_title("Harbour")
    document.set_author("Ada")
    document.set_subject("bollards of the harbour")
    document.set_keywords("derrick, gantry")
    document.set_font("helvetica", size=14)
    document.add_page()
    document.start_section("Chapter of cranes")
    document.multi_cell(0, 10, SENTENCE)
    document.add_page()
    document.image(picture("seven bollards rust"), w=180)
    document.add_page()
    document.multi_cell(0, 10, "the last page of all")
    document.embed_file(bytes=b"attached to the whole", basename="note.txt")
    return bytes(document.output())


async def test_everything_in_a_pdf_is_found(reader: EphemeralAttachmentHandler) -> None:
    found = await read(reader, book(), ocr=True)
    pages = {segment.page: segment.text for segment in found.root.segments if segment.page}
    assert SENTENCE in pages[1] and "bollards rust" in pages[2] and "last page" in pages[3]
    labels = {segment.label: segment.text for segment in found.root.segments if segment.label}
    assert labels == {
        "about": "bollards of the harbour\nderrick, gantry",
        "bookmarks": "Chapter of cranes",
        "files": "note.txt",
    }
    assert (found.root.metadata.title, found.root.metadata.author) == ("Harbour", "Ada")
    assert found.by_path["1"].text == "attached to the whole" and found.names == ["note.txt"]
    assert found.root.engines == ("pypdfium2", "pytesseract")
    without = await read(reader, book())
    assert without.root.outcome is Outcome.PENDING and SENTENCE in without.text


async def test_forms_notes_and_links(reader: EphemeralAttachmentHandler) -> None:
    found = await read(reader, form())
    for text in ("inspector: Ada Lovelace", "who looked at it", "derrick", "gantry", "jib", SENTENCE, "Ben"):
        assert text in found.root.text
    assert "https://example.com/bollards" in found.root.text
    assert (found.by_path["1"].text, found.names) == ("pinned to the page", ["pinned.txt"])


async def test_xfa_forms(reader: EphemeralAttachmentHandler) -> None:
    found = await read(reader, xfa())
    assert SENTENCE in found.text and "Lean of the wall" in found.text and "hidden" not in found.text


@pytest.mark.parametrize(("user", "outcome"), [("secret", Outcome.ENCRYPTED), ("", Outcome.TEXT)])
async def test_passwords(reader: EphemeralAttachmentHandler, user: str, outcome: Outcome) -> None:
    document = FPDF()
    document.set_font("helvetica", size=14)
    document.add_page()
    document.multi_cell(0, 10, SENTENCE)
    document.set_encryption(owner_password="owner", user_password=user)
    found = await read(reader, bytes(document.output()))
    assert found.root.outcome is outcome
    assert (SENTENCE in found.text) is (outcome is Outcome.TEXT)


@pytest.mark.parametrize("rotation", [90, 180, 270])
async def test_a_turned_page_reads_the_same(reader: EphemeralAttachmentHandler, rotation: int) -> None:
    assert SENTENCE in (await read(reader, one_page(SENTENCE, b"/Rotate %d" % rotation))).text


async def test_a_garbled_text_layer_counts_as_none(reader: EphemeralAttachmentHandler) -> None:
    # A font whose letters are given out as private characters, over a scan of what they are.
    scan = pypdfium2.PdfDocument.new()
    page = scan.new_page(612, 200)
    image = pypdfium2.PdfImage.new(scan)
    image.set_bitmap(pypdfium2.PdfBitmap.from_pil(picture("seven bollards rust")))
    image.set_matrix(pypdfium2.PdfMatrix().scale(600, 150))
    page.insert_obj(image)
    page.gen_content()
    file = io.BytesIO()
    scan.save(file)
    clean = await read(reader, file.getvalue())
    assert clean.root.outcome is Outcome.PENDING
    garbled = one_page("\x01\x02\x03\x04\x05" * 8)
    found = await read(reader, garbled)
    assert (found.root.outcome, found.text) == (Outcome.PENDING, "")
    assert "bollards rust" in (await read(reader, file.getvalue(), ocr=True)).text


async def test_a_tree_of_pages_that_loops_ends(reader: EphemeralAttachmentHandler) -> None:
    loop = pdf_file(
        {1: b"<< /Type /Catalog /Pages 2 0 R >>", 2: b"<< /Type /Pages /Kids [2 0 R 2 0 R] /Count 1000000 >>"}
    )
    assert (await read(reader, loop)).root.outcome in (Outcome.CORRUPT, Outcome.EMPTY, Outcome.TIMED_OUT)


async def test_cut_short(reader: EphemeralAttachmentHandler) -> None:
    whole = book()
    for part in (0.2, 0.5, 0.9):
        found = await read(reader, whole[: int(len(whole) * part)])
        assert found.root.outcome in (Outcome.CORRUPT, Outcome.TEXT, Outcome.PENDING, Outcome.EMPTY)
