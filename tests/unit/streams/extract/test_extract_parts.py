"""What becomes of a message's parts: fetched, streamed, skipped, or left to the slow lane."""

from dataclasses import replace

import pytest

from connectors.errors import RateLimitedError
from connectors.metrics import gmail_attachments_skipped_counter
from schemas.events import now_milliseconds
from schemas.mime import Part
from schemas.outcomes import Outcome, Scan
from schemas.registers import ContentRegister
from streams.extract import Extract
from tests.extracting import Broker, Client, Engine, change_of, mail_of, pdf, raises, work_of


@pytest.mark.parametrize("ahead_milliseconds", [-3_600_000, 0, 3_600_000])
async def test_work_waits_as_long_as_it_was_to_whatever_the_clock_said_then(
    extract: Extract, broker: Broker, monkeypatch: pytest.MonkeyPatch, ahead_milliseconds: int
) -> None:
    monkeypatch.setattr("streams.extract.PATIENCE_SECONDS", 0.01)
    written_at = now_milliseconds() + ahead_milliseconds
    put_off = work_of(not_before=written_at + 15_000)
    await extract.handle_deferred(replace(put_off, written_at=written_at))
    if ahead_milliseconds < 0:  # an hour behind: it has waited for an hour
        assert broker.deferred() == []
    else:
        [work] = broker.deferred()
        assert 10_000 < work.not_before - now_milliseconds() <= 15_000


async def test_a_scanner_that_is_away_holds_up_attachments_only(
    extract: Extract, broker: Broker, client: Client, engine: Engine
) -> None:
    client.answer = lambda: mail_of(pdf())
    engine.scanner_away = True
    await extract.handle_change(change_of())
    [_, message] = broker.registers()
    assert isinstance(message, ContentRegister) and message.message is not None
    [work] = broker.deferred()
    assert work.reason == "unavailable"
    assert work.not_before > now_milliseconds() + 20_000
    fetched = len(client.fetched)
    await extract.handle_deferred(work_of(reason="unavailable"))
    assert len(client.fetched) == fetched, "Gmail is asked for nothing before the scanner answers"
    assert len(broker.deferred()) == 2
    engine.scanner_away = False
    await extract.handle_deferred(work_of(reason="unavailable"))
    part = broker.registers()[-1]
    assert isinstance(part, ContentRegister) and part.attachment is not None
    assert broker.dead_letters() == []


async def test_an_image_waits_for_the_slow_lane_without_being_fetched(
    extract: Extract, broker: Broker, client: Client, engine: Engine
) -> None:
    client.answer = lambda: mail_of(Part("image/png", filename="a/b.png", reference="r", size_bytes=9))
    await extract.handle_change(change_of())
    part = broker.registers()[-1]
    assert isinstance(part, ContentRegister)
    assert part.attachment is not None
    assert (part.attachment.outcome, part.attachment.filename) == (Outcome.PENDING, "b.png")
    [work] = broker.deferred()
    assert (work.part_path, work.reason, work.not_before <= now_milliseconds()) == ("2", "ocr", True)
    assert engine.payloads == []


async def test_the_slow_lane_reads_one_part_to_its_end(
    extract: Extract, broker: Broker, client: Client
) -> None:
    client.answer = lambda: mail_of(pdf("scan"), pdf("other"))
    await extract.handle_deferred(work_of(part_path="2"))
    [part] = broker.registers()
    assert isinstance(part, ContentRegister)
    assert part.part_path == "2"
    assert part.attachment is not None
    assert part.attachment.outcome is Outcome.TEXT


async def test_what_is_read_again_takes_one_fetch_of_the_message(
    extract: Extract, broker: Broker, client: Client, engine: Engine
) -> None:
    client.answer = lambda: mail_of(pdf("scan"), pdf("other"), pdf("third"))
    parts = {"2": 0, "4": 1}
    await extract.handle_deferred(work_of(reason="reprocess", parts=parts, fetch="raw"))
    assert [register.name for register in broker.registers()] == ["content/2", "content/4"]
    assert (client.fetched, client.asked) == (["m1"], [(True, True)])
    # It was found infected, and no scanner took that back: it says nothing against it.
    verdicts = [r.version.verdict for r in broker.registers() if isinstance(r, ContentRegister)]
    assert verdicts == [0, 0]
    engine.scan = Scan.CLEAN
    broker.sent.clear()
    await extract.handle_deferred(work_of(reason="reprocess", parts=parts))
    verdicts = [r.version.verdict for r in broker.registers() if isinstance(r, ContentRegister)]
    assert verdicts == [0, 2]
    assert broker.deferred() == []


async def test_a_message_read_again_says_its_labels_first(
    extract: Extract, broker: Broker, client: Client
) -> None:
    client.answer = lambda: mail_of(pdf("one"), pdf("two"))
    await extract.handle_deferred(work_of(reason="reprocess", parts={"": 0, "3": 0}))
    assert [register.name for register in broker.registers()] == ["labels", "content/", "content/3"]


async def test_what_must_wait_to_be_read_again_keeps_its_parts(
    extract: Extract, broker: Broker, client: Client
) -> None:
    client.answer = raises(RateLimitedError("429", retry_after_seconds=60))
    await extract.handle_deferred(work_of(reason="reprocess", parts={"2": 1}))
    [work] = broker.deferred()
    assert (work.reason, work.parts) == ("reprocess", {"2": 1})


async def test_a_stale_reference_is_renewed(
    extract: Extract, broker: Broker, client: Client, engine: Engine
) -> None:
    references = iter(["old", "new"])
    client.stale = {"old"}
    client.answer = lambda: mail_of(pdf(next(references)))
    await extract.handle_change(change_of())
    assert engine.payloads == [b"bytes of new"]
    assert broker.dead_letters() == []


async def test_a_large_body_is_streamed(extract: Extract, client: Client, engine: Engine) -> None:
    client.answer = lambda: mail_of(pdf(size_bytes=20 * 1024 * 1024))
    await extract.handle_change(change_of())
    assert engine.payloads == [b"streamed"]


async def test_a_stale_reference_is_renewed_for_a_stream_too(
    extract: Extract, broker: Broker, client: Client, engine: Engine
) -> None:
    references = iter(["old", "new"])
    client.stale = {"old"}
    client.answer = lambda: mail_of(pdf(next(references), size_bytes=20 * 1024 * 1024))
    await extract.handle_change(change_of())
    assert engine.payloads == [b"streamed"]
    assert client.streamed == ["old", "new"]


async def test_an_unknown_size_is_streamed(extract: Extract, client: Client, engine: Engine) -> None:
    client.answer = lambda: mail_of(Part("application/pdf", filename="a.pdf", reference="ref"))
    await extract.handle_change(change_of())
    assert engine.payloads == [b"streamed"]


@pytest.mark.parametrize(
    ("size_bytes", "headers", "disposition", "reason"),
    [
        (43, (), "inline", "tracking_pixel"),
        (43, (("Content-ID", "<pixel@x>"),), None, "tracking_pixel"),
        (1_500, (("Content-ID", "<logo@x>"),), None, "inline_image"),
        (1_500, (("Content-ID", "<unknown@x>"),), "attachment", None),
        (1_500, (), "attachment", None),
        (40_000, (("Content-ID", "<logo@x>"),), "inline", None),  # a screenshot
    ],
)
async def test_decoration_is_told_from_attachments_without_fetching_it(
    extract: Extract,
    broker: Broker,
    client: Client,
    size_bytes: int,
    headers: tuple[tuple[str, str], ...],
    disposition: str | None,
    reason: str | None,
) -> None:
    html = Part("text/html", body=b"<img src='cid:logo@x'><img src=\"CID:pixel@x\">")
    image = Part("image/png", headers, "../a.png", disposition, size_bytes=size_bytes, reference="ref")
    client.answer = lambda: mail_of(html, image)
    before = _skipped(reason)
    await extract.handle_change(change_of())
    [content] = [register.attachment for register in broker.registers() if register.name == "content/3"]  # type: ignore[union-attr]
    assert content is not None
    assert content.outcome is (Outcome.SKIPPED if reason else Outcome.PENDING)
    assert content.skipped_reason == reason
    assert content.inline is (disposition == "inline" or ("unknown" not in str(headers) and bool(headers)))
    assert (content.filename, content.raw_filename) == ("a.png", "../a.png")
    assert len(broker.deferred()) == (0 if reason else 1)
    assert _skipped(reason) - before == (1 if reason else 0)


def _skipped(reason: str | None) -> float:
    return float(gmail_attachments_skipped_counter.labels(reason=str(reason))._value.get())


async def test_work_that_may_not_start_yet_goes_to_the_end_of_the_queue(
    extract: Extract, broker: Broker, client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("streams.extract.PATIENCE_SECONDS", 0.01)
    later = now_milliseconds() + 60_000
    await extract.handle_deferred(work_of(not_before=later))
    [work] = broker.deferred()
    assert abs(work.not_before - later) < 1_000
    assert client.fetched == []
