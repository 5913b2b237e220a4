"""Spends one mailbox's quota flat out, as a process that a test can kill.

    python -m tests.quota_driver URL ERA RATE < credentials.json

Fetches the same message again and again through the Gmail client, at the full quota of ``ERA``, on a clock of
``RATE``; prints a line when it begins.
"""

import asyncio
import json
import sys
from concurrent.futures import ThreadPoolExecutor

from connectors.gmail.auth import credentials_from
from connectors.gmail.client import GmailClient
from connectors.gmail.quota import ProjectQuota, quota
from connectors.gmail.window import Clock


async def spend(url: str, era: str, rate: float, info: dict[str, str]) -> None:
    """Until killed."""
    allowed = quota(era, era, 1.0)
    with ThreadPoolExecutor(allowed.limits.requests_in_flight) as executor:
        client = GmailClient(
            credentials_from(info, "anna@example.com"),
            allowed.costs,
            ProjectQuota(allowed, Clock(rate)).limiter("box"),
            executor,
            url,
        )
        [(message_id, _), *_] = (await client.list_page(None)).messages
        sys.stdout.write("begun\n")
        sys.stdout.flush()

        async def fetch() -> None:
            while True:
                await client.message(message_id)

        await asyncio.gather(*(fetch() for _ in range(2 * allowed.limits.requests_in_flight)))


if __name__ == "__main__":
    asyncio.run(spend(sys.argv[1], sys.argv[2], float(sys.argv[3]), json.load(sys.stdin)))
