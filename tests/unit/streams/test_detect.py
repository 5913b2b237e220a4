"""Detection never fails, whatever the bytes are."""

from hypothesis import given
from hypothesis import strategies as st

from streams.extractors.detect import detect

BEGINNINGS = (
    b"",
    b"PK\x03\x04",
    b"%PDF-1.4\n",
    b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1",
    b"{\\rtf",
    b"<?xml",
    b"From ",
)


@given(st.sampled_from(BEGINNINGS), st.binary(max_size=600))
def test_any_bytes_have_a_type(beginning: bytes, rest: bytes) -> None:
    assert "/" in detect(beginning + rest, None, None)


@given(st.text("0123456789 \x00", min_size=8, max_size=8), st.binary(min_size=356, max_size=400))
def test_what_stands_where_a_tar_has_its_checksum_may_be_anything(checksum: str, rest: bytes) -> None:
    assert "/" in detect(b"x" * 148 + checksum.encode() + rest, None, None)
