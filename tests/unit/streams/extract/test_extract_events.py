"""What becomes of an event: registers, deferred work, a dead letter, or nothing."""

import asyncio
from pathlib import Path

import pytest

from connectors.errors import (
    AuthorizationError,
    GmailError,
    NotFoundError,
    RateLimitedError,
    UnavailableError,
)
from connectors.kafka import Record
from schemas import topics
from schemas.events import ChangeKind, MailboxState, now_milliseconds
from schemas.identity import message_key, partition_for
from schemas.registers import DeletedRegister, LabelsRegister
from streams.attempts import MAX_DEATHS
from streams.dead_letters import MAX_CONSECUTIVE, TooManyDeadLettersError
from streams.extract import Extract
from tests.extracting import (
    PARTITIONS,
    PRIVATE,
    Broker,
    Client,
    Mailboxes,
    change_of,
    dies,
    mail_of,
    pdf,
    raises,
)


async def test_an_upsert_becomes_labels_then_content_then_parts(
    extract: Extract, broker: Broker, client: Client
) -> None:
    client.answer = lambda: mail_of(pdf())
    await extract.handle_change(change_of())
    names = [register.name for register in broker.registers()]
    assert names == ["labels", "content/", "content/2"]
    labels = broker.registers()[0]
    assert isinstance(labels, LabelsRegister)
    assert (labels.history_id, labels.epoch) == (77, 2)
    expected = partition_for(message_key("box", "m1"), PARTITIONS)
    assert {send.partition for send in broker.sent} == {expected}


async def test_a_deletion_does_not_wait_for_a_fetch(extract: Extract, broker: Broker, client: Client) -> None:
    client.gate.clear()
    fetches = [asyncio.create_task(extract.handle_change(change_of())) for _ in range(50)]
    await asyncio.sleep(0)
    await asyncio.wait_for(extract.handle_change(change_of(ChangeKind.DELETE)), 5)
    [deleted] = broker.registers()
    assert isinstance(deleted, DeletedRegister)
    client.gate.set()
    await asyncio.gather(*fetches)


async def test_label_changes_cost_no_fetch(extract: Extract, broker: Broker, client: Client) -> None:
    await extract.handle_change(change_of(ChangeKind.LABEL_ADDED, label_ids=("STARRED", "Label_1")))
    assert [register.name for register in broker.registers()] == ["label/STARRED", "label/Label_1"]
    assert client.fetched == []


@pytest.mark.parametrize("state", [None, MailboxState.PURGED])
async def test_events_of_unknown_and_purged_mailboxes_are_dropped(
    extract: Extract, broker: Broker, mailboxes: Mailboxes, state: MailboxState | None
) -> None:
    assert mailboxes.mailbox is not None
    mailboxes.mailbox = mailboxes.mailbox.model_copy(update={"state": state}) if state else None
    for kind in ChangeKind:
        await extract.handle_change(change_of(kind, label_ids=("INBOX",)))
    assert broker.sent == []


async def test_events_of_a_purged_message_are_dropped(
    extract: Extract, broker: Broker, mailboxes: Mailboxes
) -> None:
    mailboxes.purged = {"m1"}
    for kind in ChangeKind:
        await extract.handle_change(change_of(kind, label_ids=("INBOX",)))
    assert broker.sent == []


async def test_events_of_an_older_epoch_are_dropped(extract: Extract, broker: Broker) -> None:
    await extract.handle_change(change_of(ChangeKind.DELETE, epoch=1))
    assert broker.sent == []


async def test_a_message_that_is_gone_is_no_failure(extract: Extract, broker: Broker, client: Client) -> None:
    client.answer = raises(NotFoundError("404"))
    await extract.handle_change(change_of())
    assert broker.sent == []


async def test_throttling_defers_for_as_long_as_google_says(
    extract: Extract, broker: Broker, client: Client
) -> None:
    client.answer = raises(RateLimitedError("429", retry_after_seconds=3600))
    await extract.handle_change(change_of())
    [work] = broker.deferred()
    assert work.part_path == ""
    assert 3_500_000 < work.not_before - now_milliseconds() <= 3_600_000


async def test_a_mailbox_that_is_paused_for_long_is_not_waited_for(
    extract: Extract, broker: Broker, client: Client
) -> None:
    client.paused_seconds = 7_200.0
    await extract.handle_change(change_of())
    [work] = broker.deferred()
    assert work.not_before - now_milliseconds() > 7_000_000
    assert client.fetched == []


async def test_a_listing_says_how_to_fetch_and_gives_way_to_live_mail(
    extract: Extract, client: Client
) -> None:
    await extract.handle_change(change_of(fetch="raw", origin="listing"))
    await extract.handle_change(change_of())
    assert client.asked == [(True, True), (False, False)]


async def test_a_label_snapshot_costs_no_fetch(extract: Extract, broker: Broker, client: Client) -> None:
    await extract.handle_change(change_of(ChangeKind.LABELS, label_ids=("INBOX",), origin="listing"))
    [register] = broker.registers()
    assert isinstance(register, LabelsRegister)
    assert (register.history_id, register.label_ids) == (90, ("INBOX",))
    assert client.fetched == []


async def test_a_refused_mailbox_defers_its_events(extract: Extract, broker: Broker, client: Client) -> None:
    client.answer = raises(AuthorizationError("invalid_grant"))
    await extract.handle_change(change_of())
    assert len(broker.deferred()) == 1
    assert broker.dead_letters() == []


async def test_a_permanent_error_is_a_dead_letter_with_its_event(
    extract: Extract, broker: Broker, client: Client
) -> None:
    client.answer = raises(GmailError("Gmail answered 400 invalidArgument"))
    record = change_of()
    await extract.handle_change(record)
    [letter] = broker.dead_letters()
    assert (letter.stage, letter.error_class, letter.offset) == ("fast", "GmailError", 12)
    assert letter.event is not None


async def test_a_surprise_is_a_dead_letter_without_private_text(
    extract: Extract, broker: Broker, client: Client, caplog: pytest.LogCaptureFixture
) -> None:
    client.answer = raises(KeyError(PRIVATE))
    await extract.handle_change(change_of())
    [letter] = broker.dead_letters()
    assert letter.error_class == "KeyError"
    assert PRIVATE not in letter.encode().decode()
    assert PRIVATE not in caplog.text


async def test_bytes_that_are_no_event_are_a_dead_letter(extract: Extract, broker: Broker) -> None:
    await extract.handle_change(Record(topics.CHANGES.name, 0, 1, "box", b"\xff{"))
    await extract.handle_deferred(Record(topics.DEFERRED.name, 0, 1, "id", b'{"mailbox_id": 1}'))
    assert [letter.error_class for letter in broker.dead_letters()] == ["UndecodableEventError"] * 2


async def test_a_broken_broker_stops_the_worker(extract: Extract, broker: Broker) -> None:
    broker.down = True
    with pytest.raises(UnavailableError):
        await extract.handle_change(change_of())


async def test_too_many_dead_letters_in_a_row_stop_the_worker(
    extract: Extract, broker: Broker, client: Client
) -> None:
    client.answer = raises(GmailError("400"))
    with pytest.raises(TooManyDeadLettersError):
        for _ in range(MAX_CONSECUTIVE + 1):
            await extract.handle_change(change_of())
    assert len(broker.dead_letters()) == MAX_CONSECUTIVE


async def test_what_killed_three_processes_is_not_tried_again(
    request: pytest.FixtureRequest, broker: Broker, client: Client, attempts_path: Path
) -> None:
    for _ in range(MAX_DEATHS):
        dies(attempts_path, f"{topics.CHANGES.name}/3/12")
    extract: Extract = request.getfixturevalue("extract")  # the process after them
    await extract.handle_change(change_of())
    assert [letter.error_class for letter in broker.dead_letters()] == ["worker_killed"]
    assert client.fetched == []


async def test_trash_is_known_by_its_labels_only(extract: Extract, broker: Broker, client: Client) -> None:
    client.answer = lambda: mail_of(pdf(), labels=("TRASH",))
    await extract.handle_change(change_of())
    assert [register.name for register in broker.registers()] == ["labels"]
