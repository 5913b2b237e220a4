"""Detection never fails, whatever the bytes are."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streams.extractors import ole_file
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


@pytest.mark.parametrize(
    ("path", "content_type"),
    [
        (("WordDocument",), "application/msword"),
        (("WORKBOOK",), "application/vnd.ms-excel"),
        (("Book",), "application/vnd.ms-excel"),
        (("PowerPoint Document",), "application/vnd.ms-powerpoint"),
        (("ObjectPool", "WordDocument"), "application/x-ole-storage"),  # embedded in something else
        (("EncryptedPackage",), "application/x-ole-storage"),
    ],
)
def test_ole_containers_are_told_apart_by_what_lies_at_their_root(
    path: tuple[str, ...], content_type: str
) -> None:
    container = ole_file.write({path: b"x" * 5_000})
    assert detect(container, "report.doc", None) == content_type
    assert detect(container[:3_000], None, None) in {content_type, "application/x-ole-storage"}
