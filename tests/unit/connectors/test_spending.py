"""What the API takes is written down once, of mailboxes in a dual run only."""

import pytest

from connectors.errors import UnavailableError
from connectors.spending import Spending
from schemas.events import MailboxRecord, Observation
from tests.standins import Broker

DUAL = MailboxRecord(mailbox_id="dual", address="a@example.com", source="dual", epoch=3)
OTHER = MailboxRecord(mailbox_id="other", address="b@example.com", source="gmail_api")


class Spender:
    spent = (0, 0)


async def test_what_came_on_is_written_down_once() -> None:
    broker, dual, other = Broker(), Spender(), Spender()
    spending = Spending(broker, lambda: [(DUAL, dual), (OTHER, other)])
    await spending.write()
    assert broker.sent == []
    dual.spent, other.spent = (1000, 2), (1, 1)
    await spending.write()
    await spending.write()
    dual.spent = (1500, 3)
    broker.down = True
    with pytest.raises(UnavailableError):
        await spending.write()
    broker.down = False
    await spending.write()
    observed = [Observation.decode(send.value or b"") for send in broker.sent]
    told = [(said.mailbox_id, said.epoch, said.spent_bytes, said.spent_requests) for said in observed]
    assert told == [("dual", 3, 1000, 2), ("dual", 3, 500, 1)]
    assert {(said.kind, said.way) for said in observed} == {("spent", "gmail_api")}
