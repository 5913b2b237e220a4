"""Pictures that only decorate a mail, told from those that say something.

A logo stands in the text of the mail and is small; a tracking pixel has no room for anything. A screenshot
that somebody pasted stands in the text too, and is large: it is read like any attachment.
"""

import re

from schemas import mime

INLINE_IMAGE, TRACKING_PIXEL = "inline_image", "tracking_pixel"
# An encoded picture of a single pixel: 35 to 120 bytes in every format.
_PIXEL_BYTES = 256
# One line of a screenshot takes 2.3 kB as PNG, more as anything else.
_LOGO_BYTES = 2 * 1024
_PIXEL_SIDE = 2
# 128 by 128, or 256 by 64. Two lines of a screenshot have more.
_LOGO_PIXELS = 16_384
_REFERENCE = re.compile(rb"cid:([^\"'<>\s)]+)", re.IGNORECASE)


def inline_paths(root: mime.Part) -> set[str]:
    """The part paths of what is shown in the mail's text: said so, or referred to from its HTML."""
    leaves = mime.walk(root)
    referred = {
        reference.decode("utf-8", "replace")
        for leaf in leaves
        if leaf.part.content_type == "text/html" and leaf.part.body
        for reference in _REFERENCE.findall(leaf.part.body)
    }
    return {
        leaf.path
        for leaf in leaves
        if leaf.part.disposition == "inline" or (leaf.part.content_id or "") in referred
    }


def known_decoration(content_type: str, size_bytes: int | None, inline: bool) -> str | None:
    """The reason to skip a picture, as far as its metadata tells, before anything is downloaded."""
    if not inline or not content_type.startswith("image/") or not size_bytes:
        return None
    if size_bytes <= _PIXEL_BYTES:
        return TRACKING_PIXEL
    return INLINE_IMAGE if size_bytes <= _LOGO_BYTES else None


def seen_decoration(width: int, height: int, inline: bool) -> str | None:
    """The reason to skip a picture of this size in pixels."""
    if max(width, height) <= _PIXEL_SIDE:
        return TRACKING_PIXEL
    return INLINE_IMAGE if inline and width * height <= _LOGO_PIXELS else None
