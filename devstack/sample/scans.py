"""Renders paper: scanned pages, photographs of receipts and whiteboards, the company's logo.

Everything is drawn with Pillow's own font, tilted a little and sprinkled with dust from a fixed seed, so
that it looks like a scan, reads like one, and is the same every time.
"""

import io
import random
from collections.abc import Sequence
from functools import partial

from PIL import Image, ImageDraw, ImageFilter, ImageFont

from devstack.sample.documents import new_pdf
from devstack.sample.model import Attachment

PAGE = (1240, 1754)  # A4 at 150 dots an inch


def page_image(
    lines: Sequence[str], seed: int, size: tuple[int, int] = PAGE, tilt: float = 0.6
) -> Image.Image:
    """A scanned sheet: one text line each; "# " makes a heading, an empty line a gap."""
    image = Image.new("L", size, 250)
    draw = ImageDraw.Draw(image)
    top = 130
    for line in lines:
        heading = line.startswith("# ")
        font = ImageFont.load_default(size=38 if heading else 27)
        draw.text((120, top), line.removeprefix("# "), font=font, fill=25)
        top += 30 if not line else 66 if heading else 44
    image = image.rotate(tilt, resample=Image.Resampling.BICUBIC, fillcolor=250)
    dust = random.Random(seed)
    draw = ImageDraw.Draw(image)
    for _ in range(220):
        x, y = dust.randrange(size[0]), dust.randrange(size[1])
        draw.ellipse((x, y, x + dust.randrange(3), y + dust.randrange(3)), fill=dust.choice((150, 190, 215)))
    # Few grey levels: a scan of text that packs well.
    return image.point(lambda value: value // 32 * 36)


def _encoded(image: Image.Image, form: str) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, form, **({"quality": 72} if form == "JPEG" else {"optimize": True}))
    return buffer.getvalue()


def _page_png(lines: Sequence[str], seed: int) -> bytes:
    return _encoded(page_image(lines, seed, tilt=-0.7), "PNG")


def _pages_pdf(pages: Sequence[Sequence[str]], seed: int) -> bytes:
    pdf = new_pdf()
    for number, lines in enumerate(pages):
        pdf.add_page()
        image = page_image(lines, seed + number, tilt=0.5 - number)
        pdf.image(io.BytesIO(_encoded(image, "PNG")), x=0, y=0, w=210, h=297)
    return bytes(pdf.output())


def _photo_jpeg(
    lines: Sequence[str], seed: int, paper: tuple[int, int, int], desk: tuple[int, int, int]
) -> bytes:
    """A sheet lying on a desk, or a board on a wall, photographed by hand under a lamp."""
    font = ImageFont.load_default(size=30)
    width, height = 900, 150 + 52 * len(lines)
    sheet = Image.new("RGB", (width, height), paper)
    draw = ImageDraw.Draw(sheet)
    for number, line in enumerate(lines):
        draw.text((70, 70 + 52 * number), line, font=font, fill=(38, 40, 60))
    whole = Image.new("RGB", (width + 160, height + 160), desk)
    whole.paste(sheet, (80, 80))
    whole = whole.rotate(1.1, resample=Image.Resampling.BICUBIC, fillcolor=desk)
    light = Image.radial_gradient("L").resize(whole.size).point(lambda value: value // 5)
    whole = Image.composite(Image.new("RGB", whole.size, (70, 66, 60)), whole, light)
    grain = random.Random(seed)
    draw = ImageDraw.Draw(whole)
    for _ in range(400):
        spot = (grain.randrange(whole.width), grain.randrange(whole.height))
        draw.point(spot, fill=(grain.randrange(120, 200),) * 3)
    return _encoded(whole.filter(ImageFilter.GaussianBlur(0.6)), "JPEG")


def _logo_png() -> bytes:
    image = Image.new("RGB", (220, 64), (255, 255, 255))
    draw = ImageDraw.Draw(image)
    draw.polygon([(10, 50), (32, 10), (54, 50)], fill=(18, 84, 120))
    draw.arc((4, 40, 62, 62), 0, 180, fill=(18, 84, 120), width=4)
    draw.text((74, 16), "Tidewell", font=ImageFont.load_default(size=30), fill=(18, 84, 120))
    return _encoded(image, "PNG")


def scanned_image(name: str, seed: int, *lines: str) -> Attachment:
    """A scanned sheet as PNG."""
    return Attachment(name, "image/png", "scan-image", partial(_page_png, lines, seed))


def scanned_pdf(name: str, seed: int, *pages: Sequence[str]) -> Attachment:
    """Scanned sheets as a PDF without a text layer."""
    return Attachment(name, "application/pdf", "scan-pdf", partial(_pages_pdf, pages, seed))


def receipt(name: str, seed: int, *lines: str) -> Attachment:
    """A photographed receipt on a wooden desk."""
    render = partial(_photo_jpeg, lines, seed, (246, 244, 236), (122, 92, 66))
    return Attachment(name, "image/jpeg", "photo", render)


def whiteboard(name: str, seed: int, *lines: str) -> Attachment:
    """A photographed whiteboard."""
    render = partial(_photo_jpeg, lines, seed, (250, 251, 252), (176, 182, 186))
    return Attachment(name, "image/jpeg", "photo", render)


LOGO = Attachment(
    "tidewell-logo.png", "image/png", "inline-image", _logo_png, content_id="logo@tidewell.example"
)
