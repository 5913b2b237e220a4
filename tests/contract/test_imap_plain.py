"""A mailbox over plain IMAP against a real Dovecot: folders as labels, with MODSEQ and QRESYNC or not."""

import asyncio
import shutil
from collections.abc import AsyncIterator, Iterator

import pytest
from imapclient import IMAPClient

from connectors.errors import ConfigurationError, EpochEndedError, HistoryExpiredError, NotFoundError
from connectors.imap.mailbox import ImapMailbox
from devstack.dovecot import PASSWORD, dovecot_server
from devstack.local import HOST, directory_for_others, free_ports
from devstack.servers import LocalServer
from schemas import mime
from schemas.events import ChangeKind
from schemas.identity import label_id_of
from tests.gmail_api import MAIL
from tests.imap import Follower, assert_like_parsed, imap_mailbox, large_mail, listed

OLD_SERVER = "IMAP4rev1 IDLE SPECIAL-USE"


@pytest.fixture(scope="module", params=["", OLD_SERVER], ids=["counts changes", "counts nothing"])
def server(request: pytest.FixtureRequest) -> Iterator[LocalServer]:
    directory = directory_for_others()
    [port] = free_ports(1)
    running = dovecot_server(directory, port, capabilities=request.param)
    running.start()
    running.wait_until_ready()
    yield running
    running.stop()
    shutil.rmtree(directory)


@pytest.fixture
def url(server: LocalServer) -> str:
    return f"imap://{HOST}:{server.ports[0]}"


@pytest.fixture
def user(unique_name: str) -> str:
    return unique_name


@pytest.fixture
def owner(server: LocalServer, user: str) -> Iterator[IMAPClient]:
    """The mailbox's owner with a mail program; six mails are there already."""
    with IMAPClient(HOST, server.ports[0], ssl=False) as client:
        client.login(user, PASSWORD)
        for raw in MAIL:
            client.append("INBOX", raw.replace(b"\n", b"\r\n") or b"\r\n")
        client.create_folder("Projekte/Größe")
        client.append("Projekte/Größe", b"Subject: measure\r\n\r\nthree metres\r\n", [b"\\Seen", b"urgent"])
        client.select_folder("INBOX")
        yield client


@pytest.fixture
async def mailbox(url: str, user: str, owner: IMAPClient) -> AsyncIterator[ImapMailbox]:
    async with imap_mailbox(url, credentials(user), listens=True) as opened:
        yield opened


@pytest.fixture
async def follower(mailbox: ImapMailbox, monkeypatch: pytest.MonkeyPatch) -> Follower:
    monkeypatch.setattr("connectors.imap.folders.FLAGS_SECONDS", 0.0)
    following = Follower(mailbox)
    await following.begin()
    return following


def credentials(user: str) -> dict[str, str]:
    return {"type": "imap", "username": user, "password": PASSWORD}


def flags(owner: IMAPClient, folder: str = "INBOX") -> list[tuple[bytes, ...]]:
    owner.select_folder(folder)
    return [tuple(answer[b"FLAGS"]) for answer in owner.fetch(owner.search("ALL"), ["FLAGS"]).values()]


async def test_folders_and_flags_are_labels(
    owner: IMAPClient, mailbox: ImapMailbox, follower: Follower
) -> None:
    folder = label_id_of("Projekte/Größe")
    names = await mailbox.labels()
    assert names[folder] == "Projekte/Größe"
    [filed] = [message_id for message_id, labels in follower.labels.items() if folder in labels]
    assert follower.labels[filed] == {folder, label_id_of("urgent")}
    assert sum(labels == {"INBOX", "UNREAD"} for labels in follower.labels.values()) == len(MAIL)
    assert "Größe" not in "".join(follower.labels), "an id says nothing of the folder's name"
    before = flags(owner)
    for message_id in follower.labels:
        message = await mailbox.message(message_id)
        assert set(message.label_ids) == follower.labels[message_id]
        assert message.thread_id is None
    message = await mailbox.message(filed)
    assert message.root == mime.parse(b"Subject: measure\r\n\r\nthree metres\r\n")
    after = [tuple(flag for flag in of if flag != b"\\Recent") for of in flags(owner)]
    assert after == [tuple(flag for flag in of if flag != b"\\Recent") for of in before], "nothing was read"
    with pytest.raises(ConfigurationError, match="needs Gmail"):
        await listed(mailbox, query="from:anna")


async def test_history_tells_what_happened(owner: IMAPClient, follower: Follower) -> None:
    assert await follower.follow() == []
    owner.append("INBOX", b"Subject: new\r\n\r\nhello\r\n")
    assert await follower.follow() == [ChangeKind.LABELS, ChangeKind.UPSERT]
    uid = max(owner.search("ALL"))
    owner.add_flags(uid, [b"\\Seen", b"\\Flagged"])
    assert await follower.follow() == [ChangeKind.LABEL_REMOVED, ChangeKind.LABEL_ADDED]
    owner.copy(uid, "Trash")
    owner.delete_messages(uid)
    owner.expunge()
    # Its id says where it stands, so it is another message there.
    assert sorted(await follower.follow()) == [ChangeKind.DELETE, ChangeKind.LABELS, ChangeKind.UPSERT]
    assert {"TRASH", "STARRED"} in follower.labels.values()
    owner.select_folder("Trash")
    owner.delete_messages(owner.search("ALL"))
    owner.expunge()
    assert await follower.follow() == [ChangeKind.DELETE]
    owner.create_folder("Later")
    owner.append("Later", b"Subject: later\r\n\r\n")
    assert await follower.follow() == [ChangeKind.LABELS, ChangeKind.UPSERT]
    owner.delete_folder("Later")
    assert await follower.follow() == [ChangeKind.DELETE]
    assert len(follower.labels) == len(MAIL) + 1


async def test_a_large_message_comes_without_its_large_parts(
    owner: IMAPClient, mailbox: ImapMailbox, follower: Follower, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("connectors.imap.mailbox.WHOLE_MESSAGE_BYTES", 4 * 2**20)
    raw = large_mail()
    owner.append("INBOX", raw)
    known = set(follower.labels)
    await follower.follow()
    [message_id] = set(follower.labels) - known
    message = await mailbox.message(message_id)
    assert await assert_like_parsed(mailbox, message, raw) == 5


async def test_what_is_filed_away_leaves_the_listing_of_spam_and_trash(
    owner: IMAPClient, mailbox: ImapMailbox
) -> None:
    owner.append("Junk", b"Subject: cheap\r\n\r\n")
    assert len(await listed(mailbox)) == len(MAIL) + 2
    assert len(await listed(mailbox, include_spam_trash=False)) == len(MAIL) + 1


async def test_a_restart_misses_nothing(
    url: str, user: str, server: LocalServer, owner: IMAPClient, follower: Follower
) -> None:
    owner.append("INBOX", b"Subject: in the dark\r\n\r\n")
    first, second = owner.search("ALL")[:2]
    owner.add_flags(first, [b"\\Flagged"])
    owner.delete_messages(second)
    owner.expunge()
    async with imap_mailbox(url, credentials(user)) as successor:
        successor.resume(follower.state)
        follower.mailbox = successor
        if follower.state is None:  # a server that counts no changes: only a comparison can tell
            with pytest.raises(HistoryExpiredError):
                await follower.follow()
            return
        assert sorted(await follower.follow()) == [
            *(ChangeKind.DELETE, ChangeKind.LABELS, ChangeKind.LABELS, ChangeKind.UPSERT)
        ]
        known = follower.labels
        await follower.begin()
        assert known == follower.labels


async def test_a_folder_made_anew_begins_an_epoch(
    owner: IMAPClient, mailbox: ImapMailbox, follower: Follower
) -> None:
    [old] = [message_id for message_id, labels in follower.labels.items() if "INBOX" not in labels]
    owner.delete_folder("Projekte/Größe")
    await asyncio.sleep(1.1)  # UIDVALIDITY is made of seconds
    owner.create_folder("Projekte/Größe")
    owner.append("Projekte/Größe", b"Subject: other\r\n\r\n")
    with pytest.raises(EpochEndedError):
        await follower.follow()
    with pytest.raises(NotFoundError):  # it is not taken for the other that has its UID now
        await mailbox.message(old)
    await follower.begin()
    assert len(follower.labels) == len(MAIL) + 1
    assert old not in follower.labels


async def test_idle_tells_of_news(owner: IMAPClient, mailbox: ImapMailbox) -> None:
    for _ in range(2):
        news = asyncio.create_task(mailbox.news())
        await asyncio.sleep(0.5)
        assert not news.done()
        owner.append("INBOX", b"Subject: news\r\n\r\n")
        await asyncio.wait_for(news, 10)


async def test_a_server_that_goes_away_is_waited_for(
    server: LocalServer, owner: IMAPClient, follower: Follower
) -> None:
    from connectors.errors import GmailUnavailableError

    server.kill()
    with pytest.raises(GmailUnavailableError):
        await follower.follow()
    server.start()
    server.wait_until_ready()
    assert await follower.follow() == []
