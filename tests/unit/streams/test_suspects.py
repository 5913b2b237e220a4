"""Which event killed its process: suspected with its batch, then with a few, then alone; then it is over."""

import json
from collections.abc import Sequence
from pathlib import Path

from connectors.kafka import Record
from schemas import topics
from schemas.registers import LabelsRegister
from streams.attempts import MAX_DEATHS, Attempts, WorkerKilledError, event_of
from streams.suspects import FEW, Suspects
from tests.standins import Letters, records_of

POISON = 17


class Died(BaseException):
    """The process is gone: nothing after this runs in it."""


def _records(count: int) -> list[Record]:
    return records_of(
        LabelsRegister(mailbox_id="box", message_id=f"m{n}", epoch=1, history_id=1, label_ids=())
        for n in range(count)
    )


class Worker:
    """One life of a process: dies when it works on the poison, and remembers in which company."""

    def __init__(self, path: Path) -> None:
        self.attempts = Attempts(path)
        self.letters = Letters()
        self.companies: list[list[int]] = []
        self.path = path

    async def live(self, records: Sequence[Record]) -> None:
        await Suspects(self.attempts, self.letters, self._handle).handle(records)  # type: ignore[arg-type]

    async def _handle(self, records: Sequence[Record]) -> None:
        offsets = [record.offset for record in records]
        self.companies.append(offsets)
        async with self.attempts.track_together([event_of(record) for record in records]):
            if POISON in offsets:
                state = self.path.read_text()
                raise Died(state)

    def bury(self, state: str) -> None:
        """As it was when the process was gone: the exception's way out has written what a death does not."""
        self.path.write_text(state)
        self.attempts._lock.close()


async def test_three_deaths_find_the_poison_and_cost_nobody_else_anything(tmp_path: Path) -> None:
    path, records = tmp_path / "attempts.json", _records(100)
    lives = []
    for _ in range(MAX_DEATHS):
        worker = Worker(path)
        lives.append(worker)
        try:
            await worker.live(records)
        except Died as death:
            worker.bury(str(death))
        assert worker.letters.written == []
    last = Worker(path)
    await last.live(records)
    fatal = [worker.companies[-1] for worker in lives]
    assert [len(company) for company in fatal] == [100, FEW, 1]
    [(record, error, fields)] = last.letters.written
    assert (record.offset, type(error), fields["error_class"]) == (POISON, WorkerKilledError, "worker_killed")
    assert (fields["mailbox_id"], fields["message_id"], fields["attempts"]) == ("box", f"m{POISON}", 4)
    handled = sorted(offset for company in last.companies for offset in company)
    assert handled == [n for n in range(100) if n != POISON]
    assert json.loads(path.read_text())["running"] == []


async def test_who_waits_for_a_server_is_not_blamed(tmp_path: Path) -> None:
    """Only work that may kill is tracked: a process that is ended while it waits leaves no suspicion."""
    attempts = Attempts(tmp_path / "attempts.json")
    seen = []

    async def waits(records: Sequence[Record]) -> None:
        seen.append(json.loads((tmp_path / "attempts.json").read_text())["running"])

    await Suspects(attempts, Letters(), waits).handle(_records(3))  # type: ignore[arg-type]
    assert seen == [[]]


async def test_bytes_that_are_no_register_can_be_poison_too(tmp_path: Path) -> None:
    path = tmp_path / "attempts.json"
    record = Record(topics.DOCUMENTS.name, 0, 5, "x/y", b"no register")
    path.write_text(json.dumps({"deaths": {event_of(record): MAX_DEATHS}, "running": []}))
    worker = Worker(path)
    await worker.live([record])
    [(_, _, fields)] = worker.letters.written
    assert fields["message_id"] is None
