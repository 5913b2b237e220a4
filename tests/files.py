"""Small files that many tests read: a PDF, a picture of a text, a zip."""

import io
import zipfile

from fpdf import FPDF
from PIL import Image, ImageDraw, ImageFont


def pdf(*pages: str, password: str | None = None) -> bytes:
    """A page for each text."""
    document = FPDF()
    document.set_font("helvetica", size=14)
    for text in pages:
        document.add_page()
        document.multi_cell(0, 10, text)
    if password:
        document.set_encryption(owner_password=password, user_password=password)
    return bytes(document.output())


def picture(text: str, file_format: str = "PNG", size: tuple[int, int] = (1200, 300)) -> bytes:
    """A scan that OCR reads."""
    image, file = Image.new("RGB", size, "white"), io.BytesIO()
    ImageDraw.Draw(image).text((40, 100), text, fill="black", font=ImageFont.load_default(size=44))
    image.save(file, file_format)
    return file.getvalue()


def archive(*entries: tuple[str, bytes]) -> bytes:
    """A zip of these."""
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as opened:
        for name, payload in entries:
            opened.writestr(name, payload)
    return file.getvalue()
