"""Images by OCR: turned upright, in grey, large enough for tesseract."""

import io
import os
import warnings

import pytesseract
from PIL import Image, ImageOps, ImageSequence, UnidentifiedImageError

from schemas.outcomes import Outcome
from streams.decoration import seen_decoration
from streams.extractors.result import Document, ExtractionError

# tesseract wants letters of about 30 pixels; a screenshot's are 12. Small images are enlarged to this width.
_GOOD_WIDTH = 1_600
_MAX_ENLARGEMENT = 3.0
# Smaller ones are logos and tracking pixels: no text fits.
_MIN_SIDE = 16
OCR_LANGUAGE = "eng"
# The pool runs a parser a core; tesseract's own threads would only fight over them.
os.environ.setdefault("OMP_THREAD_LIMIT", "1")


def extract_image(document: Document) -> None:
    """Emit the text of every frame. Raises ExtractionError."""
    Image.MAX_IMAGE_PIXELS = document.limits.max_pixels
    with warnings.catch_warnings():
        warnings.simplefilter("error", Image.DecompressionBombWarning)
        try:
            with Image.open(io.BytesIO(document.payload)) as image:
                document.skipped_reason = seen_decoration(*image.size, document.inline)
                if document.skipped_reason is not None:
                    return
                if not document.ocr:
                    document.waits_for_ocr = True
                    return
                document.used("pytesseract")
                frames = getattr(image, "n_frames", 1)
                # An animation says the same in every frame; pages are what TIFF has.
                if image.format != "TIFF":
                    frames = 1
                document.facts["pages"] = frames
                document.truncated |= frames > document.limits.max_ocr_pages
                for number, frame in enumerate(ImageSequence.Iterator(image), start=1):
                    if number > min(frames, document.limits.max_ocr_pages):
                        break
                    upright = ImageOps.exif_transpose(frame)
                    document.text(
                        read_image(upright, document.limits.max_pixels), page=number if frames > 1 else None
                    )
                    document.progress()
        except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
            raise ExtractionError(Outcome.LIMIT_EXCEEDED) from error
        except UnidentifiedImageError as error:
            raise ExtractionError(Outcome.CORRUPT) from error


def read_image(image: Image.Image, max_pixels: int) -> str:
    """The text that tesseract sees. Raises ExtractionError where tesseract fails."""
    if min(image.size) < _MIN_SIDE:
        return ""
    if image.mode in ("RGBA", "LA", "PA") or "transparency" in image.info:
        # What is transparent is paper, not ink.
        flat = Image.new("RGBA", image.size, "white")
        flat.alpha_composite(image.convert("RGBA"))
        image = flat
    grey = _grey(image)
    room = (max_pixels / (grey.width * grey.height)) ** 0.5
    enlargement = min(_GOOD_WIDTH / grey.width, _MAX_ENLARGEMENT, room)
    if enlargement > 1.2:
        size = (round(grey.width * enlargement), round(grey.height * enlargement))
        grey = grey.resize(size, Image.Resampling.LANCZOS)
    try:
        text: str = pytesseract.image_to_string(ImageOps.autocontrast(grey), lang=OCR_LANGUAGE)
    except pytesseract.TesseractError as error:
        # Killed by a signal, mostly for want of memory; else it could not read what we drew for it.
        killed = isinstance(error.status, int) and error.status < 0
        raise ExtractionError(Outcome.LIMIT_EXCEEDED if killed else Outcome.CORRUPT) from error
    return text


def _grey(image: Image.Image) -> Image.Image:
    """Eight bits a pixel. Pillow clips deeper ones (white paper and grey ink are both above 255)."""
    if image.mode not in ("I", "F") and not image.mode.startswith("I;16"):
        return image.convert("L")
    deep = image.convert("F")
    low, high = deep.getextrema()
    scale = 255 / ((high - low) or 1)  # type: ignore[operator] # one channel: two numbers
    return deep.point(lambda value: value * scale - low * scale).convert("L")  # type: ignore[operator]
