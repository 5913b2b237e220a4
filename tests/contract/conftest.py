"""An emulated Gmail for each test."""

from collections.abc import Iterator

import pytest

from devstack.gmail.clock import Clock
from devstack.gmail.mailfiles import MailBytes
from devstack.gmail.server import GmailEmulator
from tests.gmail_api import ANNA, BOB, MAIL


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def emulator(clock: Clock) -> Iterator[GmailEmulator]:
    mail = {ANNA: [MailBytes(raw) for raw in MAIL], BOB: [MailBytes(b"Subject: for Bob\n\n")]}
    with GmailEmulator(
        mail,
        clock=clock,
        org_units={BOB: "/Sales/East"},
        attachment_id_gets=2,
        notification_interval_seconds=0,
    ) as server:
        yield server
