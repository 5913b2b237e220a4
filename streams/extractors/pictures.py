"""What stands inside office files: which pictures a person could read something in, and files in base64."""

import base64
import binascii
import io

from PIL import Image, UnidentifiedImageError

from streams.decoration import seen_decoration
from streams.extractors import metafile
from streams.extractors.result import Document

# OLE, zip, PDF: documents, whatever else is embedded.
_DOCUMENTS = (b"\xd0\xcf\x11\xe0", b"PK\x03\x04", b"%PDF-")


def worth_reading(payload: bytes) -> bool:
    """Whether this is an image, and no logo; of a metafile, whether it writes anything."""
    if next(metafile.texts(payload), None) is not None:
        return True
    try:
        with Image.open(io.BytesIO(payload)) as image:
            return seen_decoration(*image.size, inline=True) is None
    except (UnidentifiedImageError, Image.DecompressionBombError, OSError, ValueError, SyntaxError):
        return False


def embed_base64(document: Document, text: str | None) -> None:
    """Read what a flat XML file holds in base64 as a child, where there is something to read. Raises
    ExtractionError over the caps."""
    try:
        payload = base64.b64decode("".join((text or "").split()))
    except (binascii.Error, ValueError):
        return
    document.budget.unpack(len(payload))
    if worth_reading(payload) or payload.startswith(_DOCUMENTS):
        document.embedded(payload)
