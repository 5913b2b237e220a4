"""The emulator's JSON of a mail: what Gmail gives, also for mail that no standard foresaw."""

import base64
import json
from email.message import EmailMessage
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from devstack.gmail.headers import date_milliseconds, header_text, parse_headers
from devstack.gmail.payload import MAX_INLINE_BYTES, metadata_json, parse_mail, part_json, plain_text, snippet


def full(raw: bytes) -> dict[str, Any]:
    tree = parse_mail(raw)
    ids = {part.part_id: f"id-{part.part_id}" for part in tree.walk() if part.is_external}
    return part_json(tree, ids)


def data(part: dict[str, Any]) -> bytes:
    return base64.urlsafe_b64decode(part["body"]["data"])


def test_a_mail_of_one_part_is_its_root() -> None:
    payload = full(b"Subject: hello\r\nContent-Type: text/plain\r\n\r\nbody\r\n")
    assert payload["partId"] == ""
    assert payload["mimeType"] == "text/plain"
    assert payload["filename"] == ""
    assert data(payload) == b"body\r\n"
    assert payload["body"]["size"] == 6
    assert "parts" not in payload


def test_parts_are_numbered_from_zero_and_attachments_are_behind_an_id() -> None:
    mail = EmailMessage()
    mail.set_content("plain")
    mail.add_alternative("<p>html</p>", subtype="html")
    mail.add_attachment(b"\x00\x01", maintype="application", subtype="pdf", filename="Übersicht.pdf")
    payload = full(mail.as_bytes())
    assert payload["body"] == {"size": 0}
    alternative, pdf = payload["parts"]
    assert [alternative["partId"], pdf["partId"]] == ["0", "1"]
    assert [part["partId"] for part in alternative["parts"]] == ["0.0", "0.1"]
    assert pdf["filename"] == "Übersicht.pdf"
    assert pdf["body"] == {"attachmentId": "id-1", "size": 2}


def test_a_leaf_that_is_not_text_is_behind_an_id_even_without_a_name() -> None:
    payload = full(b"Content-Type: image/png\nContent-Transfer-Encoding: base64\n\niVBORw==\n")
    assert payload["body"] == {"attachmentId": "id-", "size": 4}


def test_a_long_text_is_behind_an_id() -> None:
    payload = full(b"Content-Type: text/plain\n\n" + b"x" * (MAX_INLINE_BYTES + 1))
    assert payload["body"] == {"attachmentId": "id-", "size": MAX_INLINE_BYTES + 1}


@pytest.mark.parametrize(
    ("charset", "body", "given"),
    [
        ("iso-8859-1", "é".encode("latin-1"), "é".encode()),
        ("koi8-r", "привет".encode("koi8-r"), "привет".encode()),
        ("utf-8", b"\xff broken", b"\xff broken"),
        ("x-unknown", b"\xe9", b"\xe9"),
        ("base64", b"aGk=", b"aGk="),  # a codec of Python's, but none of text
        ("", b"\xe9", b"\xe9"),
    ],
)
def test_inline_text_is_utf8_where_its_charset_is_known_and_fits(
    charset: str, body: bytes, given: bytes
) -> None:
    payload = full(b"Content-Type: text/plain; charset=" + charset.encode() + b"\n\n" + body)
    assert data(payload) == given
    assert payload["body"]["size"] == len(given)
    assert payload["headers"][0]["value"] == f"text/plain; charset={charset}"


NESTED = (
    b"Subject: inner\r\n"
    b"References: <a-very-long-message-id-that-needs-a-line-of-its-own@example.com>\r\n"
    b"\t<another-very-long-message-id-on-a-line-of-its-own@example.com>\r\n"
    b"X-Odd:no space,   many   spaces \r\n"
    b"Content-Type: multipart/mixed; boundary=in\r\n\r\n"
    b"--in\r\n\r\nFrom the beginning\r\n"
    b"--in\r\nContent-Type: text/csv; name=a.csv\r\n\r\n1,2\r\n"
    b"--in--\r\n"
)


def forwarded(encoding: bytes, nested: bytes) -> bytes:
    return (
        b"Content-Type: multipart/mixed; boundary=out\r\n\r\n--out\r\n\r\nsee below\r\n--out\r\n"
        b"Content-Type: message/rfc822\r\nContent-Transfer-Encoding: "
        + encoding
        + b"\r\n\r\n"
        + nested
        + b"\r\n"
        b"--out--\r\n"
    )


def test_a_nested_mail_has_its_bytes_and_its_tree() -> None:
    raw = forwarded(b"7bit", NESTED)
    tree = parse_mail(raw)
    assert tree.children[1].content == NESTED
    nested = full(raw)["parts"][1]
    assert nested["mimeType"] == "message/rfc822"
    assert nested["body"] == {"attachmentId": "id-1", "size": len(NESTED)}
    (inner,) = nested["parts"]
    assert inner["partId"] == "1.0"
    assert inner["headers"][0] == {"name": "Subject", "value": "inner"}
    assert [part["partId"] for part in inner["parts"]] == ["1.0.0", "1.0.1"]
    assert inner["parts"][1]["filename"] == "a.csv"


def test_a_nested_mail_in_base64_is_opened_all_the_same() -> None:
    tree = parse_mail(forwarded(b"base64", base64.encodebytes(NESTED)))
    assert tree.children[1].content == NESTED
    assert tree.children[1].children[0].headers[0] == ("Subject", "inner")


def test_a_delivery_report_is_a_leaf() -> None:
    raw = (
        b"Content-Type: multipart/report; boundary=b\n\n--b\n\nfailed\n--b\n"
        b"Content-Type: message/delivery-status\n\nReporting-MTA: dns; a\n\nAction: failed\n\n--b--\n"
    )
    report = full(raw)["parts"][1]
    assert "parts" not in report
    assert report["body"]["attachmentId"] == "id-1"
    assert report["body"]["size"] > 30


@pytest.mark.parametrize(
    ("written", "read"),
    [
        ("=?utf-8?B?w6k=?=", "é"),
        ("=?utf-8?Q?a=5Fb_c?= and =?iso-8859-1?q?=E9?=", "a_b c and é"),
        ("=?utf-8?B?w6k=?=\r\n =?utf-8?B?w6k=?=", "éé"),
        ("=?utf-8?B?4oI=?= =?utf-8?B?rA==?=", "€"),  # one character over two words
        ("=?utf-8*en?q?x?=", "x"),
        ("=?no-such-charset?q?=41?=", "A"),
        ("=?utf-8?B?!!!?= rest", " rest"),
        ("=?utf-8?B?a?= rest", "=?utf-8?B?a?= rest"),
        ("folded\r\n\tover lines", "folded over lines"),
        ("caf\udcc3\udca9 =?utf-8?q?=E2=82=AC?=", "café €"),
        ("caf\udce9", "café"),
        ("\\u0041 stays", "\\u0041 stays"),
        ("=?utf-7?q?+2AA-?=", "?"),
    ],
)
def test_headers_are_decoded(written: str, read: str) -> None:
    assert header_text(written) == read


@pytest.mark.parametrize(
    ("header", "name"),
    [
        ("Content-Disposition: attachment; filename*=utf-8''na%C3%AFve.txt", "naïve.txt"),
        ("Content-Disposition: attachment; filename*0=long; filename*1=name.txt", "longname.txt"),
        ('Content-Type: application/pdf; name="=?utf-8?B?w6kucGRm?="', "é.pdf"),
        ("Content-Disposition: attachment; filename*=no-such''x%FF.txt", "x%FF.txt"),
        ("Content-Disposition: attachment; filename=", ""),
    ],
)
def test_file_names_are_decoded(header: str, name: str) -> None:
    found = parse_mail(header.encode() + b"\n\nx").filename
    assert found == name or name == "x%FF.txt"  # what becomes of an unknown charset is anybody's guess


MALFORMED = [
    b"",
    b"\n",
    b"no header at all",
    b"\x00\xff\xfe",
    b"Content-Type: multipart/mixed\n\nno boundary",
    b"Content-Type: multipart/mixed; boundary=x\n\nthe boundary never comes",
    b"Content-Type: multipart/mixed; boundary=x\n\n--x\n\n--x\n--x",
    b"Content-Type: message/rfc822\n\n",
    b'Content-Type: text/plain; charset="\n\nx',
    b"Content-Type: ; ; ;\n\nx",
    b"Content-Type: \xe9/\xe9; charset=\xe9\n\nx",
    b"Content-Type: text/plain\nContent-Transfer-Encoding: base64\n\n====\n*",
    b"Content-Type: text/plain\nContent-Transfer-Encoding: x-uuencode\n\nbegin 644 x\n!!!!\nend\n",
    b"Date: Fri, 99 Foo 99999 99:99:99 +9999\nSubject: =?utf-8?Q?=?=\n\nx",
    b"From nobody\n: no name\n\xe9: x\n\nx",
    b"Content-Type: multipart/mixed; boundary=b; name*=''x; name*0=y\n\n--b\n\nwords\n--b--\n",
]


@pytest.mark.parametrize("raw", MALFORMED, ids=range(len(MALFORMED)))
def test_malformed_mail_still_gives_a_payload(raw: bytes) -> None:
    payload = full(raw)
    assert json.loads(json.dumps(payload)) == payload
    assert isinstance(snippet(parse_mail(raw)), str)
    assert date_milliseconds(parse_headers(raw)) is None


def test_hundreds_of_levels_do_not_crash() -> None:
    raw = b"x"
    for level in range(400):
        boundary = f"b{level}".encode()
        raw = b"Content-Type: multipart/mixed; boundary=" + boundary + b"\n\n--" + boundary + b"\n" + raw
    payload = full(raw)
    assert json.dumps(payload)


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.sampled_from([*MALFORMED, NESTED, b"\n--x\n", b"\r\n\r\n", b"--x--"]), max_size=6).map(
        b"".join
    )
)
def test_no_mixture_of_these_crashes(raw: bytes) -> None:
    payload = full(raw)
    json.dumps(payload).encode()
    plain_text(parse_mail(raw))


def test_the_snippet_is_the_first_words_escaped() -> None:
    raw = b"Content-Type: text/html\n\n<style>p{}</style><p>Fish &amp; chips, it's\n <b>good</b>"
    assert snippet(parse_mail(raw)) == "Fish &amp; chips, it&#39;s good"


def test_metadata_gives_the_wanted_headers_in_any_case() -> None:
    tree = parse_mail(b"Subject: a\nFrom: b\nsubject: c\n\n")
    assert [header["value"] for header in metadata_json(tree, ["SUBJECT"])["headers"]] == ["a", "c"]
    assert len(metadata_json(tree, [])["headers"]) == 3


def test_dates_without_a_zone_are_utc() -> None:
    assert date_milliseconds(parse_headers(b"Date: Thu, 1 Jan 1970 00:00:10 -0000\n\n")) == 10_000
    assert date_milliseconds(parse_headers(b"Date: Thu, 1 Jan 1970 01:00:10 +0100\n\n")) == 10_000
