"""Are the parts of a mail the same, whether Gmail gave them as ``full`` or as ``raw``?

    python -m tests.part_paths FILE...

prints the mails that differ, and exits with 1 when there is one.
"""

import asyncio
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

from connectors.gmail.auth import credentials_from
from connectors.gmail.client import GmailClient
from connectors.gmail.message import from_json
from connectors.gmail.quota import ProjectQuota, quota
from devstack.gmail.mailfiles import read_mail
from devstack.gmail.server import GmailEmulator
from schemas import mime

ADDRESS = "anna@example.com"


@contextmanager
def gmail_client(server: GmailEmulator, info: dict[str, str] | None = None) -> Iterator[GmailClient]:
    """A client of the emulated mailbox ADDRESS, without a limit of its own."""
    credentials = credentials_from(info or server.client_credentials(ADDRESS), ADDRESS)
    unlimited = quota("new", "off", 1.0)
    with ThreadPoolExecutor(4) as executor:
        yield GmailClient(
            credentials, unlimited.costs, ProjectQuota(unlimited).limiter(), executor, server.url
        )


async def listed(client: GmailClient) -> list[str]:
    """Every message id."""
    ids: list[str] = []
    token: str | None = None
    while True:
        page = await client.list_page(token)
        ids += [message_id for message_id, _ in page.messages]
        token = page.next_page_token
        if token is None:
            return ids


def differences(path: Path) -> tuple[int, list[str]]:
    """How many mails were compared, and what differs: paths, types, names, or an attachment's bytes."""
    with GmailEmulator({ADDRESS: list(read_mail(path))}, quota="off", attachment_id_gets=1_000_000) as server:
        return asyncio.run(_compare(server))


async def _compare(server: GmailEmulator) -> tuple[int, list[str]]:
    found: list[str] = []
    with gmail_client(server) as client:
        ids = await listed(client)
        for message_id in ids:
            full = mime.walk((await client.message(message_id)).root)
            resource = await client._call("messages.get", partial(_raw, message_id))
            raw = mime.walk(from_json(resource).root)
            if [_shape(leaf) for leaf in full] != [_shape(leaf) for leaf in raw]:
                found.append(
                    f"{message_id}: {[_shape(leaf) for leaf in full]} {[_shape(leaf) for leaf in raw]}"
                )
                continue
            for left, right in zip(full, raw, strict=True):
                reference = left.part.reference
                body = await client.attachment(message_id, reference) if reference else left.part.body
                if left.part.is_attachment and body != right.part.body:
                    found.append(f"{message_id}: the bytes of part {left.path}")
    return len(ids), found


def _raw(message_id: str, users: Any) -> Any:
    return users.messages().get(userId="me", id=message_id, format="raw")


def _shape(leaf: mime.Leaf) -> tuple[str, str, str | None, bool]:
    return leaf.path, leaf.part.content_type, leaf.part.filename, leaf.part.is_attachment


if __name__ == "__main__":
    worst = 0
    for name in sys.argv[1:]:
        compared, different = differences(Path(name))
        print(f"{name}: {compared} mails, {len(different)} differ", *different[:20], sep="\n")  # noqa: T201
        worst = max(worst, len(different))
    sys.exit(bool(worst))
