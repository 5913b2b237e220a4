"""Part paths and bodies of mails, well formed and not."""

from email.message import EmailMessage
from pathlib import PurePath

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from schemas import mime


def _mail_with_attachments() -> EmailMessage:
    mail = EmailMessage()
    mail["Subject"] = "Grüße aus Kiel"
    mail.set_content("plain words")
    mail.add_alternative("<p>rich words</p>", subtype="html")
    mail.add_attachment(b"%PDF-", maintype="application", subtype="pdf", filename="räume.pdf")
    inner = EmailMessage()
    inner["Subject"] = "inner"
    inner.set_content("inside")
    inner.add_attachment(b"x", maintype="application", subtype="octet-stream", filename="x.bin")
    mail.add_attachment(inner)
    return mail


def test_leaves_are_numbered_by_position_and_a_nested_mail_counts_once() -> None:
    root = mime.parse(_mail_with_attachments().as_bytes())
    leaves = [(leaf.path, leaf.part.content_type, leaf.part.is_attachment) for leaf in mime.walk(root)]
    assert leaves == [
        ("1.1", "text/plain", False),
        ("1.2", "text/html", False),
        ("2", "application/pdf", True),
        ("3", "message/rfc822", True),
    ]


def test_a_mail_of_one_part_is_part_one() -> None:
    root = mime.parse(b"Content-Type: application/pdf\n\n%PDF-")
    assert [(leaf.path, leaf.part.is_attachment) for leaf in mime.walk(root)] == [("1", True)]


def test_names_and_headers_are_decoded() -> None:
    root = mime.parse(_mail_with_attachments().as_bytes())
    assert root.header("subject") == "Grüße aus Kiel"
    assert [leaf.part.filename for leaf in mime.attachments(root)] == ["räume.pdf", None]


@pytest.mark.parametrize(
    ("parameters", "name"),
    [
        (b"filename*=iso-8859-1''na%EFve.txt", "naïve.txt"),
        (b"filename*0*=utf-8''na%C3%AF; filename*1=ve.txt", "naïve.txt"),
        (b"filename*=no-such-charset''xyz.txt", "xyz.txt"),
        (b"filename*=rot13''xyz.txt", "xyz.txt"),  # Python's, and none of mail's
        (b"filename*=''xyz.txt; filename*0*=''abc.txt", None),  # Python cannot put these in order
    ],
)
def test_names_in_pieces_and_charsets_are_put_together(parameters: bytes, name: str | None) -> None:
    """RFC 2231, and what only looks like it."""
    root = mime.parse(b"Content-Disposition: attachment; " + parameters + b"\n\nx")
    assert root.filename == name


@pytest.mark.parametrize("boundary", [b'"a b"', b"ab"])
def test_a_multipart_keeps_its_parts_beside_a_parameter_that_cannot_be_read(boundary: bytes) -> None:
    head = b"Content-Type: multipart/mixed; name*=''x; name*0*=''y; Boundary=" + boundary
    border = b"--" + boundary.strip(b'"')
    parts = (b"\n\nwords\n", b"\nContent-Disposition: attachment; filename=a.pdf\n\n%PDF\n")
    root = mime.parse(head + b"\n\n" + b"".join(border + part for part in parts) + border + b"--\n")
    assert [leaf.path for leaf in mime.walk(root)] == ["1", "2"]
    assert [leaf.part.filename for leaf in mime.attachments(root)] == ["a.pdf"]


def test_a_multipart_whose_parameters_cannot_be_read_is_one_text() -> None:
    root = mime.parse(b"Content-Type: multipart/mixed; name*=''x; name*0*=''y\n\nwords\n")
    assert (root.children, root.body) == ((), b"words\n")


def test_of_an_alternative_the_plain_text_is_the_body() -> None:
    root = mime.parse(_mail_with_attachments().as_bytes())
    assert [leaf.part.content_type for leaf in mime.body_leaves(root)] == ["text/plain"]


def test_an_empty_plain_alternative_leaves_the_html() -> None:
    mail = EmailMessage()
    mail.set_content(" \n")
    mail.add_alternative("<p>rich words</p>", subtype="html")
    assert [leaf.part.content_type for leaf in mime.body_leaves(mime.parse(mail.as_bytes()))] == ["text/html"]


def test_the_bytes_of_a_nested_mail_are_a_mail() -> None:
    leaf = mime.attachments(mime.parse(_mail_with_attachments().as_bytes()))[1]
    inner = mime.parse(leaf.part.body or b"")
    assert inner.header("Subject") == "inner"
    assert [part.part.filename for part in mime.attachments(inner)] == ["x.bin"]


def test_a_nested_mail_in_forbidden_base64_is_decoded() -> None:
    raw = (
        b"Content-Type: multipart/mixed; boundary=b\n\n--b\nContent-Type: message/rfc822\n"
        b"Content-Transfer-Encoding: base64\n\nU3ViamVjdDogaGlkZGVuCgp0ZXh0Cg==\n--b--\n"
    )
    [leaf] = mime.attachments(mime.parse(raw))
    assert mime.parse(leaf.part.body or b"").header("Subject") == "hidden"


def test_a_multipart_without_parts_is_read_as_text() -> None:
    root = mime.parse(b"Content-Type: multipart/mixed\n\nno boundary was ever declared")
    [leaf] = mime.walk(root)
    assert not leaf.part.is_attachment
    assert leaf.part.body == b"no boundary was ever declared"


def test_undecoded_header_bytes_are_read_as_utf8_or_latin1() -> None:
    assert mime.parse("Subject: Fähre\n\n".encode()).header("Subject") == "Fähre"
    assert mime.parse("Subject: Fähre\n\n".encode("latin-1")).header("Subject") == "Fähre"


def test_unknown_charsets_in_headers_do_not_lose_the_words() -> None:
    root = mime.parse(b"Subject: =?x-unheard-of?q?hello?= world\n\n")
    assert root.header("Subject") == "hello world"


def test_a_thousand_nested_multiparts_end() -> None:
    raw = b"".join(b"Content-Type: multipart/mixed; boundary=b%d\n\n--b%d\n" % (n, n) for n in range(1000))
    assert mime.walk(mime.parse(raw + b"\ntext"))


@settings(max_examples=200, deadline=None)
@given(st.binary(max_size=2000))
def test_any_bytes_make_a_tree(raw: bytes) -> None:
    leaves = mime.walk(mime.parse(raw))
    assert leaves
    assert len({leaf.path for leaf in leaves}) == len(leaves)
    assert all(PurePath(leaf.path).name == leaf.path for leaf in leaves)
