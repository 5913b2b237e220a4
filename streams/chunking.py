"""Cut text into the pieces that are embedded: small enough for the model, each with its page."""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from schemas.registers import Segment

# The model reads 256 word pieces, about 150 English words with room for names and numbers.
CHUNK_WORDS = 150
# A sentence cut at a border stands whole in one of the two chunks.
OVERLAP_WORDS = 25
# A "word" longer than this is base64, a URL or a table without spaces; it would fill a chunk by itself.
MAX_WORD_CHARACTERS = 200

_WORD = re.compile(r"\S+")


@dataclass(frozen=True, slots=True)
class Chunk:
    """A piece of a document's text. ``ordinal`` counts from 0 over the whole document."""

    ordinal: int
    text: str
    page: int | None
    label: str | None


def chunk(segments: Sequence[Segment], max_chunks: int) -> tuple[list[Chunk], bool]:
    """The chunks of a document, and whether there were more than ``max_chunks``.

    A chunk does not cross a page: its page is where a person will find it.
    """
    chunks: list[Chunk] = []
    for segment in segments:
        for text in _windows(segment.text):
            if len(chunks) == max_chunks:
                return chunks, True
            chunks.append(Chunk(len(chunks), text, segment.page, segment.label))
    return chunks, False


def _windows(text: str) -> Iterator[str]:
    spans = [(match.start(), match.end()) for match in _WORD.finditer(text)]
    spans = [piece for span in spans for piece in _pieces(*span)]
    start = 0
    while start < len(spans):
        end = min(start + CHUNK_WORDS, len(spans))
        # The text between the first and the last word as it stands, line breaks and all.
        yield text[spans[start][0] : spans[end - 1][1]]
        if end == len(spans):
            return
        start = end - OVERLAP_WORDS


def _pieces(start: int, end: int) -> Iterator[tuple[int, int]]:
    for piece_start in range(start, end, MAX_WORD_CHARACTERS):
        yield piece_start, min(piece_start + MAX_WORD_CHARACTERS, end)
