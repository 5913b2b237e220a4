"""Audit and sync as an operator uses them, on a mailbox and an index that have drifted apart."""

import asyncio
import json
import time
from pathlib import Path

import pytest
from elasticsearch import AsyncElasticsearch

from cli.pipeline import Pipeline, mailbox_id_of
from devstack.gmail.mailfiles import MailBytes
from devstack.gmail.server import GmailEmulator
from devstack.stack import Stack
from schemas import mapping
from schemas.identity import document_id
from tests.commands import command
from tests.pipelines import pipeline, settle

pytestmark = pytest.mark.timeout(400)

ADDRESS = "anna@example.com"
MAILS = 40


def _mailstream(running: Pipeline, *arguments: str) -> tuple[int, str]:
    code, output, _ = command(running, *arguments)
    return code, output


def _audit(running: Pipeline, *options: str) -> tuple[int, dict[str, int]]:
    code, output = _mailstream(running, "audit", ADDRESS, "--json", *options)
    report = json.loads(output)
    return code, {name: report[name] for name in ("missing", "stale", "labels")}


def test_an_audit_finds_what_has_drifted_and_mends_it(stack: Stack, tmp_path: Path) -> None:
    mail = [MailBytes(f"Subject: mail {n}\n\nbody {n}\n".encode()) for n in range(MAILS)]
    also = {"AUDIT_HOURS": "0", "AUDIT_REPAIR": "false"}
    with (
        GmailEmulator({ADDRESS: mail}) as emulator,
        pipeline(None, tmp_path, stack=stack, gmail=emulator.describe(), also=also) as running,
    ):
        running.start()
        settle(running)
        assert _audit(running) == (0, {"missing": 0, "stale": 0, "labels": 0})
        _drift(running, emulator)
        drifted = {"missing": 1, "stale": 1, "labels": 1}
        assert _audit(running) == (1, drifted)
        assert _audit(running, "--repair") == (0, drifted)
        settle(running)
        assert _audit(running) == (0, {"missing": 0, "stale": 0, "labels": 0})
        _listings_cost_what_they_say(running)
        _labels_are_known_by_name(running, emulator)


def _drift(running: Pipeline, emulator: GmailEmulator) -> None:
    """Change the mailbox without a history, and the index without the mailbox."""
    mailbox = emulator.mailboxes[ADDRESS]
    lost, gone, relabelled = mailbox.messages()[:3]
    del mailbox._messages[gone.id]
    relabelled.labels.append("STARRED")

    async def forget() -> None:
        async with AsyncElasticsearch(running.elasticsearch_url) as client:
            own = document_id(mailbox_id_of(ADDRESS), lost.id, "")
            await client.delete(index=mapping.WRITE_ALIAS, id=own, refresh=True)

    asyncio.run(forget())


def _listings_cost_what_they_say(running: Pipeline) -> None:
    code, output = _mailstream(running, "sync", ADDRESS, "--backfill", "--dry-run", "--json")
    assert code == 0
    assert json.loads(output)["messages"] == MAILS - 1
    chosen = ["--query", "subject:mail", "--after", "2000-01-01", "--json"]
    code, output = _mailstream(running, "sync", ADDRESS, "--backfill", *chosen)
    assert code == 0
    assert json.loads(output)["messages"] == MAILS - 1
    code, output = _mailstream(running, "status", "--json")
    [mailbox] = json.loads(output)["mailboxes"]
    assert mailbox["complete"]
    assert mailbox["listed"] == MAILS - 1


def _labels_are_known_by_name(running: Pipeline, emulator: GmailEmulator) -> None:
    mailbox = emulator.mailboxes[ADDRESS]
    wanted = mailbox.messages()[0]
    mailbox.modify(wanted.id, add=["Invoices/Paid"])
    assert "Invoices/Paid" not in wanted.labels, "documents bear ids"
    running.kill("source")  # the names are read at the start, and then every ten minutes
    running.start("source")
    search = ("search", "mail", "--mode", "keyword", "--label", "invoices/paid", "--json")
    deadline = time.monotonic() + 60
    while True:
        code, output = _mailstream(running, *search)
        found = [json.loads(line) for line in output.splitlines()]
        if found:
            break
        assert time.monotonic() < deadline, "the label is not found"
    assert code == 0
    assert [hit["message_id"] for hit in found] == [wanted.id]
    assert "Invoices/Paid" in found[0]["labels"]
    code, _ = _mailstream(running, "search", "mail", "--label", "no such label")
    assert code == 2
