"""What people do to a message, by chance: for storms over emulated mailboxes."""

import random

from devstack.gmail.store import Mailbox

LABELS = ("INBOX", "UNREAD", "STARRED", "IMPORTANT", "Invoices", "Travel", "SPAM", "TRASH")


def change_message(kind: str, mailbox: Mailbox, draws: random.Random) -> None:
    """Do ``kind`` ("delete", "trash", "untrash", "label" or "unlabel") to one of the messages, where any is.

    Raises KeyError where it is deleted meanwhile.
    """
    found = [message.id for message in mailbox.messages() if kind != "untrash" or message.has("TRASH")]
    if not found:
        return
    message = draws.choice(found)
    if kind == "delete":
        mailbox.delete(message)
    elif kind == "trash":
        mailbox.trash(message)
    elif kind == "untrash":
        mailbox.untrash(message)
    elif kind == "label":
        mailbox.modify(message, add=[draws.choice(LABELS)])
    else:
        mailbox.modify(message, remove=[draws.choice(LABELS)])
