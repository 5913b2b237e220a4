"""Writes the sample mailbox: a year of a small engineering firm's mail as one mbox file.

The content stands in the ``threads_*`` and ``papers_*`` modules; this one makes MIME out of it. Nothing
depends on the hour, the machine or chance: the same version writes the same bytes.
"""

import io
import zlib
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from email.generator import BytesGenerator
from email.headerregistry import Address
from email.message import EmailMessage
from email.policy import default as default_policy
from email.utils import format_datetime
from pathlib import Path
from typing import Literal

from devstack.sample import (
    threads_customers,
    threads_money,
    threads_office,
    threads_operations,
    threads_people,
)
from devstack.sample.model import DOMAIN, PEOPLE, Mail, Thread

OWNER = "helen"
THREADS: tuple[Thread, ...] = (
    *threads_operations.THREADS,
    *threads_customers.THREADS,
    *threads_office.THREADS,
    *threads_people.THREADS,
    *threads_money.THREADS,
)

_POLICY = default_policy.clone(linesep="\n", cte_type="8bit")
_FIRST_THREAD_ID = 1820417000000000000
_RFC822 = "rfc822"


@dataclass(frozen=True, slots=True)
class DemoSearch:
    """A search that the demo runs, and what it must find first."""

    mode: Literal["keyword", "hybrid", "semantic"]
    query: str
    why: str
    expected_subject: str
    expected_where: str  # "body", or the attachment's file name


DEMO_SEARCHES: tuple[DemoSearch, ...] = (
    DemoSearch(
        "keyword",
        "NV-88-3120",
        "a number that stands only in a PDF, inside a mail, forwarded as an attachment",
        "Fwd: Batch 4471",
        "material-certificate.pdf",
    ),
    DemoSearch(
        "hybrid",
        "demurrage for tardy redelivery",
        "words that stand only in the picture of a scanned agreement",
        "Grey Heron: signed copy",
        "signed-agreement-Grey-Heron.png",
    ),
    DemoSearch(
        "semantic",
        "heating failure in winter",
        "the mail speaks of a boiler, ice and coats, and has no word in common with the question",
        "Everyone in coats again",
        "body",
    ),
)


@dataclass(frozen=True, slots=True)
class SampleSummary:
    """What was written: mails, their attachments, and how many attachments of each kind."""

    messages: int
    attachments: int
    kinds: dict[str, int]


def write_sample_mailbox(path: Path) -> SampleSummary:
    """Write the mailbox to ``path``, oldest mail first, and say what is in it."""
    buffer = io.BytesIO()
    kinds: Counter[str] = Counter()
    mails = sorted(_messages(), key=lambda entry: (entry[0], entry[1]["Message-ID"]))
    for sent, message, mail in mails:
        kinds.update(attachment.kind for attachment in mail.attachments)
        kinds.update([_RFC822] if mail.forwarded else [])
        buffer.write(f"From {PEOPLE[mail.sender].address} {sent.strftime('%a %b %d %H:%M:%S %Y')}\n".encode())
        BytesGenerator(buffer, mangle_from_=True, policy=_POLICY).flatten(message)
        buffer.write(b"\n")
    path.write_bytes(buffer.getvalue())
    return SampleSummary(len(mails), kinds.total(), dict(sorted(kinds.items())))


def _messages() -> Iterator[tuple[datetime, EmailMessage, Mail]]:
    for number, thread in enumerate(THREADS, start=1):
        references: list[str] = []
        for position, mail in enumerate(thread.mails):
            subject = mail.subject or (f"Re: {thread.subject}" if position else thread.subject)
            answered = thread.mails[position - 1] if position else None
            message = _message(mail, subject, answered)
            message["Message-ID"] = identity = f"<{number:02}.{position + 1}.{_local(mail)}@{DOMAIN}>"
            if references:
                message["In-Reply-To"] = references[-1]
                message["References"] = " ".join(references)
            references.append(identity)
            message["X-GM-THRID"] = str(_FIRST_THREAD_ID + number)
            if thread.labels:
                box = "Sent" if mail.sender == OWNER else "Inbox"
                message["X-Gmail-Labels"] = ",".join((box, *thread.labels, *mail.labels))
            _fix_boundaries(message, f"{number:02}-{position + 1}")
            yield _when(mail), message, mail


def _local(mail: Mail) -> str:
    return _when(mail).strftime("%Y%m%d%H%M") + "." + mail.sender


def _message(mail: Mail, subject: str, answered: Mail | None) -> EmailMessage:
    """The mail without the headers that tie it into its thread."""
    message = EmailMessage(policy=_POLICY)
    message["From"] = _addresses((mail.sender,))
    message["To"] = _addresses(mail.to)
    if mail.cc:
        message["Cc"] = _addresses(mail.cc)
    message["Subject"] = subject
    message["Date"] = format_datetime(_when(mail))
    plain = _plain_text(mail, answered)
    if plain:
        message.set_content(plain, charset=mail.charset, cte=mail.encoding)
        if mail.html:
            message.add_alternative(mail.html, subtype="html")
    else:
        message.set_content(mail.html, subtype="html", charset=mail.charset, cte=mail.encoding)
    for attachment in mail.attachments:
        main, sub = attachment.media_type.split("/")
        content = attachment.render()
        if attachment.content_id is None:
            message.add_attachment(content, maintype=main, subtype=sub, filename=attachment.name)
        else:
            _html_part(message).add_related(
                content,
                maintype=main,
                subtype=sub,
                filename=attachment.name,
                disposition="inline",
                cid=f"<{attachment.content_id}>",
            )
    if mail.forwarded is not None:
        inner = _message(mail.forwarded, mail.forwarded.subject or subject, None)
        inner["Message-ID"] = f"<{_local(mail.forwarded)}@nordvik.example>"
        message.add_attachment(inner)
    return message


def _html_part(message: EmailMessage) -> EmailMessage:
    part = message.get_body(("html",))
    if not isinstance(part, EmailMessage):
        raise ValueError(f"{message['Subject']}: an inline image needs an HTML body")
    return part


def _plain_text(mail: Mail, answered: Mail | None) -> str:
    if not mail.body:
        return ""
    sender = PEOPLE[mail.sender]
    text = mail.body.strip() + "\n"
    if mail.signed and sender.signature:
        text += f"\n-- \n{sender.signature}\n"
    if mail.quote and answered is not None:
        day = _when(answered).strftime("%d %B %Y at %H:%M").lstrip("0")
        text += f"\nOn {day}, {PEOPLE[answered.sender].name} wrote:\n"
        text += "".join(f"> {line}".rstrip() + "\n" for line in answered.body.strip().splitlines())
    return text


def _addresses(keys: tuple[str, ...]) -> tuple[Address, ...]:
    return tuple(Address(PEOPLE[key].name, addr_spec=PEOPLE[key].address) for key in keys)


def _when(mail: Mail) -> datetime:
    """The mail's hour in Scotland, summer time included."""
    naive = datetime.fromisoformat(mail.date)
    summer = datetime(2025, 3, 30, 1) <= naive < datetime(2025, 10, 26, 2)  # noqa: DTZ001
    return naive.replace(tzinfo=timezone(timedelta(hours=1 if summer else 0)))


def _fix_boundaries(message: EmailMessage, mark: str) -> None:
    """Give every multipart a boundary of its own, which the library would otherwise draw by lot."""
    for number, part in enumerate(message.walk()):
        if part.is_multipart() and part.get_content_maintype() == "multipart":
            part.set_boundary(f"=_{zlib.crc32(f'{mark}/{number}'.encode()):08x}_{mark}-{number}")
