"""The mail of a run: what lies in the mailboxes, the steady stream of changes, and what must be found of it.

What is expected of a mail is known because it was made here, not because anything of ours has read it.
"""

from __future__ import annotations

import hashlib
import io
import random
import threading
import time
import zipfile
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from email.message import EmailMessage

from fpdf import FPDF
from PIL import Image, ImageDraw

from connectors.clamav_check import EICAR
from devstack.gmail.mailfiles import MailBytes
from devstack.gmail.server import GmailEmulator
from devstack.gmail.store import Mailbox
from tests.mailbox_changes import LABELS, change_message

OPERATIONS = ("add", "label", "unlabel", "delete", "trash", "untrash", "draft", "spam")
WEIGHTS = (40, 20, 12, 12, 5, 4, 5, 2)
# What a mail brings; "shared" is one of three that many mails have.
ATTACHMENTS = ("text", "binary", "pdf", "zip", "picture", "shared")
ATTACHED = (0.25, 0.15, 0.2, 0.15, 0.07, 0.18)
SHARED = 3
PICTURE_PIXELS = (620, 110)


@dataclass(frozen=True, slots=True)
class Attachment:
    """What must be found of one: its name, the SHA-256 of its bytes, how reading it ends, a word of its."""

    filename: str
    sha256: str
    outcome: str
    word: str | None = None


@dataclass(frozen=True, slots=True)
class Expected:
    """What must be found of one mail: its subject, a word of its body, its attachments (nested ones too)."""

    subject: str
    word: str
    attachments: tuple[Attachment, ...]


class Letters:
    """Makes mails; ``expected`` has them by their Message-ID. ``marker`` stands in every binary one."""

    def __init__(self, seed: int, marker: bytes, *, infected: bool) -> None:
        self._draws = random.Random(seed)
        self._marker = marker
        self._infected = infected
        self._number = 0
        self._shared = [_pdf(f"shared{seed}n{number}") for number in range(SHARED)]
        self.expected: dict[str, Expected] = {}

    def mail(self) -> bytes:
        """The next one, with no attachment, one or two."""
        self._number += 1
        number, draws = self._number, self._draws
        message_id = f"<chaos-{number}@example.com>"
        subject, word = f"Tide report {number}", f"gauge{number}word"
        mail = EmailMessage()
        mail["From"] = f"Robot {number % 7} <robot-{number % 7}@example.com>"
        mail["To"] = "anna@example.com"
        mail["Subject"] = subject
        mail["Message-ID"] = message_id
        mail["Date"] = f"Mon, 1 Jan 2024 {number // 60 % 24:02}:{number % 60:02}:00 +0000"
        mail.set_content(f"The {word} reads {number * 37 % 991} millimetres.\n")
        attachments: list[Attachment] = []
        for place in range(draws.choices((0, 1, 2), (0.45, 0.4, 0.15))[0]):
            attachments += self._attach(mail, f"{number}x{place}")
        if self._infected and number % 29 == 0:
            attachments += _attached(
                mail, f"virus-{number}.com", EICAR, "application/octet-stream", "blocked"
            )
        self.expected[message_id] = Expected(subject, word, tuple(attachments))
        return mail.as_bytes()

    def _attach(self, mail: EmailMessage, name: str) -> list[Attachment]:
        draws, word = self._draws, f"berth{name}word"
        kind = draws.choices(ATTACHMENTS, ATTACHED)[0]
        if kind == "text":
            body = f"{word} lies at the quay.\n".encode() * draws.choice((1, 50, 2_000))
            return _attached(mail, f"note-{name}.txt", body, "text/plain", "text", word)
        if kind == "binary":
            body = self._marker + draws.randbytes(draws.choice((200, 20_000, 400_000)))
            return _attached(mail, f"data-{name}.bin", body, "application/octet-stream", "unsupported")
        if kind == "zip":
            inner = f"{word} is packed.\n".encode()
            file = io.BytesIO()
            with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as packed:
                packed.writestr(zipfile.ZipInfo(f"inner-{name}.txt"), inner)
            found = _attached(mail, f"pack-{name}.zip", file.getvalue(), "application/zip", "container")
            return [*found, Attachment(f"inner-{name}.txt", _sha256(inner), "text", word)]
        if kind == "picture":
            picture = Image.new("L", PICTURE_PIXELS, 255)
            ImageDraw.Draw(picture).text((20, 30), f"Berth {self._number}", 0, font_size=48)
            written = io.BytesIO()
            picture.save(written, "PNG")
            return _attached(mail, f"scan-{name}.png", written.getvalue(), "image/png", "text")
        if kind == "shared":
            body = draws.choice(self._shared)
            return _attached(mail, f"terms-{name}.pdf", body, "application/pdf", "text")
        return _attached(mail, f"sheet-{name}.pdf", _pdf(word), "application/pdf", "text", word)


def _attached(
    mail: EmailMessage, filename: str, body: bytes, content_type: str, outcome: str, word: str | None = None
) -> list[Attachment]:
    maintype, _, subtype = content_type.partition("/")
    mail.add_attachment(body, maintype=maintype, subtype=subtype, filename=filename)
    return [Attachment(filename, _sha256(body), outcome, word)]


def _sha256(body: bytes) -> str:
    return hashlib.sha256(body).hexdigest()


def _pdf(word: str) -> bytes:
    document = FPDF()
    document.add_page()
    document.set_font("Helvetica", size=12)
    document.cell(text=f"The {word} stands on this page, among others that are of no interest.")
    return bytes(document.output())


def mailboxes(count: int, messages: int, letters: Letters) -> dict[str, list[MailBytes]]:
    """So many mailboxes that share so many mails."""
    found: dict[str, list[MailBytes]] = {f"box{number}@example.com": [] for number in range(count)}
    addresses = list(found)
    for number in range(messages):
        found[addresses[number % count]].append(MailBytes(letters.mail()))
    return found


class Traffic(threading.Thread):
    """One change after the other in the mailboxes, until ``enough``; ``counts`` has those with an effect.

    ``steady_messages``: a mailbox that has grown beyond its part of them loses its oldest with every new one.
    """

    def __init__(
        self,
        emulator: GmailEmulator,
        letters: Letters,
        seed: int,
        operations_per_second: float,
        steady_messages: int | None = None,
    ) -> None:
        super().__init__(name="traffic", daemon=True)
        self._draws = random.Random(seed)
        self._mailboxes = list(emulator.mailboxes.values())
        self._letters = letters
        self._most = steady_messages // len(self._mailboxes) if steady_messages is not None else None
        self._wait_seconds = 1 / operations_per_second
        self._drafts: dict[str, str] = {}
        self._stopping = threading.Event()
        self.failure: BaseException | None = None
        self.counts: Counter[str] = Counter()
        self.on_add: Callable[[Mailbox, str], None] = lambda _mailbox, _message: None

    def run(self) -> None:
        """See the class."""
        try:
            while not self._stopping.wait(self._wait_seconds * self._draws.uniform(0.3, 1.7)):
                self._operate()
        except BaseException as error:
            self.failure = error
            raise

    def enough(self) -> None:
        """Stop, and raise what stopped it before."""
        self._stopping.set()
        self.join()
        if self.failure is not None:
            raise self.failure

    def _operate(self) -> None:
        mailbox = self._draws.choice(self._mailboxes)
        kind = self._draws.choices(OPERATIONS, WEIGHTS)[0]
        before = mailbox.history_id
        try:
            self._do(kind, mailbox)
        except KeyError:
            return  # a fault has deleted it meanwhile
        self.counts[kind] += mailbox.history_id != before

    def _do(self, kind: str, mailbox: Mailbox) -> None:
        draws = self._draws
        if kind in ("add", "spam"):
            labels = ["SPAM", "UNREAD"] if kind == "spam" else draws.sample(LABELS[:6], draws.randint(0, 3))
            self.on_add(mailbox, mailbox.add(self._letters.mail(), labels, time.time()).id)
            if self._most is not None and len(present := mailbox.messages()) > self._most:
                mailbox.delete(present[-1].id)
        elif kind == "draft":
            # An autosave: the old message goes, a new one comes.
            old = self._drafts.pop(mailbox.address, None)
            if old is not None:
                mailbox.delete(old)
            self._drafts[mailbox.address] = mailbox.add(self._letters.mail(), ["DRAFT"]).id
        else:
            change_message(kind, mailbox, draws)
