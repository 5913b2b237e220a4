"""Chunks cover the text, stay on their page, and end."""

from hypothesis import given
from hypothesis import strategies as st

from schemas.registers import Segment
from streams.chunking import CHUNK_PIECES, chunk


@given(st.lists(st.text(alphabet="ab \n", max_size=3000), max_size=4))
def test_every_word_stands_in_a_chunk_of_its_page(texts: list[str]) -> None:
    segments = [Segment(text=text, page=number) for number, text in enumerate(texts, start=1)]
    chunks, more = chunk(segments, 10_000)
    assert not more
    for segment in segments:
        words = {word for piece in chunks if piece.page == segment.page for word in piece.text.split()}
        assert {word for word in segment.text.split() if len(word) <= 200} <= words
    assert [piece.ordinal for piece in chunks] == list(range(len(chunks)))
    assert all(len(piece.text.split()) <= CHUNK_PIECES for piece in chunks)


def test_neighbours_overlap() -> None:
    text = " ".join(f"w{number}" for number in range(400))
    chunks, _ = chunk([Segment(text=text)], 100)
    assert set(chunks[0].text.split()) & set(chunks[1].text.split())


def test_what_takes_many_word_pieces_makes_small_chunks() -> None:
    """The model cuts what is beyond its 256 pieces: nothing of a chunk may be lost so."""
    for text, characters in (("a-1/b.2,c " * 300, 400), ("漢" * 1000, 230), ("plain words " * 300, 1500)):
        chunks, _ = chunk([Segment(text=text)], 100)
        assert len(chunks) > 2
        assert max(len(piece.text) for piece in chunks) <= characters


def test_more_chunks_than_allowed_is_said() -> None:
    chunks, more = chunk([Segment(text="word " * 1000)], 2)
    assert (len(chunks), more) == (2, True)


def test_a_word_without_end_is_cut() -> None:
    chunks, _ = chunk([Segment(text="x" * 100_000)], 100)
    assert max(len(piece.text) for piece in chunks) <= 100_000
    assert len(chunks) > 1
