"""Opens mailboxes: from a registry record and its sealed credentials to a client that is paced by quota."""

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

from connectors.errors import ConfigurationError
from connectors.gmail.auth import credentials_from
from connectors.gmail.client import GmailClient
from connectors.gmail.quota import ProjectQuota
from connectors.vault import Vault
from schemas.events import CredentialRecord, MailboxRecord

# Requests in flight over all mailboxes: of a thousand that are polled every ten seconds, a few are asked at
# once, and two threads for each would be two thousand.
THREADS = 64


def _executor() -> ThreadPoolExecutor:
    return ThreadPoolExecutor(THREADS, thread_name_prefix="gmail")


@dataclass(frozen=True, slots=True)
class GmailMailboxes:
    """What all mailboxes of one process share."""

    vault: Vault
    quota: ProjectQuota
    endpoint: str | None = None
    _executor: ThreadPoolExecutor = field(default_factory=_executor)

    def open(self, record: MailboxRecord, credential: bytes | None) -> GmailClient:
        """The client of one mailbox. Raises ConfigurationError when it has no usable credentials."""
        if credential is None:
            raise ConfigurationError(
                f"mailbox {record.mailbox_id} has no credentials: add it again with `mailstream mailbox add`"
            )
        info = self.vault.open(record.mailbox_id, CredentialRecord.decode(credential))
        return GmailClient(
            credentials_from(info, record.address),
            self.quota.quota.costs,
            self.quota.limiter(record.mailbox_id),
            self._executor,
            self.endpoint,
        )
