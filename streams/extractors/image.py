"""Images by OCR: as they are, or turned upright, cleared and enlarged where tesseract is not sure."""

import io
import os
import re
import tempfile
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from PIL import ExifTags, Image, ImageFile, ImageOps, ImageSequence, UnidentifiedImageError

from connectors.absent import absent
from schemas.outcomes import Outcome
from streams.decoration import seen_decoration
from streams.extractors.result import Document, ExtractionError

# pytesseract takes pandas where it is, for results as tables, which nobody here asks for.
with absent("pandas"):
    import pytesseract

# tesseract wants letters of about 30 pixels; a screenshot's are 12. Small images are enlarged to this width.
_GOOD_WIDTH = 1_600
_MAX_ENLARGEMENT = 2.0
# Smaller ones are logos and tracking pixels: no text fits.
_MIN_SIDE = 16
# Text that lies on its side is read as noise, of which tesseract is not sure: only then is it worth asking
# how the page is turned (a second or two).
_SURE_CONFIDENCE = 70.0
# A few words have the confidence of chance.
_SURE_WORDS = 4
_DESCRIPTIONS = (
    *(ExifTags.Base.ImageDescription, ExifTags.Base.Artist, ExifTags.Base.Copyright, ExifTags.Base.XPTitle),
    *(ExifTags.Base.XPSubject, ExifTags.Base.XPComment, ExifTags.Base.XPAuthor, ExifTags.Base.XPKeywords),
)
_NAMED_DESCRIPTIONS = ("Title", "Author", "Description", "Comment", "comment")
# tesseract sets spaces between the characters of languages that have none.
_CJK = r"[\u3000-\u30ff\u3400-\u9fff\uff00-\uffef]"
_UNSPACED = re.compile(f"(?<={_CJK}) (?={_CJK})")
# The pool runs a parser a core; tesseract's own threads would only fight over them.
os.environ.setdefault("OMP_THREAD_LIMIT", "1")


@dataclass(frozen=True, slots=True)
class _Reading:
    text: str
    words: int
    confidence: float  # 0 to 100, the mean over the letters

    @property
    def is_sure(self) -> bool:
        return self.words >= _SURE_WORDS and self.confidence >= _SURE_CONFIDENCE


def extract_image(document: Document) -> None:
    """Emit the text of every frame, and what the file says of itself. Raises ExtractionError."""
    if document.content_type in ("image/heic", "image/avif"):
        import pillow_heif

        pillow_heif.register_heif_opener()
    try:
        _read_frames(document)
    except UnidentifiedImageError as error:
        raise ExtractionError(Outcome.CORRUPT) from error
    except OSError:
        # Cut short: the upper part of a page is better than nothing.
        ImageFile.LOAD_TRUNCATED_IMAGES = True
        document.truncated = True
        try:
            _read_frames(document)
        finally:
            ImageFile.LOAD_TRUNCATED_IMAGES = False
        if not document.characters:
            raise ExtractionError(Outcome.CORRUPT) from None


def _read_frames(document: Document) -> None:
    limits = document.limits
    Image.MAX_IMAGE_PIXELS = limits.max_pixels
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
                # An animation says the same in every frame; pages are what TIFF has.
                frames = getattr(image, "n_frames", 1) if image.format == "TIFF" else 1
                document.facts["pages"] = frames
                document.truncated |= frames > limits.max_ocr_pages
                for number, frame in enumerate(ImageSequence.Iterator(image), start=1):
                    if number > min(frames, limits.max_ocr_pages):
                        break
                    upright = ImageOps.exif_transpose(frame)
                    text = read_image(upright, limits.max_pixels, document.languages)
                    document.text(text, page=number if frames > 1 else None)
                    document.progress()
                document.text("\n".join(_descriptions(image)), label="description")
        except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
            raise ExtractionError(Outcome.LIMIT_EXCEEDED) from error


def _descriptions(image: Image.Image) -> Iterator[str]:
    """What the camera or its owner wrote into the file."""
    found: list[Any] = [image.getexif().get(tag) for tag in _DESCRIPTIONS]
    found += [image.info.get(name) for name in _NAMED_DESCRIPTIONS]
    for value in found:
        if isinstance(value, bytes):
            # Windows writes its own fields in UTF-16.
            value = value.decode("utf-16-le" if b"\x00" in value else "utf-8", "ignore")
        if isinstance(value, str) and value.strip("\x00 "):
            yield value.strip("\x00 ")


def read_image(image: Image.Image, max_pixels: int, languages: str) -> str:
    """The text that tesseract sees; ``languages`` as it takes them ("eng+deu"). Raises ExtractionError where
    tesseract fails."""
    if min(image.size) < _MIN_SIDE:
        return ""
    # As it is first: tesseract tells ink from paper by all colours better than by their mean.
    reading = _recognised(_flat(image), languages)
    if reading.is_sure:
        return reading.text
    prepared = _enlarged(_clear(image), max_pixels)
    reading = max(reading, _recognised(prepared, languages), key=lambda one: one.confidence)
    if reading.is_sure:
        return reading.text
    for angle in _turns(prepared):
        turned = _recognised(prepared.rotate(angle, expand=True), languages)
        if turned.confidence * turned.words > reading.confidence * reading.words or turned.is_sure:
            return turned.text
    return reading.text


def _flat(image: Image.Image) -> Image.Image:
    """Eight bits a channel, on white paper."""
    if image.mode in ("RGBA", "LA", "PA") or "transparency" in image.info:
        # What is transparent is paper, not ink.
        flat = Image.new("RGBA", image.size, "white")
        flat.alpha_composite(image.convert("RGBA"))
        return flat.convert("RGB")
    return image if image.mode == "RGB" else _grey(image) if _is_grey(image) else image.convert("RGB")


def _is_grey(image: Image.Image) -> bool:
    return image.mode in ("1", "L", "I", "F") or image.mode.startswith("I;16")


def _clear(image: Image.Image) -> Image.Image:
    """Black on white, in eight bits of grey."""
    return ImageOps.autocontrast(_grey(_flat(image)))


def _enlarged(grey: Image.Image, max_pixels: int) -> Image.Image:
    """With letters of a size that tesseract was trained on."""
    room = (max_pixels / (grey.width * grey.height)) ** 0.5
    enlargement = min(_GOOD_WIDTH / grey.width, _MAX_ENLARGEMENT, room)
    if enlargement > 1.2:
        size = (round(grey.width * enlargement), round(grey.height * enlargement))
        return grey.resize(size, Image.Resampling.LANCZOS)
    return grey


def _grey(image: Image.Image) -> Image.Image:
    """Eight bits a pixel. Pillow clips deeper ones (white paper and grey ink are both above 255)."""
    if image.mode not in ("I", "F") and not image.mode.startswith("I;16"):
        return image.convert("L")
    deep = image.convert("F")
    low, high = deep.getextrema()
    scale = 255 / ((high - low) or 1)  # type: ignore[operator] # one channel: two numbers
    return deep.point(lambda value: value * scale - low * scale).convert("L")  # type: ignore[operator]


def _recognised(grey: Image.Image, languages: str) -> _Reading:
    found = _tesseract(pytesseract.image_to_data, grey, lang=languages, output_type=pytesseract.Output.DICT)
    lines: dict[tuple[int, int, int], list[str]] = {}
    letters, confidence = 0, 0.0
    keys = zip(found["block_num"], found["par_num"], found["line_num"], strict=True)
    for place, word, sure in zip(keys, found["text"], found["conf"], strict=True):
        if str(word).strip():
            lines.setdefault(place, []).append(str(word))
            letters += len(str(word))
            confidence += len(str(word)) * float(sure)
    return _Reading(
        text="\n".join(_UNSPACED.sub("", " ".join(words)) for words in lines.values()),
        words=sum(map(len, lines.values())),
        confidence=confidence / max(letters, 1),
    )


def _turns(grey: Image.Image) -> list[int]:
    """By how many degrees to turn the page counter-clockwise, as tesseract sees it."""
    try:
        found = _tesseract(pytesseract.image_to_osd, grey, output_type=pytesseract.Output.DICT)
    except ExtractionError:
        return []  # too few letters to tell
    turn = -int(found["rotate"]) % 360
    return [turn] if turn else []


def _tesseract(call: Any, grey: Image.Image, **options: Any) -> Any:
    # Given a picture, pytesseract compresses it first: a second for a page. TMPDIR is in memory.
    with tempfile.NamedTemporaryFile(prefix="tess_", suffix=".pnm") as file:
        grey.save(file, "PPM")
        file.flush()
        try:
            return call(file.name, **options)
        except pytesseract.TesseractError as error:
            # Killed by a signal, mostly for want of memory; else it could not read what we drew for it.
            killed = isinstance(error.status, int) and error.status < 0
            raise ExtractionError(Outcome.LIMIT_EXCEEDED if killed else Outcome.CORRUPT) from error
