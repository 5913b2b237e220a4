"""The MIME walk against two parsers that are not ours: Python's ``email``, and one in Rust.

On well-formed mails all three must see the same leaves: paths, types, names, bytes. What strangers break is
read by each in its own way; there only Python's tree is compared, see ``tests.fuzz_targets``.
"""

import email
import mailbox
import os
from collections.abc import Iterator
from email.message import EmailMessage
from email.policy import SMTP, compat32
from pathlib import Path
from typing import Any

import fast_mail_parser
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from schemas import mime
from tests.fuzz_targets import python_leaves

Leaf = tuple[str, str, str | None, bytes]
MAIL = Path(os.environ.get("CORPORA", Path(__file__).parents[4] / "shared" / "corpora")) / "mail"

TEXT = st.text(st.characters(exclude_categories=["Cs", "Cc"], exclude_characters="\u2028\u2029"), max_size=40)
# No semicolon: within quotes it ends a name for the parser in Rust, wrongly.
NAMES = st.sampled_from(
    ["plan.pdf", "Fähre nach Kiel.pdf", "ein langer Name " * 5 + ".txt", "港.png", "a,b.c"]
)
MEDIA = st.sampled_from([("application", "pdf"), ("image", "png"), ("application", "octet-stream")])


@st.composite
def well_formed(draw: st.DrawFn, depth: int = 0) -> EmailMessage:
    """A mail as programs write them."""
    mail = EmailMessage(policy=SMTP)
    mail["Subject"] = draw(TEXT).strip() or "x"
    mail["From"] = "Anna <anna@example.com>"
    mail.set_content(draw(TEXT) + "\n", cte=draw(st.sampled_from(["base64", "quoted-printable", "8bit"])))
    if draw(st.booleans()):
        mail.add_alternative(f"<p>{draw(TEXT)}</p>\n", subtype="html")
    for _ in range(draw(st.integers(0, 3))):
        if depth < 2 and draw(st.integers(0, 3)) == 0:
            mail.add_attachment(draw(well_formed(depth + 1)))
            continue
        main, sub = draw(MEDIA)
        mail.add_attachment(draw(st.binary(max_size=200)), main, sub, filename=draw(NAMES))
    return mail


def ours(raw: bytes) -> list[Leaf]:
    return [
        (leaf.path, leaf.part.content_type, leaf.part.filename, leaf.part.body or b"")
        for leaf in mime.walk(mime.parse(raw))
    ]


def pythons(raw: bytes) -> list[Leaf]:
    leaves = []
    for path, part in python_leaves(email.message_from_bytes(raw, policy=compat32)):
        nested = part.get_content_type() == "message/rfc822" and part.is_multipart()
        body = b"" if nested else part.get_payload(decode=True) or b""
        assert isinstance(body, bytes)
        leaves.append((path, part.get_content_type(), part.get_filename(), body))
    return leaves


def rusts(raw: bytes) -> list[Leaf]:
    def below(part: Any, prefix: str) -> Iterator[Leaf]:
        for number, child in enumerate(part.children, start=1):
            yield from leaves(child, f"{prefix}{number}")

    def leaves(part: Any, path: str) -> Iterator[Leaf]:
        if part.children and not part.is_message:
            yield from below(part, f"{path}." if path else "")
        else:
            yield path or "1", part.content_type, part.filename or None, part.content or b""

    return list(leaves(fast_mail_parser.parse_email_tree(raw), ""))


def _shape(leaves: list[Leaf]) -> list[tuple[str, str]]:
    return [(path, kind) for path, kind, _, _ in leaves]


@settings(max_examples=120, deadline=None)
@given(well_formed())
def test_three_parsers_see_the_same_mail(mail: EmailMessage) -> None:
    raw = mail.as_bytes()
    found = ours(raw)
    assert _shape(found) == _shape(pythons(raw)) == _shape(rusts(raw))
    for mine, other in zip(found, rusts(raw), strict=True):
        assert mine[2] == other[2]
        # Of a nested mail the bytes are its own, one line end at the end more or less.
        assert mine[3].rstrip(b"\r\n") == other[3].rstrip(b"\r\n")
    for mine, other in zip(found, pythons(raw), strict=True):
        assert other[1] == "message/rfc822" or mine[3] == other[3]
    assert mime.parse(raw).header("Subject") == fast_mail_parser.parse_email(raw).subject


def test_the_numbers_are_those_of_imap() -> None:
    """RFC 3501's own example of part numbers, as far as leaves have them."""
    raw = (
        b"Content-Type: multipart/mixed; boundary=o\n\n"
        b"--o\nContent-Type: text/plain\n\n1\n--o\nContent-Type: application/octet-stream\n\n2\n"
        b"--o\nContent-Type: message/rfc822\n\nContent-Type: multipart/mixed; boundary=i\n\n"
        b"--i\n\n3.1\n--i--\n"
        b"--o\nContent-Type: multipart/mixed; boundary=m\n\n--m\nContent-Type: image/gif\n\n4.1\n"
        b"--m\nContent-Type: multipart/alternative; boundary=a\n\n"
        b"--a\n\n4.2.1\n"
        b"--a\nContent-Type: text/html\n\n4.2.2\n--a--\n--m--\n--o--\n"
    )
    wanted = ["1", "2", "3", "4.1", "4.2.1", "4.2.2"]
    for parser in (ours, pythons, rusts):
        assert [path for path, *_ in parser(raw)] == wanted


@pytest.mark.full
@pytest.mark.parametrize("name", ["office.mbox", "plain.mbox"])
def test_real_mail_has_the_same_leaves_for_all(name: str) -> None:
    """Of 620 mails, broken ones among them, not one has other leaves."""
    compared = 0
    for number, mail in enumerate(mailbox.mbox(MAIL / name)):
        raw = mail.as_bytes()
        found = _shape(ours(raw))
        assert found == _shape(pythons(raw)), number
        compared += 1
        assert found == _shape(rusts(raw)), number
    assert compared >= 120
