"""A scanner that is slow, away, hangs up or is not to be believed: what the engine makes of each."""

import asyncio

import pytest

from connectors.errors import (
    ConfigurationError,
    ScannerDroppedError,
    ScannerFullError,
    ScannerUnavailableError,
)
from schemas.outcomes import Outcome, Scan, ScanVerdict, content_rank
from streams import scanning
from streams.scanning import MAX_DROPS, Scanning

CLEAN = ScanVerdict(Scan.CLEAN)
PAYLOAD = memoryview(b"bytes")


class Told:
    """A scanner that does as told: gives a verdict, raises, or hangs (None). It stays with the last."""

    def __init__(self, *answers: ScanVerdict | Exception | None) -> None:
        self.answers = list(answers)
        self.away = False
        self.checks = self.scans = self.at_once = self.most_at_once = 0
        self.wrong: Exception | None = None

    async def check(self) -> None:
        self.checks += 1
        if self.wrong:
            raise self.wrong

    async def version(self) -> str:
        if self.away:
            raise ScannerUnavailableError("away")
        return "Told 1/1"

    async def scan(self, payload: memoryview) -> ScanVerdict:
        self.scans += 1
        self.at_once += 1
        self.most_at_once = max(self.most_at_once, self.at_once)
        try:
            await asyncio.sleep(0)  # others may come in
            answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
            if answer is None:
                await asyncio.sleep(3600)
            if isinstance(answer, Exception):
                raise answer
            assert isinstance(answer, ScanVerdict)
            return answer
        finally:
            self.at_once -= 1


@pytest.fixture(autouse=True)
def _impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scanning, "PATIENCE_SECONDS", 0.6)


async def test_a_scanner_that_is_away_for_a_moment_is_waited_for() -> None:
    told = Told(ScannerUnavailableError("restarting"), CLEAN)
    assert await Scanning(told, 1.0, closed=True).verdict(PAYLOAD, "a") == CLEAN
    assert told.checks == 2, "who comes back may be set up in another way"


async def test_closed_waits_and_open_reads_where_it_stays_away() -> None:
    told = Told(CLEAN)
    told.away = True
    closed = Scanning(told, 1.0, closed=True)
    with pytest.raises(ScannerUnavailableError):
        await closed.verdict(PAYLOAD, "a")
    with pytest.raises(ScannerUnavailableError):
        await closed.require()
    opened = Scanning(told, 1.0, closed=False)
    await opened.start()
    await opened.require()
    assert await opened.verdict(PAYLOAD, "a") == ScanVerdict(Scan.UNSCANNED)
    told.away = False
    assert await closed.verdict(PAYLOAD, "a") == CLEAN


async def test_a_slow_document_has_no_verdict_and_a_hanging_scanner_is_away() -> None:
    told = Told(None)
    closed = Scanning(told, 0.05, closed=True)
    with pytest.raises(ScannerUnavailableError):  # it may have stood still: mail.deferred brings it again
        await closed.verdict(PAYLOAD, "a")
    assert await closed.verdict(PAYLOAD, "a") == ScanVerdict(Scan.UNSCANNED)
    assert told.scans == MAX_DROPS
    told.answers = [None, CLEAN]
    assert await closed.verdict(PAYLOAD, "b") == CLEAN
    told.answers, told.away = [None], True
    with pytest.raises(ScannerUnavailableError):
        await closed.verdict(PAYLOAD, "a")


async def test_a_document_that_ends_its_scanner_every_time_is_let_go() -> None:
    told = Told(ScannerDroppedError("hung up"))
    closed = Scanning(told, 1.0, closed=True)
    ends: list[Scan | None] = []
    for _ in range(2):  # as mail.deferred brings it again
        try:
            ends.append((await closed.verdict(PAYLOAD, "a")).scan)
        except ScannerUnavailableError:
            ends.append(None)
    assert ends[-1] is Scan.UNSCANNED
    assert told.scans >= MAX_DROPS
    told.answers = [CLEAN]
    assert await closed.verdict(PAYLOAD, "another") == CLEAN


async def test_a_scanner_that_hangs_up_on_every_question_blames_no_document() -> None:
    told = Told(CLEAN)
    told.wrong = ScannerDroppedError("cut")
    closed = Scanning(told, 1.0, closed=True)
    for _ in range(MAX_DROPS):
        with pytest.raises(ScannerUnavailableError):
            await closed.verdict(PAYLOAD, "a")
    assert told.checks > MAX_DROPS and told.scans == 0
    told.wrong = None
    assert await closed.verdict(PAYLOAD, "a") == CLEAN


async def test_a_scanner_without_room_is_asked_later_and_three_times() -> None:
    told = Told(ScannerFullError("no room"))
    closed = Scanning(told, 1.0, closed=True)
    for tries in range(1, MAX_DROPS):
        with pytest.raises(ScannerUnavailableError):
            await closed.verdict(PAYLOAD, "a")
        assert told.scans == tries, "not in place: mail.deferred brings it again"
    assert (await closed.verdict(PAYLOAD, "a")).scan is Scan.UNSCANNED
    told.answers = [CLEAN]
    assert await closed.verdict(PAYLOAD, "another") == CLEAN


async def test_workers_that_take_each_others_room_do_not_ask_together_for_ever(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Three with room for one, who began at the same moment and always have attachments waiting."""
    monkeypatch.setattr(scanning, "FULL_SECONDS", 0.02)
    inside = 0

    class Small(Told):
        async def check(self) -> None:
            nonlocal inside
            self.checks += 1
            inside += 1
            try:
                for _ in range(5):
                    await asyncio.sleep(0.01)
                    if inside > 1:
                        raise ScannerFullError("no room for a probe")
            finally:
                inside -= 1

    async def work(closed: Scanning) -> None:
        while True:
            try:
                await closed.require()
                assert await closed.verdict(PAYLOAD, "a") == CLEAN
                return
            except ScannerUnavailableError:
                await asyncio.sleep(0)

    workers = [Small(CLEAN) for _ in range(3)]
    await asyncio.gather(*(work(Scanning(told, 1.0, closed=True)) for told in workers))
    assert 3 < sum(told.checks for told in workers) < 100, "few questions beyond the ones that succeed"


async def test_one_that_is_not_to_be_believed_is_not_asked() -> None:
    told = Told(CLEAN)
    told.wrong = ConfigurationError("set AlertExceedsMax yes")
    for closed in (True, False):
        careless = Scanning(told, 1.0, closed=closed)
        with pytest.raises(ConfigurationError):
            await careless.start()
        with pytest.raises(ConfigurationError):
            await careless.verdict(PAYLOAD, "a")
    assert told.scans == 0


async def test_scans_queue_here() -> None:
    told = Told(CLEAN)
    closed = Scanning(told, 1.0, closed=True)
    await asyncio.gather(*(closed.verdict(PAYLOAD, str(number)) for number in range(20)))
    assert (told.scans, told.most_at_once, told.checks) == (20, scanning.SCANS_IN_FLIGHT, 1)


def test_a_verdict_outranks_none_and_infection_everything() -> None:
    rank = content_rank
    assert rank(Outcome.TEXT, Scan.CLEAN) > rank(Outcome.TEXT, Scan.UNSCANNED)
    assert rank(Outcome.TEXT, Scan.UNSCANNED) > rank(Outcome.BLOCKED, Scan.UNSCANNED)
    assert rank(Outcome.BLOCKED, Scan.UNSCANNED) > rank(Outcome.PENDING, Scan.CLEAN)
    for outcome in Outcome:
        if outcome is not Outcome.BLOCKED:
            assert rank(Outcome.BLOCKED, Scan.INFECTED) > rank(outcome, Scan.CLEAN)
