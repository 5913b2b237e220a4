"""A mailbox over Gmail's IMAP, as emulated: the API's ids, labels and parts, and faults on the way."""

import asyncio
from collections.abc import AsyncIterator, Iterator

import pytest

from connectors.errors import (
    AuthorizationError,
    ConfigurationError,
    EpochEndedError,
    GmailUnavailableError,
    HistoryExpiredError,
    NotFoundError,
    RateLimitedError,
)
from connectors.gmail.message import MailMessage
from connectors.imap.mailbox import ImapMailbox
from connectors.imap.observer import part_digests
from devstack.gmail.faults import FaultPlan, parse_faults
from devstack.gmail.mailfiles import MailBytes
from devstack.gmail.server import GmailEmulator
from schemas import mime
from schemas.events import ChangeKind
from schemas.identity import label_id_of
from tests.gmail_api import ANNA, MAIL
from tests.imap import Follower, assert_like_parsed, imap_mailbox, large_mail, listed
from tests.part_paths import gmail_client

CATEGORIES = {"CATEGORY_PERSONAL", "CATEGORY_SOCIAL", "CATEGORY_PROMOTIONS", "CATEGORY_UPDATES"}


@pytest.fixture
def emulator() -> Iterator[GmailEmulator]:
    with GmailEmulator({ANNA: [MailBytes(raw) for raw in MAIL]}, imap_port=0) as server:
        yield server


@pytest.fixture
async def mailbox(emulator: GmailEmulator) -> AsyncIterator[ImapMailbox]:
    async with imap_mailbox(emulator.imap_url or "", emulator.client_credentials(ANNA)) as opened:
        yield opened


@pytest.fixture
async def follower(mailbox: ImapMailbox) -> Follower:
    following = Follower(mailbox)
    await following.begin()
    return following


def truth(emulator: GmailEmulator) -> dict[str, set[str]]:
    """Labels by message id as IMAP can tell them: others than the system's by their names, no categories."""
    box = emulator.mailboxes[ANNA]
    return {
        message_id: {
            label if label.isupper() else label_id_of(box.label_name(label))
            for label in message["labels"]
            if label not in CATEGORIES
        }
        for message_id, message in box.truth().items()
    }


def fault(emulator: GmailEmulator, **described: object) -> None:
    emulator.faults = FaultPlan(parse_faults([described]))


async def test_ids_threads_labels_and_parts_are_the_apis(
    emulator: GmailEmulator, mailbox: ImapMailbox, follower: Follower
) -> None:
    box = emulator.mailboxes[ANNA]
    for number, name in enumerate(("Größe & Maß", 'a\\b "c"', "Projects/Kai")):
        box.modify(box.messages()[number].id, [name])
    box.trash(box.messages()[0].id)
    box.modify(box.messages()[1].id, ["SPAM"], ["INBOX"])
    await follower.follow()
    assert follower.labels == truth(emulator)
    assert set((await mailbox.labels()).values()) >= {"Größe & Maß", 'a\\b "c"', "Projects/Kai", "INBOX"}
    before = box.truth()
    with gmail_client(emulator) as api:
        for message_id in follower.labels:
            over_imap, by_api = await mailbox.message(message_id), await api.message(message_id, raw=True)
            assert over_imap.thread_id == by_api.thread_id
            assert over_imap.root == by_api.root
            assert over_imap.received_at == (by_api.received_at or 0) // 1000 * 1000
            full = await api.message(message_id)
            bodies = [(leaf.part.body or b"", leaf.part.charset) for leaf in mime.body_leaves(full.root)]
            assert (await part_digests(mailbox, over_imap))[""] == mime.text_digest(bodies)
    assert box.truth() == before, "reading marks nothing as read"
    assert "SELECT" not in emulator.imap.commands


async def test_history_tells_what_happened(emulator: GmailEmulator, follower: Follower) -> None:
    assert follower.labels == truth(emulator)
    assert await follower.follow() == []
    box = emulator.mailboxes[ANNA]
    new = box.add(b"Subject: new\r\n\r\nhello\r\n")
    assert await follower.follow() == [ChangeKind.LABELS, ChangeKind.UPSERT]
    box.modify(new.id, ["STARRED"], ["UNREAD"])
    assert await follower.follow() == [ChangeKind.LABEL_REMOVED, ChangeKind.LABEL_ADDED]
    box.trash(new.id)  # it leaves one folder and comes into another
    assert await follower.follow() == [ChangeKind.LABEL_REMOVED, ChangeKind.LABEL_ADDED]
    assert follower.labels == truth(emulator)
    box.delete(new.id)
    assert await follower.follow() == [ChangeKind.DELETE]
    assert follower.labels == truth(emulator)


async def test_an_idle_poll_asks_for_the_counts_only(emulator: GmailEmulator, follower: Follower) -> None:
    before = dict(emulator.imap.commands)
    await follower.follow()
    spent = {name: count - before.get(name, 0) for name, count in emulator.imap.commands.items()}
    assert {name for name, count in spent.items() if count} == {"LIST", "STATUS", "UNSELECT"}


async def test_a_listing_goes_on_where_it_was(
    emulator: GmailEmulator, mailbox: ImapMailbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("connectors.imap.mailbox.LIST_PAGE_SIZE", 2)
    ids = await listed(mailbox)
    assert sorted(ids) == sorted(truth(emulator))
    first = await mailbox.list_page(None)
    async with imap_mailbox(emulator.imap_url or "", emulator.client_credentials(ANNA)) as successor:
        second = await successor.list_page(first.next_page_token)
    assert [message_id for message_id, _ in (*first.messages, *second.messages)] == ids[:4]
    found = await listed(mailbox, query="has:attachment")
    assert 0 < len(found) < len(ids)
    with gmail_client(emulator) as api:
        page = await api.list_page(None, query="has:attachment")
    assert sorted(found) == sorted(message_id for message_id, _ in page.messages)


async def test_a_restart_misses_nothing(emulator: GmailEmulator, follower: Follower) -> None:
    """Added and labelled while nobody looked: told from what the cursor kept, without a new listing."""
    box = emulator.mailboxes[ANNA]
    box.modify(box.messages()[0].id, ["STARRED"])
    new = box.add(b"Subject: in the dark\r\n\r\nhello\r\n")
    async with imap_mailbox(emulator.imap_url or "", emulator.client_credentials(ANNA)) as successor:
        successor.resume(follower.state)
        follower.mailbox = successor
        assert set(await follower.follow()) == {ChangeKind.LABELS, ChangeKind.UPSERT}
        assert follower.labels == truth(emulator)
    box.delete(new.id)
    async with imap_mailbox(emulator.imap_url or "", emulator.client_credentials(ANNA)) as third:
        third.resume(follower.state)
        with pytest.raises(HistoryExpiredError):  # Gmail's IMAP does not say which one is gone
            await third.history_page(follower.history_id, None)


async def test_a_drop_in_the_middle_of_a_body_is_an_error_and_no_message(
    emulator: GmailEmulator, mailbox: ImapMailbox
) -> None:
    large = emulator.mailboxes[ANNA].add(b"Subject: large\r\n\r\n" + b"0123456789abcde\n" * 150_000)
    fault(emulator, kind="imap_drop", after=1, count=1)  # the second of three pieces
    with pytest.raises(GmailUnavailableError):
        await mailbox.message(large.id)
    body = (await mailbox.message(large.id)).root.body
    assert body is not None
    assert len(body) == 150_000 * 16


async def test_a_large_message_comes_without_its_large_parts(
    emulator: GmailEmulator, mailbox: ImapMailbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("connectors.imap.mailbox.WHOLE_MESSAGE_BYTES", 4 * 2**20)
    raw = large_mail()
    large = emulator.mailboxes[ANNA].add(raw)
    before = mailbox.spent[0]
    message = await mailbox.message(large.id)
    assert mailbox.spent[0] - before < 3 * 2**20
    assert await assert_like_parsed(mailbox, message, raw) == 5
    whole = MailMessage(large.id, None, 0, (), None, None, mime.parse(raw))
    assert await part_digests(mailbox, message) == await part_digests(mailbox, whole)
    [reference] = {leaf.part.reference for leaf in mime.walk(message.root) if leaf.path == "2"}
    emulator.mailboxes[ANNA].trash(large.id)
    with pytest.raises(NotFoundError):
        await mailbox.attachment(large.id, reference or "")


async def test_too_much_is_answered_by_longer_and_longer_pauses(
    emulator: GmailEmulator, mailbox: ImapMailbox
) -> None:
    fault(emulator, kind="imap_throttle", method="imap.status", count=1)
    with pytest.raises(RateLimitedError):
        await mailbox.position()
    assert 0 < mailbox.paused_seconds <= 1
    asked = sum(emulator.imap.commands.values())
    with pytest.raises(RateLimitedError) as refused:
        await mailbox.position()
    assert refused.value.retry_after_seconds
    assert sum(emulator.imap.commands.values()) == asked, "nobody asks while the server wants a pause"
    await asyncio.sleep(mailbox.paused_seconds)
    assert (await mailbox.position()).messages == len(truth(emulator))
    assert mailbox.paused_seconds == 0


async def test_the_days_bytes_are_not_exceeded(emulator: GmailEmulator) -> None:
    emulator.mailboxes[ANNA].add(b"Subject: large\r\n\r\n" + b"x" * 100_000)
    async with imap_mailbox(
        emulator.imap_url or "", emulator.client_credentials(ANNA), bytes_per_day=90_000
    ) as mailbox:
        large = next(
            message.id for message in emulator.mailboxes[ANNA].messages() if message.size_bytes > 90_000
        )
        await mailbox.message(large)
        assert mailbox.paused_seconds > 80_000
        with pytest.raises(RateLimitedError):
            await mailbox.position()


async def test_folders_made_anew_begin_an_epoch(emulator: GmailEmulator, follower: Follower) -> None:
    emulator.imap.folders.renew(ANNA)
    with pytest.raises(EpochEndedError):
        await follower.follow()
    await follower.begin()
    assert follower.labels == truth(emulator)
    async with imap_mailbox(emulator.imap_url or "", emulator.client_credentials(ANNA)) as successor:
        emulator.imap.folders.renew(ANNA)
        successor.resume(follower.state)
        with pytest.raises(EpochEndedError):
            await successor.history_page(follower.history_id, None)


async def test_a_capped_folder_is_no_mass_deletion(emulator: GmailEmulator, follower: Follower) -> None:
    fault(emulator, kind="imap_capped", copies=1)
    emulator.mailboxes[ANNA].delete(emulator.mailboxes[ANNA].messages()[0].id)
    with pytest.raises(ConfigurationError, match="Do not limit"):
        await follower.follow()


async def test_a_moved_message_is_found_in_its_other_folder(
    emulator: GmailEmulator, mailbox: ImapMailbox
) -> None:
    moved = emulator.mailboxes[ANNA].messages()[0]
    await mailbox.message(moved.id)
    emulator.mailboxes[ANNA].trash(moved.id)
    assert "TRASH" in (await mailbox.message(moved.id)).label_ids
    emulator.mailboxes[ANNA].delete(moved.id)
    with pytest.raises(NotFoundError):
        await mailbox.message(moved.id)


async def test_idle_tells_of_news(emulator: GmailEmulator) -> None:
    credentials = emulator.client_credentials(ANNA)
    async with imap_mailbox(emulator.imap_url or "", credentials, listens=True) as mailbox:
        for _ in range(2):  # and goes on listening
            news = asyncio.create_task(mailbox.news())
            await asyncio.sleep(0.3)
            assert not news.done()
            emulator.mailboxes[ANNA].add(b"Subject: news\r\n\r\n")
            await asyncio.wait_for(news, 5)


async def test_a_revoked_token_is_for_a_person_to_look_at(emulator: GmailEmulator) -> None:
    credentials = emulator.client_credentials(ANNA)
    emulator.oauth.revoke(ANNA)
    async with imap_mailbox(emulator.imap_url or "", credentials) as mailbox:
        with pytest.raises(AuthorizationError):
            await mailbox.position()
    async with imap_mailbox(emulator.imap_url or "", {"type": "imap", "password": "wrong"}) as mailbox:
        with pytest.raises(AuthorizationError):
            await mailbox.position()
