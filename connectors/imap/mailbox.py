"""One mailbox over IMAP, as the source asks it (``MailSource``) and as extract does (``streams.mailboxes``).

The server keeps no history, so one is made of looks: each look at the folders has a number, and a page of
history says what differs between the look that the caller has and a new one. The number is the version of
all registers of the mailbox; MODSEQ cannot be, because it counts one folder and a mailbox has many. It is
the last number plus one or the clock in milliseconds, whichever is more: a process that died may have told
of a look whose number nobody wrote down, and its successor must not give that number to another look.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator
from contextlib import aclosing
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from typing import Any

from imapclient import IMAPClient

from connectors.errors import (
    ConfigurationError,
    EpochEndedError,
    GmailError,
    HistoryExpiredError,
    NotFoundError,
)
from connectors.gmail.message import MailMessage
from connectors.imap.connection import ImapConnection, fetch
from connectors.imap.folders import Folder, Look, Looker, Seen, is_gmail, list_folders
from connectors.imap.listener import Listener
from connectors.imap.looks import as_remembered, by_id, entries, listed, remembered
from connectors.imap.outline import Decoder, Reference, assemble, outline, small
from connectors.mail_source import HistoryPage, ListingPage, Position
from schemas.events import now_milliseconds
from schemas.mime import Part, parse

LIST_PAGE_SIZE = 500
# A body comes in pieces of this size, so that a drop in the middle costs one of them.
BLOCK_BYTES = 1024 * 1024
# Up to here a message is fetched whole; a larger one by its outline, its large parts when they are asked for.
WHOLE_MESSAGE_BYTES = 10 * 1024 * 1024
# A mail's own text beyond this is nobody's, and is held in memory whole.
MAX_BODY_BYTES = 64 * 1024 * 1024
# Sections asked for in one command.
_SECTIONS = 100
# How long the folders' names are believed before they are listed again.
FOLDERS_SECONDS = 60.0
FOUND_SECONDS = 600.0
_FIND_ATTEMPTS = 3


@dataclass(frozen=True, slots=True)
class _Place:
    """Where a message stands at the moment."""

    folder: Folder
    uid: int
    gmail: bool


class ImapMailbox:
    """A mailbox behind one connection for work, and maybe one that listens. Its loops share it."""

    def __init__(self, connection: ImapConnection, listener: Listener | None) -> None:
        self._connection = connection
        self._listener = listener
        self._looker = Looker()
        self._looking = asyncio.Lock()
        # The looks that somebody may ask the history from, by number; the newest is what is listed.
        self._looks: dict[int, Look] = {}
        self._position: int | None = None
        self._newest: Look | None = None
        self._number = 0
        self._state: str | None = None
        self._found: tuple[str, float, set[str]] | None = None
        self._folders: tuple[float, list[Folder]] | None = None

    @property
    def quota_units(self) -> None:
        """IMAP has no units."""

    @property
    def raw_query(self) -> None:
        """Every message is fetched as it is."""

    @property
    def paused_seconds(self) -> float:
        """How long no request is welcome; 0 when there may be some."""
        return self._connection.paused_seconds

    @property
    def spent(self) -> tuple[int, int]:
        """Bytes received and requests sent since the start."""
        return self._connection.spent_bytes, self._connection.requests

    def resume(self, state: str | None) -> None:
        """Go on from what ``remembered`` wrote down."""
        self._state = state

    def close(self) -> None:
        """Hang up."""
        self._connection.close()
        if self._listener is not None:
            self._listener.close()

    # --- what the source asks ------------------------------------------------------------------------

    async def position(self) -> Position:
        """A new look, and its number."""
        look = await self._look()
        number = self._position = self._next_number()
        self._looks[number] = look
        return Position(number, sum(len(state.messages) for state in look.values()), remembered(look))

    async def list_page(
        self,
        page_token: str | None,
        *,
        query: str | None = None,
        label_id: str | None = None,
        include_spam_trash: bool = True,
    ) -> ListingPage:
        """One page of the newest look, folder by folder, newest first. A token is "<folder>.<UID>"."""
        look = self._newest or await self._look()
        found = await self._search(query, look) if query else None
        page: list[tuple[str, str | None]] = []
        last = ""
        for place, seen in listed(look, page_token, include_spam_trash):
            if label_id is not None and label_id not in seen.labels:
                continue
            if found is not None and seen.message_id not in found:
                continue
            if len(page) == LIST_PAGE_SIZE:
                return ListingPage(tuple(page), last)
            page.append((seen.message_id, seen.thread_id))
            last = place
        return ListingPage(tuple(page), None)

    async def history_page(self, start_history_id: int, page_token: str | None) -> HistoryPage:
        """What differs between the look of that number and a new one.

        Raises HistoryExpiredError where nobody knows that look any more, EpochEndedError.
        """
        before = self._looks.get(start_history_id)
        after = await self._look()
        if before is None:
            before = await self._remembered_look(start_history_id, after)
        self._number = max(self._number, start_history_id)
        number = self._next_number()
        happened = list(entries(before, after, number))
        if not happened:
            self._keep({start_history_id: after})
            return HistoryPage([], start_history_id, None)
        self._keep({start_history_id: before, number: after})
        return HistoryPage(happened, number, None, remembered(after))

    async def labels(self) -> dict[str, str]:
        """The labels' names by id, of those that are in use."""
        look = self._newest or await self._look()
        used = {label for state in look.values() for seen in state.messages.values() for label in seen.labels}
        return {label: self._looker.names.get(label, label) for label in sorted(used)}

    async def watch(self, topic: str, include: tuple[str, ...], exclude: tuple[str, ...]) -> int:
        """Raises ConfigurationError: IMAP tells nobody but who listens."""
        raise ConfigurationError("a mailbox that is read over IMAP announces nothing to Pub/Sub")

    async def news(self) -> None:
        """Return when the server says something; never where nobody listens."""
        if self._listener is None:
            await asyncio.Event().wait()
        else:
            await self._listener.news()

    # --- looking -------------------------------------------------------------------------------------

    async def _look(self) -> Look:
        async with self._looking:
            before = self._newest
            try:
                self._newest = await self._connection.run(lambda client: self._looker.look(client, before))
            except EpochEndedError:
                self._newest = None  # whoever goes on begins anew
                raise
            return self._newest

    async def messages(self) -> dict[str, Seen]:
        """Every message by its id, as of now."""
        return by_id((await self._look()).values())

    async def _remembered_look(self, start: int, look: Look) -> Look:
        state, self._state = self._state, None
        if state is None:
            raise HistoryExpiredError(f"nobody knows how the folders stood at {start}")
        changed = await self._connection.run(lambda client: self._looker.changed_since(client, look, state))
        before = as_remembered(state, look, changed, await self._connection.run(is_gmail))
        if before is None:
            raise HistoryExpiredError("a message is gone, and nobody knows which")
        return before

    def _keep(self, looks: dict[int, Look]) -> None:
        """Forget all other looks but that of the last position, from which a listing may be followed."""
        if self._position in self._looks:
            looks.setdefault(self._position, self._looks[self._position])
        self._looks = looks

    def _next_number(self) -> int:
        self._number = max(self._number + 1, now_milliseconds())
        return self._number

    async def _search(self, query: str, look: Look) -> set[str]:
        """The ids that Gmail finds; the pages of one listing ask once."""
        if self._found is not None and self._found[0] == query and time.monotonic() < self._found[1]:
            return self._found[2]

        def search(client: IMAPClient) -> set[str]:
            if not is_gmail(client):
                raise ConfigurationError("a query of Gmail's needs Gmail: take it from the mailbox's policy")
            found = set()
            for state in look.values():
                client.select_folder(state.folder.name, readonly=True)
                for uid in client.gmail_search(query, "UTF-8"):
                    if uid in state.messages:
                        found.add(state.messages[uid].message_id)
            return found

        ids = await self._connection.run(search, background=True)
        self._found = (query, time.monotonic() + FOUND_SECONDS, ids)
        return ids

    # --- what extract asks ---------------------------------------------------------------------------

    async def message(self, message_id: str, *, raw: bool = False, background: bool = False) -> MailMessage:
        """The message with every body. Raises NotFoundError.

        Its labels are as of nobody knows when: the history's numbers are the source's, and what it tells of
        labels stands above this.
        """
        for _ in range(_FIND_ATTEMPTS):  # one that is moved meanwhile is found in the other folder
            place = await self._connection.run(
                lambda client: self._find(client, message_id), background=background
            )
            if place is not None:
                found = await self._fetch(place, message_id, background)
                if found is not None:
                    return found
        raise NotFoundError("no folder has the message")

    async def _fetch(self, place: _Place, message_id: str, background: bool) -> MailMessage | None:
        """The message that stands there; None where it does not any more."""
        items = "UID FLAGS INTERNALDATE RFC822.SIZE " + ("X-GM-MSGID X-GM-THRID X-GM-LABELS " * place.gmail)
        body, answer = bytearray(), dict[bytes, Any]()
        block = None
        while block is None or len(block) == BLOCK_BYTES:

            def piece(client: IMAPClient, asked: str) -> dict[bytes, Any]:
                _open(client, place.folder)
                return fetch(client, str(place.uid), asked).get(place.uid, {})

            asked = f"{items if block is None else 'UID '}BODY.PEEK[]<{len(body)}.{BLOCK_BYTES}>"
            got = await self._connection.run(partial(piece, asked=asked), background=background)
            block = _block(got)
            if block is None:
                return None
            answer = answer or got
            if answer[b"RFC822.SIZE"] > WHOLE_MESSAGE_BYTES:
                break
            body += block
        if place.gmail and f"{answer[b'X-GM-MSGID']:x}" != message_id:
            return None
        large = answer[b"RFC822.SIZE"] > WHOLE_MESSAGE_BYTES
        root = await self._fetch_outline(place, background) if large else parse(bytes(body))
        if root is None:
            return None
        received: datetime = answer[b"INTERNALDATE"]
        return MailMessage(
            message_id=message_id,
            thread_id=f"{answer[b'X-GM-THRID']:x}" if place.gmail else None,
            history_id=0,
            label_ids=tuple(sorted(self._looker.labels(answer, place.folder))),
            received_at=int(received.timestamp() * 1000),
            size_bytes=answer[b"RFC822.SIZE"],
            root=root,
            source="imap",
        )

    async def _fetch_outline(self, place: _Place, background: bool) -> Part | None:
        """The tree of the message that stands there, large bodies left out; None where none stands there."""

        async def ask(items: str) -> tuple[int, dict[bytes, Any]]:
            def work(client: IMAPClient) -> tuple[int, dict[bytes, Any]]:
                uidvalidity = _open(client, place.folder)
                return uidvalidity, fetch(client, str(place.uid), f"UID {items}").get(place.uid, {})

            return await self._connection.run(work, background=background)

        uidvalidity, got = await ask("BODYSTRUCTURE")
        if b"BODYSTRUCTURE" not in got:
            return None
        root = outline(got[b"BODYSTRUCTURE"])
        wanted = [node.head for node in root.nodes()] + [node.body for node in small(root)]
        sections: dict[str, bytes] = {}
        for start in range(0, len(wanted), _SECTIONS):
            names = wanted[start : start + _SECTIONS]
            _, got = await ask(" ".join(f"BODY.PEEK[{name}]" for name in names))
            found = {name: got.get(f"BODY[{name}]".encode(), b"") for name in names}
            if not got:
                return None
            sections |= {name: body or b"" for name, body in found.items()}
        return assemble(root, sections, (place.folder.key, uidvalidity, place.uid))

    async def attachment(self, message_id: str, reference: str, *, background: bool = False) -> bytes:
        """A body behind a reference of the latest ``message`` call. Raises NotFoundError when it is stale."""
        body = bytearray()
        async with aclosing(self.attachment_stream(message_id, reference, background=background)) as blocks:
            async for block in blocks:
                body += block
                if len(body) > MAX_BODY_BYTES:
                    raise GmailError(f"a body of more than {MAX_BODY_BYTES} bytes is not read whole")
        return bytes(body)

    async def attachment_stream(
        self, message_id: str, reference: str, *, background: bool = False
    ) -> AsyncGenerator[bytes, None]:
        """The same in decoded blocks of about a MiB, for bodies that are large."""
        at = Reference.of(reference)
        decoder = Decoder(at.encoding)

        def piece(client: IMAPClient, start: int) -> bytes | None:
            folder = next((one for one in self._current_folders(client) if one.key == at.folder_key), None)
            if folder is None or _open(client, folder) != at.uidvalidity:
                return None
            got = fetch(client, str(at.uid), f"UID BODY.PEEK[{at.section}]<{start}.{BLOCK_BYTES}>")
            return _block(got.get(at.uid, {}))

        received, block = 0, None
        while block is None or len(block) == BLOCK_BYTES:
            block = await self._connection.run(partial(piece, start=received), background=background)
            if block is None:
                raise NotFoundError("the message does not stand there any more")
            received += len(block)
            if decoded := decoder.feed(block):
                yield decoded
        if decoded := decoder.close():
            yield decoded

    def _find(self, client: IMAPClient, message_id: str) -> _Place | None:
        """Where a message stands, in the thread."""
        folders = self._current_folders(client)
        if is_gmail(client):
            for folder in folders:
                _open(client, folder)
                for uid in client.search(["X-GM-MSGID", str(int(message_id, 16))]):
                    return _Place(folder, uid, gmail=True)
            return None
        key, uidvalidity, uid = message_id.split("-")
        for folder in folders:
            if folder.key == key and _open(client, folder) == int(uidvalidity):
                return _Place(folder, int(uid), gmail=False)
        return None

    def _current_folders(self, client: IMAPClient) -> list[Folder]:
        if self._folders is None or time.monotonic() > self._folders[0]:
            self._folders = (time.monotonic() + FOLDERS_SECONDS, list_folders(client))
        return self._folders[1]


def _block(answer: dict[bytes, Any]) -> bytes | None:
    """The bytes that one piece of a body brought; None where the message is not there any more."""
    return next((block for key, block in answer.items() if key.startswith(b"BODY[")), None)


def _open(client: IMAPClient, folder: Folder) -> int:
    """Open a folder for reading; returns its UIDVALIDITY. A folder shows moves when it is opened again."""
    return int(client.select_folder(folder.name, readonly=True)[b"UIDVALIDITY"])
