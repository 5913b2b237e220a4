"""A body that comes in blocks is what the parser makes of the whole, wherever it is cut."""

import base64
import quopri

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from connectors.errors import NotFoundError
from connectors.imap.outline import Decoder, Reference
from schemas.mime import parse

_BYTES = st.binary(max_size=400)


def _base64(body: bytes) -> bytes:
    return base64.encodebytes(body).replace(b"\n", b"\r\n")


@given(
    st.one_of(
        st.tuples(st.just("base64"), _BYTES.map(_base64)),
        st.tuples(st.just("base64"), _BYTES.map(_base64).map(lambda coded: coded.rstrip(b"=\r\n"))),
        st.tuples(st.just("quoted-printable"), _BYTES.map(quopri.encodestring)),
        st.tuples(st.just("quoted-printable"), st.text("=\r\n aF0", max_size=60).map(str.encode)),
        st.tuples(st.just("8bit"), _BYTES),
        st.tuples(st.just("x-uuencode"), st.just(b"begin 644 a\n#86)C\n`\nend\n")),
    ),
    st.lists(st.integers(1, 50)),
)
@example(("base64", b"QUJD=="), [])
@example(("base64", b"QUI=QUJD"), [4])
def test_blocks_are_the_whole(coded: tuple[str, bytes], cuts: list[int]) -> None:
    encoding, text = coded
    decoder, decoded, rest = Decoder(encoding), b"", text
    for cut in cuts:
        decoded += decoder.feed(rest[:cut])
        rest = rest[cut:]
    decoded += decoder.feed(rest) + decoder.close()
    whole = parse(
        b"Content-Type: a/b\r\nContent-Transfer-Encoding: " + encoding.encode() + b"\r\n\r\n" + text
    )
    assert decoded == whole.body


def test_what_is_no_reference_is_not_found() -> None:
    assert Reference.of(str(Reference("f", 1, 2, "base64", "1.2"))) == ("f", 1, 2, "base64", "1.2")
    for text in ("", "a", "f.x.2.base64.1", "ANGjdJ8wx"):
        with pytest.raises(NotFoundError):
            Reference.of(text)
