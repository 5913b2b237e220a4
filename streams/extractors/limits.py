"""What an attachment may cost: a cap at every layer, each with its reason."""

from dataclasses import dataclass

MEBIBYTE = 1024 * 1024


@dataclass(frozen=True, slots=True)
class Limits:
    """The caps of one extraction. Passing one ends the document with the outcome ``limit_exceeded``,
    or, for text and pages, with ``truncated``."""

    # A novel has a million characters; ten of them are a dump that nobody reads.
    max_characters: int = 5_000_000
    # The longest real report in public corpora has 2,300 pages.
    max_pages: int = 5_000
    # OCR takes seconds a page: fifteen minutes' worth.
    max_ocr_pages: int = 500
    # 100 megapixels are an A3 page at 600 dpi; a decompressed one takes 300 MB.
    max_pixels: int = 100_000_000
    # Mail in zip in mail happens; eight levels deep is a bomb.
    max_depth: int = 8
    max_entries: int = 1_000
    # Text compresses 20:1 at best; 200:1 is zeros.
    max_ratio: int = 200
    # All that an archive unpacks to, over all its levels.
    max_unpacked_bytes: int = 200 * MEBIBYTE
