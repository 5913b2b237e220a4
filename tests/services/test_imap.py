"""The whole path over IMAP: the same documents as over the API, killed and cut off on the way; dual runs."""

import asyncio
import json
import signal
from pathlib import Path
from typing import Any

import pytest

from cli.pipeline import Pipeline
from connectors.kafka import read_partition
from devstack.sample.mailbox import write_sample_mailbox
from devstack.stack import Stack
from schemas import topics
from schemas.events import MailboxRecord, MessageChange, Observation
from schemas.identity import label_id_of, partition_for
from tests.commands import command
from tests.imap import Control, eventually, indexed_labels, mailbox_id, observations
from tests.pipelines import documents, pipeline, settle

# The connection breaks in every tenth body, and now and then it is all too much.
FAULTS = [
    {"kind": "imap_drop", "probability": 0.1, "seed": 3, "count": 10},
    {"kind": "imap_throttle", "method": "imap.status", "after": 5, "count": 2},
]
# What says how a document was come by, and not what is in it.
BY_THE_WAY = {"registers", "label_ids", "sent_at", "epoch", "history_id", "sources"}


def _content(running: Pipeline) -> dict[str, dict[str, Any]]:
    return {
        key: {name: value for name, value in document.items() if name not in BY_THE_WAY}
        for key, document in documents(running).items()
    }


def _differences(wanted: dict[str, dict[str, Any]], found: dict[str, dict[str, Any]]) -> list[str]:
    """What differs: documents that only one side has, and the names of fields."""
    lists = [f"only one has {key}" for key in wanted.keys() ^ found.keys()]
    for key in wanted.keys() & found.keys():
        names = wanted[key].keys() | found[key].keys()
        lists += [
            f"{name}: {wanted[key].get(name)} {found[key].get(name)}"
            for name in names
            if wanted[key].get(name) != found[key].get(name)
        ]
    return lists


def _wanted(control: Control) -> dict[str, set[str]]:
    return {
        message_id: {label for label in message["labels"] if not label.startswith(("CATEGORY_", "Label_"))}
        for message_id, message in control.truth().items()
    }


def _indexed(running: Pipeline, control: Control) -> bool:
    known = indexed_labels(running)
    return {
        key: {label for label in labels if not label.startswith("label-")} for key, labels in known.items()
    } == _wanted(control)


@pytest.mark.full
@pytest.mark.timeout(900)
def test_over_imap_the_documents_are_those_of_the_api(stack: Stack, tmp_path: Path) -> None:
    """Backfill with kills and broken connections, new mail, labels, a deletion, folders made anew."""
    mail = tmp_path / "sample.mbox"
    write_sample_mailbox(mail)
    with pipeline(mail, tmp_path / "api", stack=stack) as running:
        running.start()
        settle(running)
        by_api = _content(running)
    faults = tmp_path / "faults.json"
    faults.write_text(json.dumps(FAULTS))
    options: dict[str, Any] = {"imap": True, "policies": {"source": "imap"}}
    with pipeline(mail, tmp_path / "imap", faults, stack=stack, **options) as running:
        control = Control(running)
        before = control.truth()
        running.start()
        eventually(lambda: control.stats()["imap"].get("FETCH", 0) > 20, "the middle of the backfill")
        for name in ("source", "extract"):
            running.kill(name, signal.SIGKILL)
            running.start(name)
        settle(running)
        assert _differences(by_api, _content(running)) == []
        assert control.truth() == before, "nothing was marked as read"
        stats = control.stats()
        assert stats["faults"]["imap_drop"] > 0 < stats["faults"]["imap_throttle"]
        assert stats["requests"].keys() <= {"token"}, "the API was not asked"

        new = control.post("messages", content=b"Subject: tide\r\n\r\nthe tide gauge stands at seven\r\n")[
            "id"
        ]
        eventually(lambda: new in indexed_labels(running), "new mail")
        first, second = list(before)[:2]
        control.post(f"messages/{first}/modify", json={"add": ["STARRED"], "remove": ["UNREAD"]})
        control.post(f"messages/{new}/trash")
        control.delete(second)
        eventually(lambda: _indexed(running, control), "labels and deletion")
        running.kill("source", signal.SIGKILL)
        control.post(f"messages/{first}/modify", json={"remove": ["STARRED"]})
        control.delete(new)
        running.start("source")
        eventually(lambda: _indexed(running, control), "what happened while nobody looked")
        control.post("uidvalidity")
        third = control.post("messages", content=b"Subject: anew\r\n\r\n")["id"]
        eventually(lambda: third in indexed_labels(running) and _indexed(running, control), "a new epoch")


async def _changes(running: Pipeline) -> list[MessageChange]:
    partition = partition_for(mailbox_id(running), running.settings.topic_partitions)
    return [
        MessageChange.decode(record.value or b"")
        async for record in read_partition(running.kafka_bootstrap, topics.CHANGES.name, partition)
    ]


@pytest.mark.timeout(600)
def test_in_a_dual_run_the_api_decides_and_imap_observes(stack: Stack, tmp_path: Path) -> None:
    mail = tmp_path / "sample.mbox"
    write_sample_mailbox(mail)
    options: dict[str, Any] = {"imap": True, "policies": {"source": "dual"}}
    with pipeline(mail, tmp_path, stack=stack, **options) as running:
        control = Control(running)
        running.start("source")

        def seen() -> list[Observation]:
            return [said for said in everything() if said.way == "imap"]

        def everything() -> list[Observation]:
            return asyncio.run(observations(running))

        eventually(lambda: len(seen()) > 3, "the first observations")
        running.kill("source", signal.SIGKILL)
        running.start("source")
        eventually(lambda: {said.message_id for said in seen()} == set(control.truth()), "all observed")
        ids = [said.message_id for said in seen() if said.kind == "seen"]
        assert len(ids) - len(set(ids)) <= 1, "what was written down is not fetched again"
        assert all(said.parts and said.received_at and said.spent_bytes for said in seen())
        first, second = sorted(control.truth())[:2]
        control.post(f"messages/{first}/modify", json={"add": ["Harbour"]})
        control.delete(second)
        eventually(lambda: {said.kind for said in seen()} == {"seen", "labels", "gone"}, "changes")
        [labelled] = [said for said in seen() if said.kind == "labels"]
        assert labelled.message_id == first
        assert label_id_of("Harbour") in labelled.label_ids
        [gone] = [said for said in seen() if said.kind == "gone"]
        assert gone.message_id == second
        assert "FETCH" in control.stats()["imap"]
        eventually(lambda: any(said.way == "gmail_api" for said in everything()), "what the API takes")
        taken = [said for said in everything() if said.way == "gmail_api"]
        assert all(said.kind == "spent" and said.spent_bytes and said.spent_requests for said in taken)
        # IMAP fails for good: the API goes on, and nothing that IMAP saw is among its changes.
        control.faults({"kind": "imap_throttle"})
        new = control.post("messages", content=b"Subject: on\r\n\r\n")["id"]
        eventually(lambda: new in {change.message_id for change in asyncio.run(_changes(running))}, "API")
        known = {int(change["historyId"]) for change in control.truth().values()}
        assert {change.history_id for change in asyncio.run(_changes(running))} & known
        assert max(change.history_id for change in asyncio.run(_changes(running))) == max(known)


@pytest.mark.timeout(600)
def test_a_switch_needs_a_comparison_or_a_reason_and_begins_an_epoch(stack: Stack, tmp_path: Path) -> None:
    mail = tmp_path / "one.mbox"
    mail.write_bytes(b"From a@example.com Thu Jan  1 00:00:00 2026\nSubject: one\n\ntext\n")
    options: dict[str, Any] = {"imap": True, "policies": {"source": "dual"}}
    with pipeline(mail, tmp_path, stack=stack, **options) as running:
        control = Control(running)
        code, _, errors = command(running, "imap", "cutover", control.address)
        assert code == 1
        assert "not switched: IMAP has observed nothing" in errors
        assert command(running, "imap", "cutover", control.address, "--force", "moving house")[0] == 0
        assert command(running, "imap", "cutover", control.address)[0] == 0, "safe to repeat"
        assert command(running, "imap", "rollback", control.address)[0] == 0
        assert command(running, "imap", "rollback", control.address)[0] == 0
        assert command(running, "mailbox", "set", control.address, "--source", "imap")[0] == 0
        record = MailboxRecord.decode(command(running, "mailbox", "list", "--json")[1].encode())
        assert (record.source, record.epoch) == ("imap", 4)
        assert [(switch.before, switch.after) for switch in record.switches] == [
            ("dual", "gmail_api"),
            ("gmail_api", "dual"),
        ]
        assert record.switches[0].forced == "moving house"
        assert record.switches[0].against
