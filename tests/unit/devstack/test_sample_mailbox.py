"""The sample mailbox is the same every time, holds every kind of thing, and answers the demo's searches."""

import io
import mailbox
import re
import zipfile
from pathlib import Path

import pypdfium2
import pytest
from PIL import Image

from devstack.sample.mailbox import DEMO_SEARCHES, DemoSearch, SampleSummary, write_sample_mailbox
from schemas.mime import Leaf, Part, attachments, body_leaves, parse, walk

KINDS = {
    *("binary", "csv", "docx", "empty", "encrypted-pdf", "html", "ics", "inline-image", "pdf", "photo"),
    *("pptx", "rfc822", "scan-image", "scan-pdf", "text", "xlsx", "zip"),
}
STOP_WORDS = {
    "a",
    "an",
    "and",
    "are",
    "at",
    "by",
    "for",
    "from",
    "in",
    "is",
    "it",
    "of",
    "on",
    "or",
    "the",
    "to",
}


@pytest.fixture(scope="module")
def mails(sample: tuple[Path, SampleSummary]) -> list[Part]:
    box = mailbox.mbox(sample[0], create=False)
    try:
        return [parse(box.get_bytes(key)) for key in box.keys()]  # noqa: SIM118
    finally:
        box.close()


def text_of(leaf: Leaf) -> str:
    return (leaf.part.body or b"").decode(leaf.part.charset or "utf-8")


def body_of(mail: Part) -> str:
    return "\n".join(text_of(leaf) for leaf in body_leaves(mail))


def layer(name: str, content: bytes) -> str:
    """The text that stands in a file as text; nothing of its pictures."""
    if zipfile.is_zipfile(io.BytesIO(content)):
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            return "\n".join(layer(entry, archive.read(entry)) for entry in archive.namelist())
    if content.startswith(b"%PDF"):
        try:
            document = pypdfium2.PdfDocument(content)
        except pypdfium2.PdfiumError:
            return ""
        return "\n".join(page.get_textpage().get_text_range() for page in document)
    if name.endswith((".png", ".jpg", ".jpeg", ".gfz")):
        return ""
    decoded = content.decode("utf-8", "replace")
    return re.sub(r"<[^>]*>", " ", decoded) if name.endswith((".xml", ".html", ".rels")) else decoded


def layers(mail: Part) -> str:
    """Everything in a mail that is text already: headers, bodies, text layers, nested mails."""
    found = [value for _, value in mail.headers]
    for leaf in walk(mail):
        if leaf.part.content_type == "message/rfc822":
            found.append(layers(parse(leaf.part.body or b"")))
        elif leaf.part.is_attachment:
            found += [leaf.part.filename or "", layer(leaf.part.filename or "", leaf.part.body or b"")]
        else:
            found.append(text_of(leaf))
    return "\n".join(found)


def words(text: str) -> set[str]:
    return {word for word in re.findall(r"[^\W_]+", text.lower()) if word not in STOP_WORDS}


def stems(text: str) -> set[str]:
    """Words cut down far enough that "heating" and "heated" count as one."""
    return {word[:4] for word in words(text)}


def with_subject(mails: list[Part], subject: str) -> Part:
    (found,) = (mail for mail in mails if mail.header("Subject") == subject)
    return found


def search(mode: str) -> DemoSearch:
    (found,) = (entry for entry in DEMO_SEARCHES if entry.mode == mode)
    return found


def attached(mail: Part, name: str) -> bytes:
    """A file of the mail or of a mail that is attached to it."""
    for leaf in attachments(mail):
        if leaf.part.filename == name:
            return leaf.part.body or b""
        if leaf.part.content_type == "message/rfc822":
            return attached(parse(leaf.part.body or b""), name)
    raise AssertionError(f"no {name}")


def anywhere(mails: list[Part], name: str) -> bytes:
    """The one attachment of that name."""
    (found,) = (leaf.part for mail in mails for leaf in attachments(mail) if leaf.part.filename == name)
    return found.body or b""


def read_picture(content: bytes) -> str:
    return ocr(Image.open(io.BytesIO(content)))


def ocr(image: Image.Image) -> str:
    import pytesseract  # with pandas, unless a parser has imported it before

    return str(pytesseract.image_to_string(image))


def test_it_is_a_small_year_of_mail(sample: tuple[Path, SampleSummary], mails: list[Part]) -> None:
    path, summary = sample
    assert summary.messages == len(mails) >= 70
    assert summary.attachments == sum(len(attachments(mail)) for mail in mails) >= 36
    assert summary.attachments == sum(summary.kinds.values())
    assert set(summary.kinds) == KINDS
    assert len({mail.header("X-GM-THRID") for mail in mails}) >= 25
    assert path.stat().st_size < 6_000_000
    identities = [mail.header("Message-ID") for mail in mails]
    assert len(set(identities)) == len(identities)
    for mail in mails:
        assert mail.header("In-Reply-To") in {None, *identities}
        assert " 2025 " in (mail.header("Date") or "")


def test_the_same_bytes_every_time(
    sample: tuple[Path, SampleSummary], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TZ", "Pacific/Auckland")
    again = write_sample_mailbox(tmp_path / "again.mbox")
    assert again == sample[1]
    assert (tmp_path / "again.mbox").read_bytes() == sample[0].read_bytes()


def test_every_attachment_opens(mails: list[Part]) -> None:
    refused = []
    for mail in mails:
        for leaf in attachments(mail):
            content, name = leaf.part.body, leaf.part.filename
            assert content is not None
            match leaf.part.content_type:
                case "application/pdf":
                    try:
                        assert len(pypdfium2.PdfDocument(content)) > 0
                    except pypdfium2.PdfiumError:
                        refused.append(name)
                        assert len(pypdfium2.PdfDocument(content, password="Limpet-2207")) == 1
                case "image/png" | "image/jpeg":
                    Image.open(io.BytesIO(content)).load()
                case "message/rfc822":
                    assert len(attachments(parse(content))) == 1
                case "text/csv" | "text/html" | "text/plain" | "text/calendar":
                    assert content.decode("utf-8").strip()
                case "application/octet-stream":
                    assert name in {"winch-foundation.dwf", "Ar-Vag-lines.gfz"}
                    assert (content == b"") == (name == "winch-foundation.dwf")
                case _:
                    with zipfile.ZipFile(io.BytesIO(content)) as archive:
                        assert archive.testzip() is None
                        assert len(archive.namelist()) >= 3
    assert refused == ["payroll-2024-summary.pdf"]


def test_bodies_come_in_every_form(mails: list[Part]) -> None:
    leaves = [leaf.part for mail in mails for leaf in walk(mail) if not leaf.part.is_attachment]
    encodings = {(part.header("Content-Transfer-Encoding") or "7bit", part.charset) for part in leaves}
    assert {("8bit", "iso-8859-1"), ("quoted-printable", "iso-8859-1"), ("base64", "utf-8")} <= encodings
    assert any(mail.content_type == "text/html" for mail in mails)
    assert any(leaf.alternative_of for mail in mails for leaf in walk(mail))
    (inline,) = (leaf.part for mail in mails for leaf in attachments(mail) if leaf.part.content_id)
    assert inline.disposition == "inline"
    names = {leaf.part.filename for mail in mails for leaf in attachments(mail)}
    assert {"Relevé d'épaisseur – été 2025.csv", "Übergabeprotokoll Süderelbe.pdf"} <= names
    labels = [mail.header("X-Gmail-Labels") for mail in mails]
    assert None in labels
    assert "Inbox,Projects/Corriemore,Important" in labels
    for mail in mails:
        assert "\ufffd" not in body_of(mail)


def test_keyword_search_has_one_answer(mails: list[Part]) -> None:
    demo = search("keyword")
    assert [mail.header("Subject") for mail in mails if demo.query in layers(mail)] == [demo.expected_subject]
    content = attached(with_subject(mails, demo.expected_subject), demo.expected_where)
    assert demo.query in layer(demo.expected_where, content)


def test_scan_search_is_answered_by_the_picture_alone(mails: list[Part]) -> None:
    demo = search("hybrid")
    known = set().union(*(stems(layers(mail)) for mail in mails))
    assert not stems(demo.query) & known
    content = attached(with_subject(mails, demo.expected_subject), demo.expected_where)
    assert words(demo.query) <= words(read_picture(content))


def test_meaning_search_shares_no_word(mails: list[Part]) -> None:
    demo = search("semantic")
    assert demo.expected_where == "body"
    assert not stems(demo.query) & stems(layers(with_subject(mails, demo.expected_subject)))


@pytest.mark.parametrize(
    ("name", "sentence"),
    [
        ("IMG_2260-receipt.jpg", "Tug Inchgarvie, 3 hrs"),
        ("IMG_2291-whiteboard.jpg", "pinion to Paisley, courier Abernethy"),
        ("toolbox-talk.jpg", "Eyewash moved to pillar 6"),
        ("signed-agreement-Grey-Heron.png", "keeps the barge insured for GBP 640,000"),
    ],
)
def test_pictures_are_legible(mails: list[Part], name: str, sentence: str) -> None:
    assert sentence in read_picture(anywhere(mails, name))


def test_the_scanned_lease_has_no_text_but_reads_well(mails: list[Part]) -> None:
    lease = pypdfium2.PdfDocument(anywhere(mails, "lease-Pier-Road.pdf"))
    assert len(lease) == 2
    assert not "".join(page.get_textpage().get_text_range() for page in lease).strip()
    pages = [ocr(page.render(scale=150 / 72).to_pil()) for page in lease]
    assert "lodges GBP 27,600 with the factor" in pages[0]
    assert "No tenant shall keep poultry" in pages[1]
