"""Pictures of text, in every format, turned and small and pale, and in three languages."""

import io
from pathlib import Path

import pytest
from fpdf import FPDF
from PIL import ExifTags, Image, ImageDraw, ImageFont, ImageOps
from pillow_heif import register_heif_opener

from connectors.errors import ConfigurationError
from schemas.languages import analyzer_for, ocr_package
from schemas.outcomes import Outcome
from streams.ephemeral import EngineConfig, EphemeralAttachmentHandler
from streams.parser_pool import PoolConfig
from tests.reading import SENTENCE, Configured, read

pytestmark = pytest.mark.asyncio(loop_scope="session")

# Debian's fonts-wqy-microhei: the one font here that has Chinese letters.
CHINESE_FONT = Path("/usr/share/fonts/truetype/wqy/wqy-microhei.ttc")
GERMAN = "Die Kaimauer neigt sich um sieben Millimeter, prüfen Sie die größten Poller"
CHINESE = "岸墙倾斜了七毫米，请检查所有的系缆桩"
PAGE = (
    f"Report of the harbour office: {SENTENCE}.",
    "Please look at every bollard before Friday and send the results",
    "to the inspector of cranes, who will write to the owners.",
    "The penalty for late delivery is one thousand a day.",
)


def picture(
    *lines: str, size: int = 44, font: Path | None = None, paper: str = "white", ink: str = "black"
) -> Image.Image:
    letters = ImageFont.truetype(font, size) if font else ImageFont.load_default(size=size)
    width = round(max(letters.getlength(line) for line in lines)) + 80
    image = Image.new("RGB", (width, len(lines) * size * 2 + 80), paper)
    for number, line in enumerate(lines):
        ImageDraw.Draw(image).text((40, 40 + number * size * 2), line, fill=ink, font=letters)
    return image


def saved(image: Image.Image, form: str = "PNG", **options: object) -> bytes:
    file = io.BytesIO()
    image.save(file, form, **options)
    return file.getvalue()


@pytest.mark.parametrize("form", ["PNG", "JPEG", "TIFF", "BMP", "GIF", "WEBP", "AVIF", "HEIF", "JPEG2000"])
async def test_pictures_are_read(reader: EphemeralAttachmentHandler, form: str) -> None:
    register_heif_opener()
    found = await read(reader, saved(picture(SENTENCE), form), ocr=True)
    assert SENTENCE in found.text and found.root.engines == ("pytesseract",)
    assert (await read(reader, saved(picture(SENTENCE), form))).root.outcome is Outcome.PENDING


async def test_every_page_of_a_tiff_is_read(reader: EphemeralAttachmentHandler) -> None:
    payload = saved(
        picture(SENTENCE), "TIFF", save_all=True, append_images=[picture("bollard seven of nine")]
    )
    found = await read(reader, payload, ocr=True)
    assert [segment.page for segment in found.root.segments] == [1, 2]
    assert SENTENCE in found.root.segments[0].text and "bollard seven" in found.root.segments[1].text


@pytest.mark.parametrize("angle", [90, 180, 270])
async def test_a_page_on_its_side_is_turned(reader: EphemeralAttachmentHandler, angle: int) -> None:
    turned = picture(*PAGE, size=30).rotate(angle, expand=True)
    assert SENTENCE in (await read(reader, saved(turned), ocr=True)).text


async def test_the_camera_says_which_side_is_up(reader: EphemeralAttachmentHandler) -> None:
    image = picture(SENTENCE).rotate(90, expand=True)
    about = Image.Exif()
    about[ExifTags.Base.Orientation], about[ExifTags.Base.ImageDescription] = 6, "quay at low tide"
    found = await read(reader, saved(image, "JPEG", exif=about), ocr=True)
    assert SENTENCE in found.text and "quay at low tide" in found.text


@pytest.mark.parametrize(
    "image",
    [
        pytest.param(lambda: picture(SENTENCE, size=14), id="small"),
        pytest.param(lambda: picture(SENTENCE, paper="#999999", ink="#777777"), id="pale"),
        pytest.param(lambda: ImageOps.invert(picture(SENTENCE)), id="inverted"),
        pytest.param(lambda: picture(SENTENCE).rotate(2, fillcolor="white", expand=True), id="askew"),
        pytest.param(lambda: picture(SENTENCE).convert("1"), id="black and white"),
        pytest.param(lambda: picture(SENTENCE).convert("CMYK"), id="of a printer"),
    ],
)
async def test_pictures_are_made_readable(reader: EphemeralAttachmentHandler, image: object) -> None:
    made = image()  # type: ignore[operator]
    found = await read(reader, saved(made, "JPEG" if made.mode == "CMYK" else "PNG"), ocr=True)
    assert SENTENCE in found.text


async def test_half_a_picture_is_better_than_none(reader: EphemeralAttachmentHandler) -> None:
    whole = saved(picture(SENTENCE, *PAGE), "JPEG", quality=95)
    found = await read(reader, whole[: len(whole) * 2 // 3], ocr=True)
    assert SENTENCE in found.text and found.root.metadata.truncated


@pytest.fixture
def polyglot(configured: Configured) -> EphemeralAttachmentHandler:
    return configured(EngineConfig(languages=("eng", "deu", "chi_sim")))


def pdf(text: str) -> bytes:
    document = FPDF()
    document.add_font("wqy", fname=CHINESE_FONT)
    document.set_font("wqy", size=20)
    document.add_page()
    document.multi_cell(0, 12, text)
    return bytes(document.output())


@pytest.mark.parametrize("text", [SENTENCE, GERMAN, CHINESE])
async def test_three_languages_as_text_as_pdf_and_as_a_picture(
    polyglot: EphemeralAttachmentHandler, text: str
) -> None:
    assert (await read(polyglot, text.encode(), "note.txt")).text == text
    assert text in (await read(polyglot, pdf(text))).text.replace("-\n", "")
    assert text in (await read(polyglot, saved(picture(text, font=CHINESE_FONT, size=24)), ocr=True)).text


async def test_a_language_that_tesseract_lacks_is_said_at_start(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="tesseract-ocr-chi-tra-vert"):
        async with EphemeralAttachmentHandler(
            PoolConfig(tmp_path), EngineConfig(languages=("eng", "chi_tra_vert"))
        ):
            pass


async def test_a_language_decides_the_analyzer() -> None:
    assert analyzer_for(("eng",)) == "english" and analyzer_for(("deu", "eng")) == "german"
    assert analyzer_for(("eng", "chi_sim")) == "cjk" and analyzer_for(("isl",)) == "standard"
    assert ocr_package("chi_sim") == "tesseract-ocr-chi-sim"
