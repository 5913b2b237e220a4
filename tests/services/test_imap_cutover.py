"""A dual run with three planted differences, then cutover and rollback under a stream of new mail."""

import asyncio
import json
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from cli.pipeline import Pipeline
from connectors.kafka import Producer, Send
from devstack.sample.mailbox import write_sample_mailbox
from devstack.stack import Stack
from schemas import topics
from schemas.identity import message_key, partition_for
from schemas.registers import DeletedRegister, LabelRegister
from tests.commands import command
from tests.imap import WAIT_SECONDS, Control, eventually, indexed_labels, mailbox_id, observations
from tests.pipelines import documents, pipeline, settle

# A week passes in a second.
WEEK = {"IMAP_COMPARE_DAYS": "0.00001", "AUDIT_HOURS": "0"}


def _compared(running: Pipeline, control: Control) -> dict[str, Any]:
    code, said, errors = command(
        *(running, "imap", "compare", control.address, "--json", "--grace", "0"),
    )
    assert code in (0, 1), errors
    found: dict[str, Any] = json.loads(said)
    assert (code == 0) == (found["verdict"] == "go")
    return found


def _touch(control: Control, message_id: str) -> None:
    """Have its history go on, whatever labels it bears."""
    for change in ("remove", "add"):
        control.post(f"messages/{message_id}/modify", json={change: ["IMPORTANT"]})


def _await_differences(running: Pipeline, control: Control, wanted: dict[str, list[str]]) -> None:
    deadline = time.monotonic() + WAIT_SECONDS
    while (found := _compared(running, control))["sample"] != wanted:
        assert time.monotonic() < deadline, found
        time.sleep(0.5)


def _plant(running: Pipeline, *registers: DeletedRegister | LabelRegister) -> None:
    async def send() -> None:
        async with Producer(running.kafka_bootstrap) as producer:
            partitions = await producer.partitions(topics.DOCUMENTS.name)
            await producer.send(
                [
                    Send(
                        topics.DOCUMENTS.name,
                        register.key,
                        register.encode(),
                        partition=partition_for(
                            message_key(register.mailbox_id, register.message_id), partitions
                        ),
                    )
                    for register in registers
                ]
            )

    asyncio.run(send())


def _all_observed(running: Pipeline, control: Control) -> bool:
    return {said.message_id for said in asyncio.run(observations(running))} >= set(control.truth())


class Stream(threading.Thread):
    """New mail, four a second, until it is told to stop; ``ids`` of what came."""

    def __init__(self, control: Control) -> None:
        super().__init__(daemon=True)
        self._control = control
        self._ended = threading.Event()
        self.ids: list[str] = []

    def run(self) -> None:
        while not self._ended.wait(0.25):
            raw = f"Subject: number {len(self.ids)}\r\n\r\nthe {len(self.ids)}th of a stream\r\n"
            self.ids.append(self._control.post("messages", content=raw.encode())["id"])

    def end(self) -> None:
        self._ended.set()
        self.join()


@pytest.mark.full
@pytest.mark.timeout(900)
def test_planted_differences_are_found_and_a_cutover_loses_nothing(stack: Stack, tmp_path: Path) -> None:
    mail = tmp_path / "sample.mbox"
    write_sample_mailbox(mail)
    faults = tmp_path / "faults.json"
    faults.write_text(json.dumps([{"kind": "imap_truncated", "after": 12, "count": 1}]))
    options: dict[str, Any] = {"imap": True, "policies": {"source": "dual"}, "also": WEEK}
    with pipeline(mail, tmp_path, faults, stack=stack, **options) as running:
        control = Control(running)
        running.start()
        eventually(lambda: _all_observed(running, control), "the dual run")
        settle(running)
        lost, bare = _differs(running, control)
        # Repaired: the API's side by what happens to the messages next, IMAP's by looking again.
        for key in (lost, bare):
            _touch(control, key)
        # An audit leaves to the history what the history has yet to tell.
        eventually(lambda: "IMPORTANT" in indexed_labels(running)[bare], "the API hears of it")
        settle(running)
        assert command(running, "audit", control.address, "--repair")[0] == 0
        code, _, errors = command(running, "imap", "recheck", control.address, "--grace", "0")
        assert code == 0, errors
        _await_differences(running, control, {})
        _goes_over_and_back(running, control)
        messages = [found for found in documents(running).values() if found["kind"] == "message"]
        assert len(messages) == len({found["message_id"] for found in messages}) == len(control.truth())


def _differs(running: Pipeline, control: Control) -> tuple[str, str]:
    """What IMAP had wrong, what is planted on the API's side (a lost message, a lost label: returned), and
    that nothing is switched then."""
    found = _compared(running, control)
    assert {kind: count for kind, count in found["differences"].items() if count} == {"contents": 1}
    [truncated] = found["sample"]["contents"]
    truth, box = control.truth(), mailbox_id(running)
    others = sorted(set(truth) - {truncated})
    lost = others[0]
    bare = next(key for key in others[1:] if "INBOX" in truth[key]["labels"])
    _touch(control, others[-1])
    settle(running)
    newest = max(int(message["historyId"]) for message in control.truth().values())
    _plant(
        running,
        DeletedRegister(mailbox_id=box, message_id=lost, epoch=1, history_id=newest),
        LabelRegister(
            mailbox_id=box, message_id=bare, epoch=1, history_id=newest, label_id="INBOX", present=False
        ),
    )
    planted = {"only_imap": [lost], "labels": [bare], "contents": [truncated]}
    _await_differences(running, control, planted)
    code, _, errors = command(running, "imap", "cutover", control.address, "--grace", "0")
    assert code == 1
    assert "1 messages that only IMAP has" in errors
    code, said, _ = command(running, "imap", "compare", control.address, "--html", "--grace", "0")
    assert (code, "<svg" in said, lost in said) == (1, True, True)
    return lost, bare


def _goes_over_and_back(running: Pipeline, control: Control) -> None:
    """While mail comes."""
    stream = Stream(control)
    stream.start()
    eventually(lambda: len(stream.ids) > 8, "a stream")
    time.sleep(2)
    eventually(lambda: _switched(running, control, "cutover"), "a cutover between two mails")
    again = command(running, "imap", "cutover", control.address, "--json", "--grace", "0")
    assert json.loads(again[1])["epoch"] == 2, "safe to repeat"
    newest_id = stream.ids[-1]
    eventually(lambda: newest_id in indexed_labels(running), "the API alone")
    assert _switched(running, control, "rollback")
    assert _switched(running, control, "rollback"), "safe to repeat"
    stop_at = len(stream.ids)
    eventually(lambda: len(stream.ids) > stop_at + 4, "more of the stream")
    stream.end()
    settle(running)
    eventually(lambda: set(indexed_labels(running)) == set(control.truth()), "all and nothing else")


def _switched(running: Pipeline, control: Control, way: str) -> bool:
    grace = ["--grace", "5"] if way == "cutover" else []
    return command(running, "imap", way, control.address, *grace)[0] == 0
