"""Opens mailboxes: from a registry record and its sealed credentials to a client that is paced by quota."""

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial

from connectors.gmail.auth import credentials_from
from connectors.gmail.client import GmailClient
from connectors.gmail.quota import ProjectQuota
from connectors.vault import Vault
from schemas.events import MailboxRecord

# Requests in flight over all mailboxes: of a thousand that are polled every ten seconds, a few are asked at
# once, and two threads for each would be two thousand.
THREADS = 64


@dataclass(frozen=True, slots=True)
class GmailMailboxes:
    """What all mailboxes of one process share."""

    vault: Vault
    quota: ProjectQuota
    endpoint: str | None = None
    _executor: ThreadPoolExecutor = field(
        default_factory=partial(ThreadPoolExecutor, THREADS, thread_name_prefix="gmail")
    )

    def open(self, record: MailboxRecord, credential: bytes | None) -> GmailClient:
        """The client of one mailbox. Raises ConfigurationError when it has no usable credentials."""
        info = self.vault.read(record.mailbox_id, credential)
        return GmailClient(
            credentials_from(info, record.address),
            self.quota.quota.costs,
            self.quota.limiter(record.mailbox_id),
            self._executor,
            self.endpoint,
        )
