"""Pictures inside office files: which of them a person could read something in."""

import io

from PIL import Image, UnidentifiedImageError

from streams.decoration import seen_decoration
from streams.extractors import metafile


def worth_reading(payload: bytes) -> bool:
    """Whether this is an image, and no logo; of a metafile, whether it writes anything."""
    if next(metafile.texts(payload), None) is not None:
        return True
    try:
        with Image.open(io.BytesIO(payload)) as image:
            return seen_decoration(*image.size, inline=True) is None
    except (UnidentifiedImageError, Image.DecompressionBombError, OSError, ValueError, SyntaxError):
        return False
