"""Mail as a file, in every form: EML, mbox, MSG, winmail.dat, S/MIME, PGP, calendars and cards."""

import base64
import datetime
import struct
from collections.abc import Callable
from email.message import EmailMessage

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import pkcs7
from cryptography.x509.oid import NameOID

from schemas.outcomes import Outcome
from streams.ephemeral import EphemeralAttachmentHandler
from streams.extractors.mapi import decompress_rtf
from tests.ole_file import Tree, ole_file
from tests.reading import SENTENCE, read

pytestmark = pytest.mark.asyncio(loop_scope="session")


def mail(subject: str = "Quay", body: str = SENTENCE) -> bytes:
    message = EmailMessage()
    message["From"], message["To"], message["Subject"] = "ada@example.com", "ben@example.com", subject
    message["Date"] = "Tue, 24 Nov 2026 10:00:00 +0000"
    message.set_content(body)
    message.add_attachment(b"bollard seven", maintype="text", subtype="plain", filename="note.txt")
    return message.as_bytes()


async def test_a_mail_is_known_by_its_headers_whatever_it_is_called(
    reader: EphemeralAttachmentHandler,
) -> None:
    for name in ("mail.eml", "saved.txt", None):
        found = await read(reader, mail(), name)
        assert found.root.metadata.content_type == "message/rfc822"
        assert SENTENCE in found.text and "ada@example.com" in found.text
        assert found.by_path["1"].text == "bollard seven"


async def test_a_saved_web_page_is_a_mail(reader: EphemeralAttachmentHandler) -> None:
    parts = (
        f"Content-Type: text/html\r\n\r\n<html><body><p>{SENTENCE}</p></body></html>",
        "Content-Type: image/png\r\nContent-Location: logo.png\r\n\r\nx",
    )
    headers = "From: <Saved by a browser>\r\nSubject: Page\r\nMIME-Version: 1.0\r\n"
    kind = 'Content-Type: multipart/related; boundary="b"\r\n'
    body = "".join(f"\r\n--b\r\n{part}" for part in parts)
    page = f"{headers}{kind}{body}\r\n--b--\r\n".encode()
    assert SENTENCE in (await read(reader, page, "page.mht")).text


async def test_every_mail_of_a_mailbox_file_is_a_document(reader: EphemeralAttachmentHandler) -> None:
    quoted = mail(body="one\n>From here on\n")
    box = b"".join(
        b"From ada@example.com Tue Nov 24 10:00:00 2026\n" + one.rstrip(b"\n") + b"\n\n"
        for one in (quoted, mail("Second", SENTENCE))
    )
    found = await read(reader, box, "archive")
    assert found.root.outcome is Outcome.CONTAINER
    assert "\nFrom here on" in found.by_path["1"].text
    assert SENTENCE in found.by_path["2"].text
    assert found.by_path["2/1"].text == "bollard seven"


def properties(*fixed: tuple[int, int, bytes], header: int) -> bytes:
    return bytes(header) + b"".join(
        struct.pack("<HHI8s", kind, number, 6, value.ljust(8, b"\x00")) for number, kind, value in fixed
    )


def outlook(body: Tree, inner: Tree | None = None) -> Tree:
    wide = "utf-16-le"
    filetime = struct.pack("<q", 134_000_000_000_000_000)
    tree: Tree = {
        "__properties_version1.0": properties((0x39, 0x40, filetime), header=32 if inner else 24),
        "__substg1.0_0037001F": "Quay".encode(wide),
        "__substg1.0_0C1A001F": "Ada Lovelace".encode(wide),
        "__recip_version1.0_#00000000": {
            "__properties_version1.0": properties(header=8),
            "__substg1.0_3001001F": "Ben Bollard".encode(wide),
            "__substg1.0_39FE001F": "ben@example.com".encode(wide),
        },
        **body,
    }
    if inner:
        tree["__attach_version1.0_#00000000"] = {
            "__properties_version1.0": properties(header=8),
            "__substg1.0_3707001F": "note.txt".encode(wide),
            "__substg1.0_37010102": b"bollard seven",
        }
        tree["__attach_version1.0_#00000001"] = {
            "__properties_version1.0": properties(header=8),
            "__substg1.0_3701000D": inner,
        }
    return tree


async def test_outlook_mail_with_attachments_and_a_mail_inside(reader: EphemeralAttachmentHandler) -> None:
    inner = outlook({"__substg1.0_10130102": b"<html><body><p>inside: <b>derrick</b></p></body></html>"})
    found = await read(
        reader, ole_file(outlook({"__substg1.0_1000001F": SENTENCE.encode("utf-16-le")}, inner))
    )
    assert found.root.metadata.content_type == "application/vnd.ms-outlook"
    assert SENTENCE in found.root.text and "Ben Bollard" in found.root.text
    assert (found.root.metadata.title, found.root.metadata.author) == ("Quay", "Ada Lovelace")
    assert (found.root.metadata.created or "").startswith("2025-")
    assert found.by_path["1"].text == "bollard seven" and found.names[0] == "note.txt"
    assert "derrick" in found.by_path["2"].text
    assert found.by_path["1"].metadata.sha256 != found.by_path["2"].metadata.sha256


async def test_outlook_mail_in_a_code_page(reader: EphemeralAttachmentHandler) -> None:
    code_page = properties((0x3FFD, 3, struct.pack("<i", 1251)), header=24)
    tree: Tree = {
        "__properties_version1.0": code_page,
        "__substg1.0_1000001E": "причал наклонился".encode("cp1251"),
    }
    assert "причал наклонился" in (await read(reader, ole_file(tree))).text


async def test_compressed_rtf_is_undone() -> None:
    # The example of [MS-OXRTFCP] 3.2.
    packed = bytes.fromhex(
        "2d0000002b0000004c5a4675f1c5c7a703000a007263706731323542320af32068656c090020627705b06c647d0a800fa0"
    )
    assert decompress_rtf(packed) == b"{\\rtf1\\ansi\\ansicpg1252\\pard hello world}\r\n"
    assert decompress_rtf(packed[:30])


def tnef() -> bytes:
    def attribute(level: int, number: int, data: bytes) -> bytes:
        return (
            struct.pack("<BHHI", level, number, 6, len(data)) + data + struct.pack("<H", sum(data) & 0xFFFF)
        )

    def long_name(name: str) -> bytes:
        data = name.encode("utf-16-le") + b"\x00\x00"
        return struct.pack("<IHHII", 1, 0x1F, 0x3707, 1, len(data)) + data + bytes(-len(data) % 4)

    return b"\x78\x9f\x3e\x22\x01\x00" + b"".join(
        (
            attribute(1, 0x8004, b"Quay\x00"),
            attribute(1, 0x800C, SENTENCE.encode() + b"\x00"),
            attribute(2, 0x9002, bytes(14)),
            attribute(2, 0x8010, b"NOTE.TXT\x00"),
            attribute(2, 0x800F, b"bollard seven"),
            attribute(2, 0x9005, long_name("note of the harbour.txt")),
            attribute(2, 0x9002, bytes(14)),
            attribute(2, 0x800F, mail("Nested")),
        )
    )


async def test_winmail_dat_gives_its_text_and_attachments(reader: EphemeralAttachmentHandler) -> None:
    found = await read(reader, tnef(), "winmail.dat", "application/ms-tnef")
    assert SENTENCE in found.root.text
    assert found.names[0] == "note of the harbour.txt" and found.by_path["1"].text == "bollard seven"
    assert found.by_path["2/1"].text == "bollard seven"
    cut = await read(reader, tnef()[:-100], "winmail.dat")
    assert cut.by_path["1"].text == "bollard seven" and cut.root.metadata.truncated


@pytest.fixture(scope="module")
def signer() -> tuple[x509.Certificate, rsa.RSAPrivateKey]:
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "Ada")])
    start = datetime.datetime(2026, 1, 1, tzinfo=datetime.UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(7)
        .not_valid_before(start)
        .not_valid_after(start + datetime.timedelta(days=9000))
        .sign(key, hashes.SHA256())
    )
    return certificate, key


async def test_what_is_signed_is_read_and_what_is_encrypted_is_not(
    reader: EphemeralAttachmentHandler, signer: tuple[x509.Certificate, rsa.RSAPrivateKey]
) -> None:
    certificate, key = signer
    builder = pkcs7.PKCS7SignatureBuilder().set_data(mail()).add_signer(certificate, key, hashes.SHA256())
    for encoding in (serialization.Encoding.DER, serialization.Encoding.PEM):
        signed = builder.sign(encoding, [pkcs7.PKCS7Options.Binary])
        found = await read(reader, signed, "smime.p7m", "application/pkcs7-mime")
        assert found.root.outcome is Outcome.CONTAINER
        assert SENTENCE in found.by_path["1"].text and found.by_path["1/1"].text == "bollard seven"
    options = [pkcs7.PKCS7Options.DetachedSignature, pkcs7.PKCS7Options.Binary]
    detached = await read(reader, builder.sign(serialization.Encoding.DER, options), "smime.p7s")
    assert (detached.root.outcome, detached.root.skipped_reason) == (Outcome.SKIPPED, "signature")
    envelope = pkcs7.PKCS7EnvelopeBuilder().set_data(mail()).add_recipient(certificate)
    encrypted = await read(reader, envelope.encrypt(serialization.Encoding.DER, []), "smime.p7m")
    assert encrypted.root.outcome is Outcome.ENCRYPTED
    assert (await read(reader, signed_der(builder)[:300], "smime.p7m")).root.outcome is Outcome.CORRUPT


def signed_der(builder: pkcs7.PKCS7SignatureBuilder) -> bytes:
    return builder.sign(serialization.Encoding.DER, [pkcs7.PKCS7Options.Binary])


@pytest.mark.parametrize(
    ("payload", "name", "kind", "outcome"),
    [
        (
            b"-----BEGIN PGP MESSAGE-----\n\nhQEMA\n-----END PGP MESSAGE-----\n",
            "m.asc",
            None,
            Outcome.ENCRYPTED,
        ),
        (b"-----BEGIN PGP SIGNATURE-----\n\niQEz\n-----END", "s.asc", None, Outcome.SKIPPED),
        (b"Version: 1\n", None, "application/pgp-encrypted", Outcome.SKIPPED),
        (b"\x85\x02\x0c\x03" + bytes(range(128, 256)) * 3, "m.gpg", None, Outcome.ENCRYPTED),
    ],
)
async def test_wrappers_of_pgp_are_known(
    reader: EphemeralAttachmentHandler, payload: bytes, name: str | None, kind: str | None, outcome: Outcome
) -> None:
    assert (await read(reader, payload, name, kind)).root.outcome is outcome


CALENDAR = f"""BEGIN:VCALENDAR
VERSION:2.0
BEGIN:VEVENT
SUMMARY:Inspection\\, second round
DESCRIPTION:We will see whether {SENTENCE[:20]}
 {SENTENCE[20:]}\\nand what it costs
ATTENDEE;CN="Ben Bollard";ROLE=REQ-PARTICIPANT:mailto:ben@example.com
ATTACH;VALUE=BINARY;ENCODING=BASE64;X-FILENAME=note.txt:{base64.b64encode(b"derrick nine").decode()}
END:VEVENT
END:VCALENDAR
"""
CARD = """BEGIN:VCARD
VERSION:2.1
N;CHARSET=UTF-8;ENCODING=QUOTED-PRINTABLE:M=C3=BCller;J=C3=BCrgen
FN;CHARSET=UTF-8;ENCODING=QUOTED-PRINTABLE:J=C3=BCrgen M=
=C3=BCller
item1.ORG:Harbour Office;Cranes
NOTE:the quay wall leans seven millimetres
END:VCARD
"""


@pytest.mark.parametrize("name", ["event.ics", None])
@pytest.mark.parametrize("ends", ["\n", "\r\n"])
async def test_calendars_say_what_their_fields_say(
    reader: EphemeralAttachmentHandler, name: str | None, ends: str
) -> None:
    found = await read(reader, CALENDAR.replace("\n", ends).encode(), name)
    assert SENTENCE in found.text and "Inspection, second round" in found.text
    assert "Ben Bollard" in found.text and "2.0" not in found.root.text
    assert found.by_path["1"].text == "derrick nine"


async def test_cards_are_decoded(reader: EphemeralAttachmentHandler) -> None:
    found = await read(reader, CARD.encode(), "card.vcf")
    assert SENTENCE in found.text and "Harbour Office Cranes" in found.text
    assert found.root.metadata.title == "Jürgen Müller" and "Müller Jürgen" in found.text


DAMAGED: list[Callable[[], bytes]] = [
    lambda: ole_file(outlook({"__substg1.0_1000001F": "x".encode("utf-16-le")}))[:1500],
    lambda: b"\x78\x9f\x3e\x22\x01\x00" + b"\xff" * 40,
    lambda: b"BEGIN:VCALENDAR\nATTACH;ENCODING=BASE64:x\n",
    lambda: b"From a 2026\nSubject: x\n\n" * 3,
]


@pytest.mark.parametrize("make", DAMAGED)
async def test_damaged_mail_ends_by_name(
    reader: EphemeralAttachmentHandler, make: Callable[[], bytes]
) -> None:
    ends = (Outcome.CORRUPT, Outcome.EMPTY, Outcome.TEXT, Outcome.CONTAINER, Outcome.UNSUPPORTED)
    assert (await read(reader, make())).root.outcome in ends
