"""What strangers can send: the fuzzer's promises under Hypothesis, what it has found so far, and the time
that the worst takes. ``python -m tests.fuzz`` looks for more."""

import time
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from connectors.gmail.message import from_json
from schemas import mime
from streams.extractors.charsets import codec_name, decode_surely
from tests.fuzz import NAMES, seeds
from tests.fuzz_targets import TARGETS

ROOT = Path(__file__).parents[3]
quick = settings(max_examples=150, deadline=None)

# --- mails as they may stand, and as they may not ----------------------------------------------------

WORDS = st.sampled_from(
    [
        *(
            b"a",
            b"Gr\xc3\xbc\xc3\x9fe",
            b"\xff\xfe",
            b"\x00",
            b"=?utf-8?b?R3L8?=",
            b"=?utf-8?b?a?=",
            b"=?x?q?=41?=",
        ),
        *(b"=?utf-7?q?+2AA-?=", b"=?idna?q?xn--a?=", b"=?raw-unicode-escape?q?=5Cud800?=", b"\xed\xa0\x80"),
        *(
            b'"; name="x',
            b"name*=utf-7''+2AA-",
            b"name*0*=idna''xn--; name*1=a",
            b"; charset=undefined",
            b"\t",
            b" ",
        ),
    ]
)
VALUES = st.lists(WORDS, max_size=4).map(b" ".join)
BOUNDARIES = st.sampled_from([b"b", b"bb", b"b c", b""])
TYPES = st.sampled_from(
    [
        *(b"text/plain", b"text/html; charset=latin-1", b"multipart/mixed", b"multipart/alternative"),
        *(b"message/rfc822", b"message/delivery-status", b"image/png", b"a\xff/b", b"/", b"multipart/digest"),
    ]
)
ENCODINGS = st.sampled_from([b"", b"base64", b"quoted-printable", b"x-uuencode", b"8bit", b"b\xffse64"])
LINE_ENDS = st.sampled_from([b"\n", b"\r\n", b"\r"])


@st.composite
def mails(draw: st.DrawFn, depth: int = 0) -> bytes:
    """A mail, of which anything may be wrong."""
    end, boundary, kind = draw(LINE_ENDS), draw(BOUNDARIES), draw(TYPES)
    lines = [b"Subject: " + draw(VALUES), b"Content-Type: " + kind + b"; boundary=" + boundary]
    if draw(st.booleans()):
        lines += [
            b"Content-Disposition: attachment; filename=" + draw(VALUES),
            draw(WORDS) + b": " + draw(VALUES),
        ]
    lines += [b"Content-Transfer-Encoding: " + draw(ENCODINGS), b""]
    if depth < 3 and draw(st.booleans()):
        for inner in draw(st.lists(mails(depth + 1), max_size=3)):
            lines += [b"--" + boundary, inner]
        lines += [b"--" + boundary + draw(st.sampled_from([b"--", b"", b"-"]))]
    else:
        lines += [draw(VALUES)]
    return end.join(lines)


@quick
@given(mails())
def test_any_mail_is_a_tree_that_an_event_can_carry(raw: bytes) -> None:
    TARGETS["mime"](raw)


@pytest.mark.parametrize("name", NAMES)
def test_any_bytes_keep_the_promises(name: str) -> None:
    beginnings = [b"", *seeds(name)]

    @quick
    @given(st.sampled_from(beginnings), st.binary(max_size=200), st.integers(0, 400))
    def check(beginning: bytes, rest: bytes, at: int) -> None:
        TARGETS[name](beginning[:at] + rest + beginning[at:])

    check()


@quick
@given(
    st.lists(
        st.sampled_from([*'()"-: \x0b', " OR ", "from:", "type:", "a", "*/", "\\", ".*", "🙂"]),
    ).map("".join)
)
def test_any_query_keeps_the_promises(text: str) -> None:
    TARGETS["query"](text.encode())


# --- what was found ----------------------------------------------------------------------------------

FOUND = {
    "half a letter in base64": b"Subject: =?utf-8?b?a?=\n\n",
    "half a pair, by UTF-7": b"Subject: =?utf-7?q?+2AA-?=\n\n",
    "half a pair, in a name": b"Content-Type: a/b; name*=utf-7''+2AA-\n\n",
    "half a pair, by Python's own codec": b"Subject: =?raw-unicode-escape?q?=5Cud800?=\n\n",
    "a codec that refuses": b"Subject: =?idna?q?xn--a?=\n\n",
    "a codec that always refuses": b"Subject: =?undefined?q?x?=\n\n",
    "a charset with a NUL": b'Content-Type: text/plain; charset="a\x00b"\n\nx',
    "a word's charset with a NUL": b"Subject: =?a\x00b?q?x?=\n\n",
    "a type that is no ASCII": b"Content-Type: a\xff/b\n\n",
    "a header's name that is no ASCII": b"\xff: x\n\n",
    "a multipart of 8 bits and no parts, in a nested mail": (
        b"Content-Type: message/rfc822\n\nContent-Type: multipart/mixed\n\n\xff\xff\n"
    ),
}


@pytest.mark.parametrize("raw", FOUND.values(), ids=FOUND.keys())
def test_what_was_found_stays_mended(raw: bytes) -> None:
    TARGETS["mime"](raw)


def test_words_survive_what_stands_beside_them() -> None:
    root = mime.parse(b"Subject: =?idna?q?xn--a?= harbour =?utf-8?b?a?=\n\n")
    assert "harbour" in (root.header("Subject") or "")
    nested = mime.parse(FOUND["a multipart of 8 bits and no parts, in a nested mail"])
    assert (mime.walk(nested)[0].part.body or b"").endswith(b"\xff\xff\n")


def test_half_a_pair_in_gmails_json_is_marked() -> None:
    message = from_json(
        {
            "id": "1",
            "payload": {"filename": "a\ud800.pdf", "headers": [{"name": "Subject", "value": "x\udfff"}]},
        }
    )
    assert (message.root.filename, message.root.header("subject")) == ("a\ufffd.pdf", "x\ufffd")


# --- time --------------------------------------------------------------------------------------------

SIZE = 300_000
SLOW = {
    "spaces": b"Subject: a" + b" " * SIZE + b"b\n\n",
    "folds": b"Subject: " + b"\n " * (SIZE // 2) + b"x\n\n",
    "parameters": b'Content-Type: a/b; x="' + b";" * SIZE + b"\n\n",
    "pieces of a name": b"Content-Type: a/b"
    + b"".join(b"; name*%d=a" % n for n in range(SIZE // 12))
    + b"\n\n",
    "a name in punycode": b"Content-Type: a/b; name*=punycode''" + b"b" * SIZE + b"\n\n",
    "a charset in punycode": b"Content-Type: text/plain; charset*=punycode''" + b"b" * SIZE + b"\n\n",
    "a text in punycode": b"Content-Type: text/plain; charset=punycode\n\n\x00-" + b"b" * SIZE,
    "encoded words": b"Subject: " + b"=?utf-8?q?a?= " * (SIZE // 14) + b"\n\n",
    "half of encoded words": b"Subject: " + b"=?a?q?" * (SIZE // 6) + b"\n\n",
    "headers": b"A: b\n" * (SIZE // 5) + b"\n",
}


@pytest.mark.parametrize("name", SLOW)
def test_no_header_takes_the_square_of_its_size(name: str) -> None:
    started = time.process_time()
    root = mime.parse(SLOW[name])
    for leaf in mime.body_leaves(root):
        mime.text_digest([(leaf.part.body or b"", leaf.part.charset)])
        decode_surely(leaf.part.body or b"", leaf.part.charset)
    assert time.process_time() - started < 3.0, "some of these took minutes"


def test_pythons_own_codecs_are_no_charsets() -> None:
    for name in (
        "punycode",
        "idna",
        "undefined",
        "unicode_escape",
        "raw_unicode_escape",
        "x" * 41,
        "a\x00",
        "",
        None,
    ):
        assert codec_name(name) is None
    assert codec_name("ISO-8859-15") == "iso8859_15"
