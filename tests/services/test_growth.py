"""More partitions, on the real broker: a mailbox keeps its order, and a message its one partition."""

import asyncio
import importlib
import json
import time
from collections import defaultdict
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from aiokafka import AIOKafkaConsumer

from cli.pipeline import Pipeline, mailbox_id_of
from connectors.elasticsearch import Index
from connectors.kafka import Log, Producer, Record, Send, consumer
from connectors.topic_admin import apply_topics
from devstack.gmail.mailfiles import MailBytes
from devstack.gmail.server import GmailEmulator
from devstack.stack import Stack
from schemas import topics
from schemas.events import ChangeKind, MessageChange
from schemas.identity import message_key, partition_for
from schemas.registers import LabelsRegister, decode_register, split_key
from schemas.topics import Topic
from tests.commands import command
from tests.pipelines import documents, emptied, pipeline, settle
from tests.records import read_all

pytestmark = pytest.mark.timeout(600)

BEFORE, AFTER = 2, 5  # no multiple: keys move among the old partitions, too
MAILBOXES = [f"mailbox-{number}" for number in range(12)]
EXAMPLES = Path(__file__).parents[2] / "examples" / "python"


@pytest.fixture(autouse=True)
def documents_stand_where_they_did() -> Iterator[None]:
    yield
    topics.documents_stand_in("mail.documents.v1")


def _changes(numbers: Sequence[int]) -> list[Send]:
    return [
        Send(
            topics.CHANGES.name,
            mailbox,
            MessageChange(
                mailbox_id=mailbox, message_id="m", kind=ChangeKind.UPSERT, epoch=1, history_id=number
            ).encode(),
        )
        for number in numbers
        for mailbox in MAILBOXES
    ]


async def _write(bootstrap: str, sends: Sequence[Send]) -> None:
    async with Producer(bootstrap) as producer:
        await producer.send(sends)


async def _read(bootstrap: str, group: str, count: int, seen: dict[str, list[int]]) -> None:
    """A team's consumer, of the careless kind: where nothing is committed, it begins at the end."""
    client = AIOKafkaConsumer(
        topics.CHANGES.name,
        bootstrap_servers=bootstrap,
        group_id=group,
        auto_offset_reset="earliest" if not seen else "latest",
        enable_auto_commit=False,
    )
    await client.start()
    try:
        for _ in range(count):
            record = await asyncio.wait_for(client.getone(), 60)
            change = MessageChange.decode(record.value)
            seen[change.mailbox_id].append(change.history_id)
        await client.commit()
    finally:
        await client.stop()


def test_changes_grow_when_they_are_read_and_mailboxes_keep_their_order(
    stack: Stack, unique_name: str
) -> None:
    bootstrap = emptied(stack).kafka_bootstrap
    environment = {"KAFKA_BOOTSTRAP": bootstrap, "TOPIC_PARTITIONS": str(BEFORE)}
    assert command(environment, "topics", "apply")[0] == 0
    seen: dict[str, list[int]] = defaultdict(list)
    grow = ("topics", "grow", "--partitions", str(AFTER))

    asyncio.run(_write(bootstrap, _changes(range(10))))
    asyncio.run(_read(bootstrap, unique_name, 100, seen))
    code, _, errors = command(environment, *grow)
    assert code == 1
    assert f"{unique_name} has 20 records before it" in errors, (
        "a key's old records wait in its old partition"
    )
    asyncio.run(_read(bootstrap, unique_name, 20, seen))

    code, output, errors = command(environment, *grow)
    assert (code, errors) == (0, "")
    grown = {topics.CHANGES.name, topics.BACKFILL.name, topics.SYNC_REQUESTS.name}
    assert {line.partition(":")[0] for line in output.splitlines() if " has now " in line} == grown
    assert "nothing had to grow" in command(environment, *grow)[1], "and may be given again"
    code, _, errors = command(environment, "topics", "grow", "--partitions", str(BEFORE))
    assert (code, "never has fewer" in errors) == (1, True)

    # what is written before the team's consumer comes back is not lost in the new partitions
    asyncio.run(_write(bootstrap, _changes(range(10, 20))))
    moved = [m for m in MAILBOXES if partition_for(m, BEFORE) != partition_for(m, AFTER)]
    assert 0 < len(moved) < len(MAILBOXES)
    asyncio.run(_read(bootstrap, unique_name, 120, seen))
    assert seen == {mailbox: list(range(20)) for mailbox in MAILBOXES}

    also = {**environment, "TOPIC_PARTITIONS": str(AFTER), "DOCUMENTS_PARTITIONS": str(BEFORE)}
    code, output, _ = command(also, "topics", "apply")
    assert (code, "refuse" in output) == (0, False)
    assert command(also, "topics", "diff")[0] == 0


def _register(message_id: str, history_id: int, *labels: str) -> LabelsRegister:
    return LabelsRegister(
        mailbox_id="box", message_id=message_id, epoch=1, history_id=history_id, label_ids=labels
    )


async def _latest(bootstrap: str, topic: str) -> dict[str, Record]:
    async with Log.open(bootstrap, topic) as log:
        return {record.key: record async for record in log.read()}


async def _drop_while_it_is_read(environment: dict[str, str], topic: str, group: str) -> tuple[int, str, str]:
    options = {"group_id": group, "auto_offset_reset": "earliest", "enable_auto_commit": False}
    async with consumer(environment["KAFKA_BOOTSTRAP"], topic, **options) as client:
        await asyncio.wait_for(client.getone(), 60)
        await client.commit()
        return await asyncio.to_thread(command, environment, "topics", "drop", topic, "--yes")


def test_documents_are_copied_and_go_on_being_copied(stack: Stack, unique_name: str) -> None:
    bootstrap = emptied(stack).kafka_bootstrap
    environment = {"KAFKA_BOOTSTRAP": bootstrap, "TOPIC_PARTITIONS": str(BEFORE)}
    assert command(environment, "topics", "apply")[0] == 0
    copy = ("topics", "copy", "--partitions", str(AFTER))
    target = f"{topics.DOCUMENTS.name}.p{AFTER}"

    def write(registers: Sequence[LabelsRegister], *nulls: LabelsRegister) -> None:
        sends = [
            Send(
                topics.DOCUMENTS.name,
                register.key,
                None if register in nulls else register.encode(),
                partition_for(split_key(register.key)[0], BEFORE),
                (("schema", b"1"),),
                written_at=1_700_000_000_000 + number,
            )
            for number, register in enumerate([*registers, *nulls])
        ]
        asyncio.run(_write(bootstrap, sends))

    write([_register(f"m{n}", n + 1, "INBOX") for n in range(30)])
    code, output, _ = command(environment, *copy)
    assert (code, output.splitlines()[0]) == (0, f"30 records copied: {target} is complete as of now")
    gone = _register("m3", 4, "INBOX")
    write([_register(f"m{n}", 100, "SENT") for n in range(5)], gone)
    assert command(environment, *copy)[1].startswith("6 records copied")
    assert command(environment, *copy)[1].startswith("0 records copied")

    old, new = (asyncio.run(_latest(bootstrap, name)) for name in (topics.DOCUMENTS.name, target))
    assert new.keys() == old.keys()
    for key, record in new.items():
        assert record.partition == partition_for(split_key(key)[0], AFTER)
        told = (record.value, record.written_at, record.headers)
        assert told == (old[key].value, old[key].written_at, old[key].headers)
    assert new[gone.key].value is None, "what was nulled stays so, for those who read it before"
    assert {record.partition for record in new.values()} == set(range(AFTER))

    code, _, errors = command(environment, "topics", "drop", topics.DOCUMENTS.name, "--yes")
    assert (code, "is no topic of documents beside" in errors) == (1, True), "it is the one in use"
    code, output, _ = command({**environment, "DOCUMENTS_TOPIC": target}, "topics", "drop", target, "--yes")
    assert code == 1
    code, _, errors = asyncio.run(_drop_while_it_is_read(environment, target, unique_name))
    assert (code, f"{unique_name} still reads {target}" in errors) == (1, True)
    assert command(environment, "topics", "drop", target, "--yes") == (0, f"{target} is deleted\n", "")


def test_a_second_version_stands_beside_the_first(stack: Stack, monkeypatch: pytest.MonkeyPatch) -> None:
    """Who reads v1 is not touched by a v2 that says the same in other words."""
    bootstrap = emptied(stack).kafka_bootstrap
    environment = {"KAFKA_BOOTSTRAP": bootstrap, "TOPIC_PARTITIONS": str(BEFORE)}
    assert command(environment, "topics", "apply")[0] == 0
    second = Topic("mail.documents.v2", BEFORE, "compact")
    asyncio.run(apply_topics(bootstrap, [second]))
    registers = [_register(f"m{n}", history_id, "INBOX") for n in range(5) for history_id in (7, 5)]

    def sends(topic: str) -> list[Send]:
        return [
            Send(topic, each.key, _in(topic, each), partition_for(split_key(each.key)[0], BEFORE))
            for each in registers
        ]

    asyncio.run(_write(bootstrap, [*sends(topics.DOCUMENTS.name), *sends(second.name)]))
    monkeypatch.syspath_prepend(str(EXAMPLES))
    v1 = importlib.import_module("merge")
    found: dict[str, dict[str, Any]] = {}
    for name, understood in ((topics.DOCUMENTS.name, v1.decode), (second.name, _second)):
        messages: defaultdict[str, dict[str, Any]] = defaultdict(dict)
        for key, value in asyncio.run(read_all(bootstrap, name)):
            owner, register = split_key(key)
            v1.merge(messages[owner], register, understood(value))
        found[name] = {owner: sorted(v1.label_ids(message)) for owner, message in messages.items()}
    assert found[second.name] == found[topics.DOCUMENTS.name]
    assert len(found[second.name]) == 5
    # a v1 consumer that is pointed at v2 is told, and does not go on with half of it
    [(key, value), *_] = asyncio.run(read_all(bootstrap, second.name))
    with pytest.raises(ValueError, match="validation"):
        decode_register(key, value or b"")
    # and our own processes keep their hands off it: it is no outgrown copy of v1
    assert command(environment, "topics", "drop", second.name, "--yes")[0] == 1
    assert command(environment, "topics", "diff")[0] == 0


def _in(topic: str, register: LabelsRegister) -> bytes:
    if topic == topics.DOCUMENTS.name:
        return register.encode()
    renamed = json.loads(register.encode())
    renamed["at"] = {"epoch": renamed.pop("epoch"), "history": renamed.pop("history_id")}
    return json.dumps(renamed).encode()


def _second(value: bytes | None) -> dict[str, Any]:
    renamed: dict[str, Any] = json.loads(value or b"{}")
    at = renamed.pop("at")
    return {**renamed, "epoch": at["epoch"], "history_id": at["history"]}


ADDRESSES = ("anna@example.com", "bert@example.com")
PURGED = ADDRESSES[1]


def _mail(address: str, number: int) -> bytes:
    lines = (f"From: {address}", f"Subject: harbour {number}", "", f"The lock gate {number} of {address}.")
    return "\n".join(lines).encode()


def _starts(running: Pipeline, *names: str, **also: str) -> None:
    running.also.update(also)
    running.settings = running._settings()
    running.start(*names)


def _stops(running: Pipeline, *names: str) -> None:
    for name in names:
        process = running.processes.pop(name)
        process.terminate()
        assert process.wait(60) == 0


async def _count(running: Pipeline, address: str) -> int:
    async with Index.open(running.settings.elasticsearch) as index:
        await index.refresh()
        return await index.count({"term": {"mailbox_id": mailbox_id_of(address)}})


def _settles(running: Pipeline, messages: int) -> None:
    """Wait until that many are in the index; what has just arrived is noticed at the next poll."""
    deadline = time.monotonic() + 120
    while (found := settle(running).messages) != messages:
        assert time.monotonic() < deadline, f"{found} messages, not {messages}"
        time.sleep(1)


def _arrives(emulator: GmailEmulator, address: str, number: int) -> None:
    emulator.mailboxes[address].add(_mail(address, number))


@pytest.mark.full
def test_the_whole_of_it_grows_and_a_purge_finds_everything(stack: Stack, tmp_path: Path) -> None:
    """The procedures of docs/GROWTH.md, with every process, and mail that goes on arriving."""
    also = {"TOPIC_PARTITIONS": str(BEFORE), "AUDIT_HOURS": "0"}
    with (
        GmailEmulator(
            {address: [MailBytes(_mail(address, n)) for n in range(6)] for address in ADDRESSES}
        ) as emulator,
        pipeline(None, tmp_path, stack=stack, gmail=emulator.describe(), also=also) as running,
    ):
        running.start()
        _settles(running, 12)
        # --- mail.changes and what goes with it
        code, _, errors = command(running, "topics", "grow", "--partitions", str(AFTER))
        assert (code, "stop sources and extract workers first" in errors) == (1, True)
        _stops(running, "source", "extract")
        assert command(running, "topics", "grow", "--partitions", str(AFTER))[0] == 0
        for address in ADDRESSES:
            _arrives(emulator, address, 100)
        grown = {"TOPIC_PARTITIONS": str(AFTER), "DOCUMENTS_PARTITIONS": str(BEFORE)}
        _starts(running, "source", "extract", **grown)
        _settles(running, 14)
        before = documents(running)
        # --- mail.documents: while all goes on, and once more when nobody writes
        copy = ("topics", "copy", "--partitions", str(AFTER))
        assert command(running, *copy)[0] == 0
        _arrives(emulator, ADDRESSES[0], 200)
        _settles(running, 15)
        _stops(running, "extract", "slow", "index")
        _arrives(emulator, ADDRESSES[0], 300)  # the source goes on
        assert not command(running, *copy)[1].startswith("0 records")
        target = f"{topics.DOCUMENTS.name}.p{AFTER}"
        switched = {"DOCUMENTS_TOPIC": target, "DOCUMENTS_PARTITIONS": str(AFTER)}
        running.also.update(switched)
        code, output, errors = command(running, "reindex", "--json")
        assert code == 0, errors
        _starts(running, "extract", "slow", "index")
        _settles(running, 16)
        after = documents(running)
        assert {key: after[key] for key in before} == before
        # --- a purge after it
        confirmed = ("--yes", "--json")
        code, output, _ = command(running, "mailbox", "purge", PURGED, *confirmed)
        assert (code, json.loads(output)["copies"]) == (1, ["mail.documents.v1"])
        code, _, errors = command(running, "topics", "drop", "mail.documents.v1", "--yes")
        assert code == 0, errors
        by_id = mailbox_id_of(PURGED)  # it has no address any more
        code, output, errors = command(running, "mailbox", "purge", by_id, *confirmed)
        assert code == 0, errors
        receipt = json.loads(output)
        assert (receipt["complete"], receipt["copies"]) == (True, [])
        assert asyncio.run(_count(running, PURGED)) == 0
        latest = asyncio.run(_latest(running.kafka_bootstrap, target))
        owners = {message_key(mailbox_id_of(PURGED), m.id) for m in emulator.mailboxes[PURGED].messages()}
        left = [key for key, record in latest.items() if split_key(key)[0] in owners and record.value]
        assert left == []
        assert sum(record.value is not None for record in latest.values()) > 0
        assert asyncio.run(_count(running, ADDRESSES[0])) == 9
