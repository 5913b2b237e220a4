"""Gmail's IMAP side over the same mailboxes: All Mail, Spam and Trash with X-GM-EXT-1, CONDSTORE and IDLE.

What a client that reads needs, and nothing that writes: EXAMINE and SELECT, FETCH, SEARCH, STATUS, LIST.
Faults have ``imap.`` before the command's name as their method.
"""

import asyncio
import base64
import re
from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, datetime

from devstack.gmail.errors import ApiError
from devstack.gmail.faults import FaultPlan
from devstack.gmail.imap_folders import FOLDERS, SPECIAL, ImapFolders, shown_label
from devstack.gmail.imap_sections import Entity, section, structure
from devstack.gmail.message import MessageReader, StoredMessage
from devstack.gmail.oauth import OAuth
from devstack.gmail.query import Query
from devstack.gmail.store import Mailbox

CAPABILITIES = (
    "IMAP4rev1 UNSELECT IDLE NAMESPACE ID CHILDREN X-GM-EXT-1 UIDPLUS ENABLE CONDSTORE SPECIAL-USE SASL-IR"
    " AUTH=XOAUTH2"
)
MAIL_SCOPE = "https://mail.google.com/"
IDLE_POLL_SECONDS = 0.1
_FLAGS = {"STARRED": "\\Flagged", "DRAFT": "\\Draft"}
_HIDDEN = {"UNREAD", "SPAM", "TRASH", "CHAT"}  # said by flags and folders; categories are not said at all
_BODY = re.compile(r"BODY(\.PEEK)?\[([A-Z0-9.]*)\](?:<(\d+)\.(\d+)>)?", re.IGNORECASE)
_TOKEN = re.compile(r'"((?:[^"\\]|\\.)*)"|(\S+)')
_LITERAL = re.compile(rb"\{(\d+)(\+?)\}\r\n$")


class ImapServer:
    """Serves the mailboxes over IMAP; ``commands`` and ``sent_bytes`` count what was asked and given."""

    def __init__(
        self,
        mailbox: Callable[[str], Mailbox],
        oauth: OAuth,
        faults: Callable[[], FaultPlan],
        reader: MessageReader,
        clock: Callable[[], float],
    ) -> None:
        self.mailbox = mailbox
        self.oauth = oauth
        self.faults = faults
        self.reader = reader
        self.clock = clock
        self.folders = ImapFolders()
        self.commands: dict[str, int] = {}
        self.sent_bytes = 0
        self._server: asyncio.Server | None = None
        self._sessions: set[asyncio.Task[None]] = set()

    async def start(self, host: str, port: int) -> int:
        """Listen; returns the port. Raises OSError where it is taken."""
        self._server = await asyncio.start_server(self._serve, host, port)
        return int(self._server.sockets[0].getsockname()[1])

    async def stop(self) -> None:
        """Hang up on everybody."""
        if self._server is not None:
            self._server.close()
        for session in self._sessions:
            session.cancel()
        await asyncio.gather(*self._sessions, return_exceptions=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._sessions.add(task)
        try:
            with suppress(ConnectionError, asyncio.IncompleteReadError, asyncio.CancelledError):
                await Session(self, reader, writer).run()
        finally:
            self._sessions.discard(task)
            writer.close()


class DroppedError(ConnectionError):
    """The connection is to break here."""


class Session:
    """One connection."""

    def __init__(
        self, server: ImapServer, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        self._server = server
        self._reader = reader
        self._writer = writer
        self._mailbox: Mailbox | None = None
        self._name = ""
        self._read_only = True

    async def run(self) -> None:
        """Answer commands until the client leaves."""
        await self._say(b"* OK Gimap ready for requests")
        while True:
            line = await self._command()
            if line is None:
                return
            tag, _, rest = line.partition(" ")
            command, _, arguments = rest.partition(" ")
            command = command.upper()
            if command == "UID":
                command, _, arguments = arguments.partition(" ")
                command = command.upper()
            self._server.commands[command] = self._server.commands.get(command, 0) + 1
            if command == "LOGOUT":
                await self._say(b"* BYE LOGOUT Requested", f"{tag} OK 73 good day".encode())
                return
            address = self._mailbox.address if self._mailbox is not None else None
            fault = self._server.faults().strike("imap_throttle", f"imap.{command.lower()}", address)
            if fault is not None:
                await self._say(
                    f"{tag} NO [THROTTLED] Account exceeded command or bandwidth limits.".encode()
                )
                continue
            handler = getattr(self, f"_{command.lower()}", None)
            if handler is None:
                await self._say(f"{tag} BAD Unknown command".encode())
                continue
            if self._mailbox is None and command not in {"CAPABILITY", "AUTHENTICATE", "NOOP", "ID"}:
                await self._say(f"{tag} BAD Command not allowed before authentication".encode())
                continue
            answer = await handler(arguments)
            await self._say(f"{tag} {answer}".encode())

    # --- the wire ------------------------------------------------------------------------------------

    async def _command(self) -> str | None:
        line = b""
        while True:
            part = await self._reader.readline()
            if not part:
                return None
            line += part
            literal = _LITERAL.search(part)
            if literal is None:
                return line.rstrip(b"\r\n").decode("utf-8", "replace")
            if not literal[2]:
                await self._say(b"+ go ahead")
            text = await self._reader.readexactly(int(literal[1]))
            escaped = text.replace(b"\\", b"\\\\").replace(b'"', b'\\"')
            line = line[: -len(literal[0])] + b'"' + escaped + b'"'

    async def _say(self, *lines: bytes) -> None:
        data = b"".join(line + b"\r\n" for line in lines)
        self._server.sent_bytes += len(data)
        self._writer.write(data)
        await self._writer.drain()

    # --- commands ------------------------------------------------------------------------------------

    async def _capability(self, _: str) -> str:
        await self._say(f"* CAPABILITY {CAPABILITIES}".encode())
        return "OK Success"

    async def _noop(self, _: str) -> str:
        return "OK Success"

    async def _id(self, _: str) -> str:
        await self._say(b'* ID ("name" "GImap" "vendor" "Google, Inc.")')
        return "OK Success"

    async def _enable(self, arguments: str) -> str:
        await self._say(f"* ENABLED {'CONDSTORE' if 'CONDSTORE' in arguments.upper() else ''}".encode())
        return "OK Success"

    async def _authenticate(self, arguments: str) -> str:
        mechanism, _, initial = arguments.partition(" ")
        if mechanism.upper() != "XOAUTH2":
            return "NO Unsupported mechanism"
        if not initial:
            await self._say(b"+ ")
            initial = (await self._command()) or ""
        fields = dict(
            part.partition("=")[::2] for part in base64.b64decode(initial).decode().split("\x01") if part
        )
        try:
            grant = self._server.oauth.authenticate(fields.get("auth"))
            grant.require(frozenset({MAIL_SCOPE}))
            if grant.address.lower() != fields.get("user", "").lower():
                raise KeyError(grant.address)
            self._mailbox = self._server.mailbox(grant.address)
        except (ApiError, KeyError):
            await self._say(b"+ " + base64.b64encode(b'{"status":"400","schemes":"Bearer"}'))
            await self._command()
            return "NO [AUTHENTICATIONFAILED] Invalid credentials (Failure)"
        return f"OK {grant.address} authenticated (Success)"

    async def _list(self, _: str) -> str:
        for name in FOLDERS:
            flags = "\\HasChildren \\Noselect" if name == "[Gmail]" else "\\HasNoChildren"
            special = f" {SPECIAL[name]}" if name in SPECIAL else ""
            await self._say(f'* LIST ({flags}{special}) "/" "{name}"'.encode())
        return "OK Success"

    async def _status(self, arguments: str) -> str:
        name, _, wanted = arguments.rpartition(" (")
        try:
            values = self._values(_words(name)[0])
        except KeyError:
            return "NO [NONEXISTENT] Unknown Mailbox"
        items = " ".join(f"{item.upper()} {values[item.upper()]}" for item in wanted.rstrip(")").split())
        await self._say(f"* STATUS {name} ({items})".encode())
        return "OK Success"

    async def _select(self, arguments: str, *, read_only: bool = False) -> str:
        name = _words(arguments)[0]
        try:
            values = self._values(name)
        except KeyError:
            return "NO [NONEXISTENT] Unknown Mailbox"
        self._name, self._read_only = name, read_only
        await self._say(
            b"* FLAGS (\\Answered \\Flagged \\Draft \\Deleted \\Seen)",
            b"* OK [PERMANENTFLAGS ()] Flags permitted.",
            f"* OK [UIDVALIDITY {values['UIDVALIDITY']}] UIDs valid.".encode(),
            f"* {values['MESSAGES']} EXISTS".encode(),
            b"* 0 RECENT",
            f"* OK [UIDNEXT {values['UIDNEXT']}] Predicted next UID.".encode(),
            f"* OK [HIGHESTMODSEQ {values['HIGHESTMODSEQ']}]".encode(),
        )
        return f"OK [READ-{'ONLY' if read_only else 'WRITE'}] {name} selected. (Success)"

    async def _examine(self, arguments: str) -> str:
        return await self._select(arguments, read_only=True)

    async def _unselect(self, _: str) -> str:
        self._name = ""
        return "OK Success"

    async def _search(self, arguments: str) -> str:
        assert self._mailbox is not None
        words = _words(arguments)
        if words[0].upper() == "CHARSET":
            words = words[2:]
        places = self._places()
        uids = list(places)
        fault = self._server.faults().strike("imap_capped", "imap.search", self._mailbox.address)
        if fault is not None:
            uids = uids[-fault.copies :]
        while words:
            key = words.pop(0).upper()
            if key == "UID":
                wanted = _set(words.pop(0), max(uids, default=0))
                uids = [uid for uid in uids if wanted(uid)]
            elif key == "X-GM-MSGID":
                message_id = f"{int(words.pop(0)):x}"
                uids = [uid for uid in uids if places[uid].id == message_id]
            elif key == "X-GM-RAW":
                query = Query(words.pop(0), self._mailbox, self._server.reader, self._server.clock())
                uids = [uid for uid in uids if query.matches(places[uid])]
            elif key != "ALL":
                return "BAD Could not parse command"
        await self._say(" ".join(["* SEARCH", *map(str, uids)]).encode())
        return "OK SEARCH completed (Success)"

    async def _fetch(self, arguments: str) -> str:
        text, _, rest = arguments.partition(" ")
        items, _, modifiers = rest.partition(") (")
        places = self._places()
        wanted = _set(text, max(places, default=0))
        since = re.search(r"CHANGEDSINCE (\d+)", modifiers.upper())
        for number, (uid, message) in enumerate(places.items(), start=1):
            if wanted(uid) and (since is None or message.history_id > int(since[1])):
                await self._fetched(number, uid, message, items.strip("()"))
        return "OK Success"

    async def _fetched(self, number: int, uid: int, message: StoredMessage, items: str) -> None:
        assert self._mailbox is not None
        labels = [shown_label(self._mailbox, label) for label in message.labels if label not in _HIDDEN]
        flags = [_FLAGS[label] for label in message.labels if label in _FLAGS]
        if not message.has("UNREAD"):
            flags.append("\\Seen")
        date = datetime.fromtimestamp(message.internal_date / 1000, UTC)
        values = {
            "UID": str(uid),
            "FLAGS": f"({' '.join(flags)})",
            "MODSEQ": f"({message.history_id})",
            "INTERNALDATE": date.strftime('"%d-%b-%Y %H:%M:%S +0000"'),
            "RFC822.SIZE": str(message.size_bytes),
            "X-GM-MSGID": str(int(message.id, 16)),
            "X-GM-THRID": str(int(message.thread_id, 16)),
            "X-GM-LABELS": f"({' '.join(label for label in labels if label)})",
        }
        asked = [item.upper() for item in _BODY.sub("", items).split()]
        if "BODYSTRUCTURE" in asked:
            values["BODYSTRUCTURE"] = structure(Entity.of(message.source.read()))
        answer = " ".join(f"{item} {values[item]}" for item in dict.fromkeys(["UID", *asked]))
        bodies = list(_BODY.finditer(items))
        if not bodies:
            await self._say(f"* {number} FETCH ({answer})".encode())
            return
        if not all(body[1] for body in bodies) and not self._read_only:
            self._mailbox.modify(message.id, remove=["UNREAD"])
        content = message.source.read()
        if self._server.faults().strike("imap_truncated", "imap.fetch", self._mailbox.address):
            content = content[: len(content) * 2 // 3]
        said = f"* {number} FETCH ({answer}".encode()
        for body in bodies:
            said += _said(content, body)
        if self._server.faults().strike("imap_drop", "imap.fetch", self._mailbox.address):
            self._writer.write(said[: len(said) - len(said) // 3])
            await self._writer.drain()
            raise DroppedError
        await self._say(said + b")")

    async def _idle(self, _: str) -> str:
        await self._say(b"+ idling")
        stood = self._values(self._name)
        done = asyncio.create_task(self._command())
        try:
            while not done.done():
                await asyncio.wait({done}, timeout=IDLE_POLL_SECONDS)
                stands = self._values(self._name)
                if stands != stood:
                    await self._say(f"* {stands['MESSAGES']} EXISTS".encode())
                stood = stands
        finally:
            done.cancel()
        return "OK IDLE terminated (Success)"

    # --- what it is about ----------------------------------------------------------------------------

    def _values(self, name: str) -> dict[str, int]:
        """What STATUS says of a folder. Raises KeyError."""
        assert self._mailbox is not None
        folder = self._server.folders.folder(self._mailbox, name)
        return {
            "MESSAGES": len(folder.uids),
            "RECENT": 0,
            "UNSEEN": 0,
            "UIDNEXT": folder.uidnext,
            "UIDVALIDITY": folder.uidvalidity,
            "HIGHESTMODSEQ": self._mailbox.history_id,
        }

    def _places(self) -> dict[int, StoredMessage]:
        """The messages of the folder that is open, by UID in order."""
        assert self._mailbox is not None
        mailbox = self._mailbox
        uids = self._server.folders.folder(mailbox, self._name).uids
        found = {}
        for message_id, uid in sorted(uids.items(), key=lambda entry: entry[1]):
            with suppress(KeyError):  # deleted in this moment
                found[uid] = mailbox.message(message_id)
        return found


def _said(content: bytes, body: re.Match[str]) -> bytes:
    """One item of FETCH with a literal, or NIL where there is no such section."""
    name, place = body[2].upper(), ""
    try:
        found = section(content, name) if name else content
    except KeyError:
        return f" BODY[{name}] NIL".encode()
    if body[3] is not None:
        start = int(body[3])
        found, place = found[start : start + int(body[4])], f"<{start}>"
    return f" BODY[{name}]{place} {{{len(found)}}}\r\n".encode() + found


def _words(text: str) -> list[str]:
    return [re.sub(r"\\(.)", r"\1", quoted) if quoted else word for quoted, word in _TOKEN.findall(text)]


def _set(text: str, highest: int) -> Callable[[int], bool]:
    """Whether a UID is in a set such as ``1:5,9:*``."""
    runs = []
    for run in text.split(","):
        first, _, last = run.partition(":")
        ends = [highest if end == "*" else int(end) for end in (first, last or first)]
        runs.append((min(ends), max(ends)))
    return lambda uid: any(low <= uid <= high for low, high in runs)
