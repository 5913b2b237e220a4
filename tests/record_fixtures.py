"""Records every event type of today's version out of a real run: ``python -m tests.record_fixtures``.

What it writes is kept for good: tomorrow's code must read it. So it is run once a version (a new minor or
major one writes files beside the old), over invented mail only.
"""

import asyncio
import json
import sys
import tempfile
import time
from collections.abc import Iterator
from email.message import EmailMessage
from pathlib import Path
from typing import Any

from cli.pipeline import Pipeline
from connectors.kafka import Log, Producer, Record, Send
from devstack.gmail.mailfiles import MailBytes
from devstack.gmail.server import GmailEmulator
from devstack.sample import documents, scans
from devstack.sample.model import Attachment
from schemas import topics
from schemas.catalog import EVENTS
from schemas.events import ChangeKind, MessageChange
from schemas.export import version_of
from schemas.headers import headers_of, kept
from tests.commands import command
from tests.pipelines import pipeline, settle

FIXTURES = Path(__file__).parent / "unit" / "schemas" / "fixtures"
ANNA, BERT = "anna@example.com", "bert@example.com"
WAIT_SECONDS = 120.0


def _mail(subject: str, *attachments: Attachment) -> bytes:
    message = EmailMessage()
    message["From"] = f"Carla Example <carla{'@'}example.com>"
    message["To"] = f"Anna Example <{ANNA}>"
    message["Cc"] = f"Bert Example <{BERT}>"
    message["Reply-To"] = f"office{'@'}example.com"
    message["Date"] = "Mon, 02 Feb 2026 10:00:00 +0100"
    message["Message-ID"] = f"<{subject.replace(' ', '-')}@example.com>"
    message["Subject"] = subject
    message.set_content(f"This is about the {subject}: see you on Monday.\n")
    for attachment in attachments:
        main, _, sub = attachment.media_type.partition("/")
        message.add_attachment(attachment.render(), main, sub, filename=attachment.name)
    return message.as_bytes()


def _live(running: Pipeline, emulator: GmailEmulator) -> None:
    """What people do and what goes wrong, until every event type has been written."""
    running.start()
    settle(running)
    assert command(running, "mailbox", "set", BERT, "--deletions", "keep", "--keep-days", "30")[0] == 0
    time.sleep(5)  # the source takes the policy in
    anna, bert = emulator.mailbox(ANNA), emulator.mailbox(BERT)
    first, second, *_, last = (message.id for message in anna.messages())
    anna.modify(first, add=["STARRED"])
    anna.modify(first, remove=["INBOX"])
    anna.label_id("Projects/Harbour")
    anna.delete(second)
    bert.delete(bert.messages()[0].id)
    anna.add(_mail("news"), ["INBOX"])
    anna.add(_mail("unfinished draft"), ["DRAFT"])
    settle_live(running)
    for arguments in (
        ("sync", ANNA, "--backfill", "--dry-run"),
        ("sync", ANNA, "--backfill", "--query", "subject:news"),
        ("audit", ANNA, "--repair"),
        ("sync", ANNA),
        ("mailbox", "purge", ANNA, "--message", last, "--yes"),
    ):
        code, _, errors = command(running, *arguments)
        assert code == 0, (arguments, errors)
    asyncio.run(_break(running))
    settle_live(running)
    for arguments in (("discard", "--stage", "fast"), ("replay", "--stage", "index")):
        code, _, errors = command(running, "dead-letters", *arguments)
        assert code == 0, errors
    settle_live(running)


def settle_live(running: Pipeline) -> None:
    time.sleep(3)  # the source polls every second
    settle(running)


async def _break(running: Pipeline) -> None:
    """Bytes that are no event, a document that is none, and a change of a version that is not there yet."""
    change = MessageChange(mailbox_id="b", message_id="m", kind=ChangeKind.DELETE, epoch=1, history_id=2)
    later = headers_of(change.schema_id(), (2, 0))
    async with Producer(running.kafka_bootstrap) as producer:
        await producer.send([Send(topics.CHANGES.name, "nobody", change.encode(), headers=later)])
        await producer.send([Send(topics.CHANGES.name, "nobody", b"no change")])
        await producer.send([Send(topics.DOCUMENTS.name, "nobody/labels", b"no register")])


async def _records(running: Pipeline) -> list[Record]:
    found = []
    for topic in topics.ALL:
        async with Log.open(running.kafka_bootstrap, topic.name) as log:
            found += [record async for record in log.read()]
    return found


def _features(value: Any, place: str = "") -> Iterator[str]:
    """What makes a record worth keeping beside others: its fields, and values that look like a choice."""
    if isinstance(value, dict):
        for name, inner in value.items():
            yield from _features(inner, f"{place}.{name}")
    elif isinstance(value, list):
        yield f"{place}[{min(len(value), 2)}]"
        for inner in value:
            yield from _features(inner, f"{place}[]")
    elif isinstance(value, str) and value.replace("_", "").isalpha() and value.islower():
        yield f"{place}={value}"
    else:
        yield f"{place}:{type(value).__name__}"


def write(records: list[Record]) -> None:
    """One file an event type, of its records those that show something that those before do not."""
    for kind in EVENTS:
        seen: set[str] = set()
        lines = []
        for record in records:
            if record.value is None or kept(record.headers) != kind.schema_headers():
                continue
            new = {record.topic, *_features(json.loads(record.value))} - seen
            if new:
                seen |= new
                value = record.value.decode()
                headers = {name: said.decode() for name, said in kept(record.headers)}
                entry = {"topic": record.topic, "key": record.key, "headers": headers, "value": value}
                lines.append(json.dumps(entry, ensure_ascii=False))
        assert lines, f"the run wrote no {kind.__name__}"
        path = FIXTURES / f"{kind.__name__}-{version_of(kind)}.jsonl"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("\n".join(lines) + "\n")
        sys.stdout.write(f"{len(lines):3} {path.name}\n")


def main() -> None:
    """Run, and write."""
    mails = [
        _mail("minutes", documents.text("minutes.txt", "The harbour opens on Monday.")),
        _mail("old offer"),
        _mail("scan", scans.scanned_image("scan.png", 7, "Invoice 2026-17", "Total 42 Euro")),
        _mail("papers", documents.pdf("papers.pdf", "Papers", "A paragraph about cranes.")),
        _mail(
            "archive",
            documents.binary("files.zip", documents.zip_bytes({"a.txt": b"inside", "b.bin": b"\0\1"})),
        ),
        _mail("locked", documents.locked_pdf("locked.pdf", "Locked", "secret", "Nobody reads this.")),
        _mail("purged one"),
    ]
    also = {"AUDIT_HOURS": "0", "TOPIC_PARTITIONS": "2"}
    with (
        GmailEmulator(
            {ANNA: [MailBytes(mail) for mail in mails], BERT: [MailBytes(_mail("old"))]}
        ) as emulator,
        tempfile.TemporaryDirectory() as directory,
        pipeline(None, Path(directory), gmail=emulator.describe(), also=also) as running,
    ):
        _live(running, emulator)
        records = asyncio.run(_records(running))
    write([*records, *_observed(mails[0])])


def _observed(mail: bytes) -> list[Record]:
    """What a run beside IMAP writes."""
    with tempfile.TemporaryDirectory() as directory:
        file = Path(directory) / "mail.mbox"
        file.write_bytes(b"From x\n" + mail + b"\n")
        with pipeline(file, Path(directory), imap=True, policies={"source": "dual"}) as running:
            running.start("source")
            while not (
                found := [r for r in asyncio.run(_records(running)) if r.topic == topics.OBSERVATIONS.name]
            ):
                running.check()
                time.sleep(1)
        return found


if __name__ == "__main__":
    main()
