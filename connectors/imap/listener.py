"""What a mail server says unasked (IDLE), on a connection that does nothing else."""

from __future__ import annotations

import asyncio
import time

from imapclient import IMAPClient

from connectors.errors import GmailUnavailableError
from connectors.imap.connection import ImapConnection
from connectors.imap.folders import list_folders

POLL_SECONDS = 1.0
# Gmail ends an IDLE after ten minutes.
IDLE_SECONDS = 300.0


class Listener:
    """Listens to one mailbox. A later call goes on with the same IDLE: nothing between the two is missed."""

    def __init__(self, connection: ImapConnection) -> None:
        self._connection = connection
        self._idle_since: tuple[IMAPClient, float] | None = None

    async def news(self) -> None:
        """Return when the server says something; never where it has no IDLE."""
        if not await self._connection.run(lambda client: bool(client.has_capability("IDLE"))):
            await asyncio.Event().wait()
        await self._connection.run(self._listen)

    def close(self) -> None:
        """Hang up, also on who listens."""
        self._connection.close()

    def _listen(self, client: IMAPClient) -> None:
        if self._idle_since is None or self._idle_since[0] is not client:
            folder = next(
                (folder for folder in list_folders(client) if folder.label in (None, "INBOX")), None
            )
            client.select_folder(folder.name if folder is not None else "INBOX", readonly=True)
            client.idle()
            self._idle_since = (client, time.monotonic())
        while not self._connection.closing:
            began = time.monotonic()
            said = client.idle_check(timeout=POLL_SECONDS)
            if any(not isinstance(answer[0], bytes) for answer in said):
                return  # numbers: of messages that came, went or changed
            if not said and time.monotonic() - began < POLL_SECONDS / 2:
                raise GmailUnavailableError("the mail server hung up")
            if time.monotonic() - self._idle_since[1] > IDLE_SECONDS:
                client.idle_done()
                client.idle()
                self._idle_since = (client, time.monotonic())
