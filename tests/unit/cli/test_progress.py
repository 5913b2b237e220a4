"""What the page is told of how far its mailboxes are."""

import pytest

from cli.serve import _progress
from cli.status import MailboxProgress


def _mailbox(listed: int, total: int | None, *, complete: bool) -> MailboxProgress:
    return MailboxProgress("box", "anna@example.com", "live", listed=listed, total=total, complete=complete)


@pytest.mark.parametrize(
    ("mailboxes", "indexed", "waiting", "progress"),
    [
        ([_mailbox(100, 100, complete=True)], 62, True, 0.62),  # listed is not yet found
        ([_mailbox(100, 100, complete=True)], 62, False, 1.0),  # the rest is spam, or a dead letter
        ([_mailbox(50, 200, complete=False)], 20, False, 0.1),
        ([_mailbox(50, 200, complete=False), _mailbox(100, 100, complete=True)], 150, True, 0.5),
        ([_mailbox(10, 10, complete=True)], 12, True, 1.0),  # new mail came since it was counted
        ([_mailbox(0, None, complete=False)], 0, True, None),
        ([], 0, False, 1.0),
    ],
)
def test_progress_is_the_part_that_can_be_found(
    mailboxes: list[MailboxProgress], indexed: int, waiting: bool, progress: float | None
) -> None:
    assert _progress(mailboxes, indexed, waiting) == progress
