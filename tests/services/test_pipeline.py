"""The whole path on real servers: every message and attachment of the sample mailbox, once, and found."""

import asyncio
import json
import re
import shutil
import time
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest

from cli.pipeline import Pipeline, mailbox_id_of
from cli.status import Status
from connectors.elasticsearch import Index
from connectors.encoder import Encoder, open_encoder
from connectors.kafka import read_table
from devstack.sample.mailbox import DEMO_SEARCHES, SampleSummary, write_sample_mailbox
from devstack.sample.questions import QUESTIONS
from devstack.stack import Stack
from schemas import topics
from schemas.outcomes import Outcome
from schemas.registers import ContentRegister
from search.access import Access
from search.conditions import Context
from search.labels import LabelDirectories
from search.query import parse
from search.results import Mode, Results
from search.retrieval import Retrieval
from tests.pipelines import attachments_in, documents, pipeline, settle
from tests.records import read_all

pytestmark = pytest.mark.timeout(600)


@pytest.fixture(scope="module")
def mail(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, SampleSummary]:
    path = tmp_path_factory.mktemp("mail") / "sample.mbox"
    return path, write_sample_mailbox(path)


@pytest.fixture(scope="module")
def settled(
    mail: tuple[Path, SampleSummary], stack: Stack, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[Pipeline, Status]]:
    with pipeline(mail[0], tmp_path_factory.mktemp("run"), encoder="minilm", stack=stack) as running:
        running.start()
        yield running, settle(running)


@pytest.fixture(scope="module")
def encoder() -> Encoder:
    return open_encoder("minilm")


async def search(
    index: Index, encoder: Encoder | None, query: str, mode: Mode, labels: LabelDirectories | None = None
) -> Results:
    context = Context(datetime.now(ZoneInfo("Europe/London")), labels or LabelDirectories({}))
    return await Retrieval(index, encoder).search(
        parse(query), Access.everything(), mode=mode, limit=3, context=context
    )


def test_every_message_and_attachment_is_a_document(
    mail: tuple[Path, SampleSummary], settled: tuple[Pipeline, Status]
) -> None:
    running, status = settled
    found = documents(running).values()
    top_level = [doc for doc in found if doc["kind"] == "attachment" and "/" not in doc["part_path"]]
    assert status.messages == mail[1].messages == 101
    assert len(top_level) == mail[1].attachments == attachments_in(mail[0])
    nested = [doc for doc in found if "/" in doc["part_path"]]
    assert nested, "the sample holds a zip and a forwarded mail"
    assert status.documents == status.messages + len(top_level) + len(nested)
    assert status.dead_letters == 0


def test_every_attachment_has_one_final_outcome(settled: tuple[Pipeline, Status]) -> None:
    attachments = [doc for doc in documents(settled[0]).values() if doc["kind"] == "attachment"]
    outcomes = {doc["outcome"] for doc in attachments}
    assert len(attachments) > 40
    assert outcomes <= {outcome.value for outcome in Outcome} - {"pending"}
    assert {"text", "encrypted", "empty", "container", "unsupported"} <= outcomes


@pytest.mark.parametrize("asked", DEMO_SEARCHES, ids=lambda asked: asked.query)
def test_the_demos_searches_find_what_they_promise(
    settled: tuple[Pipeline, Status], encoder: Encoder, asked: object
) -> None:
    async def find() -> None:
        async with Index.open(settled[0].elasticsearch_url) as index:
            hits = (await search(index, encoder, asked.query, Mode(asked.mode))).hits  # type: ignore[attr-defined]
        assert hits[0].subject == asked.expected_subject  # type: ignore[attr-defined]
        assert hits[0].matches[0].where.startswith(asked.expected_where)  # type: ignore[attr-defined]

    asyncio.run(find())


def test_thirty_questions_find_their_answers(settled: tuple[Pipeline, Status], encoder: Encoder) -> None:
    """Among the first three, and finds in attachments say so."""
    running, _ = settled

    async def find() -> tuple[list[str], int]:
        names = LabelDirectories(await read_table(running.kafka_bootstrap, topics.MAILBOXES.name))
        missed, in_attachments = [], 0
        async with Index.open(running.elasticsearch_url) as index:
            for question in QUESTIONS:
                hits = (await search(index, encoder, question.query, Mode.HYBRID, names)).hits
                mark = f".{re.sub(r'[^0-9]', '', question.date)}.{question.sender}@"
                found = [hit for hit in hits if mark in (hit.rfc_message_id or "")]
                if not found:
                    missed.append(f"{question.query}: {[hit.subject for hit in hits]}")
                elif question.kind == "attachment":
                    in_attachments += any(match.part_path for match in found[0].matches)
        return missed, in_attachments

    missed, in_attachments = asyncio.run(find())
    assert len(missed) <= 2, missed
    assert in_attachments >= 8


def test_answers_of_attachments_stand_in_an_attachment_of_the_right_message(
    settled: tuple[Pipeline, Status],
) -> None:
    found = list(documents(settled[0]).values())
    for question in QUESTIONS:
        if question.kind != "attachment":
            continue
        mark = f".{re.sub(r'[^0-9]', '', question.date)}.{question.sender}@"
        bearing = [doc for doc in found if question.answer.lower() in " ".join(doc["text"].lower().split())]
        assert bearing, question
        assert {doc["kind"] for doc in bearing} == {"attachment"}, question
        assert any(mark in doc["rfc_message_id"] for doc in bearing), question


def test_no_attachment_bytes_stand_in_kafka(settled: tuple[Pipeline, Status]) -> None:
    records = asyncio.run(read_all(settled[0].kafka_bootstrap, topics.DOCUMENTS.name))
    contents = [
        ContentRegister.decode(value) for key, value in records if value is not None and "/content/" in key
    ]
    assert len(contents) > 100
    for key, value in records:
        assert value is not None, key
        for mark in (b"%PDF-", b"JVBERi0", b"\\u0089PNG", b"iVBORw0KGgo", b"PK\\u0003\\u0004", b"UEsDBB"):
            assert mark not in value


def test_new_mail_is_found_within_seconds(settled: tuple[Pipeline, Status], tmp_path: Path) -> None:
    running, before = settled
    written = tmp_path / "new.eml"
    written.write_bytes(
        b"From: someone@example.com\nTo: helen.marsh@tidewell.example\nSubject: Zebra crossing\n"
        b"Date: Mon, 01 Dec 2025 09:00:00 +0000\nMessage-ID: <zebra@example.com>\n\nquokka marmalade\n"
    )
    shutil.copy(written, running.drop_directory / "new.eml.part")
    (running.drop_directory / "new.eml.part").rename(running.drop_directory / "new.eml")

    async def appear() -> list[str]:
        async with Index.open(running.elasticsearch_url) as index:
            deadline = time.monotonic() + 60
            while time.monotonic() < deadline:
                hits = (await search(index, None, "quokka marmalade", Mode.KEYWORD)).hits
                if hits:
                    return [hit.subject for hit in hits]
                await asyncio.sleep(0.2)
        return []

    assert asyncio.run(appear()) == ["Zebra crossing"]
    assert before.messages == 101


def test_logs_hold_no_subject_address_or_text(settled: tuple[Pipeline, Status]) -> None:
    running, _ = settled
    logs = "".join(
        (running.directory / f"{name}.log").read_text() for name in ("source", "extract", "slow", "index")
    )
    for private in ("tidewell.example", "Corriemore", "Grey Heron", "demurrage"):
        assert private not in logs
    assert json.dumps(mailbox_id_of("x"))
