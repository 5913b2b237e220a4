"""What the API takes is written down once, of mailboxes in a dual run only."""

import pytest

from connectors.errors import UnavailableError
from connectors.kafka import Send
from connectors.spending import Spending
from schemas.events import MailboxRecord, Observation

DUAL = MailboxRecord(mailbox_id="dual", address="a@example.com", source="dual", epoch=3)
OTHER = MailboxRecord(mailbox_id="other", address="b@example.com", source="gmail_api")


class Spender:
    spent = (0, 0)


class Broker:
    def __init__(self) -> None:
        self.said: list[Observation] = []
        self.away = False

    async def send(self, sends: list[Send]) -> None:
        if self.away:
            raise UnavailableError("away")
        self.said += [Observation.decode(send.value or b"") for send in sends]


async def test_what_came_on_is_written_down_once() -> None:
    broker, dual, other = Broker(), Spender(), Spender()
    spending = Spending(broker, lambda: [(DUAL, dual), (OTHER, other)])
    await spending.write()
    assert broker.said == []
    dual.spent, other.spent = (1000, 2), (1, 1)
    await spending.write()
    await spending.write()
    dual.spent = (1500, 3)
    broker.away = True
    with pytest.raises(UnavailableError):
        await spending.write()
    broker.away = False
    await spending.write()
    told = [(said.mailbox_id, said.epoch, said.spent_bytes, said.spent_requests) for said in broker.said]
    assert told == [("dual", 3, 1000, 2), ("dual", 3, 500, 1)]
    assert {(said.kind, said.way) for said in broker.said} == {("spent", "gmail_api")}
