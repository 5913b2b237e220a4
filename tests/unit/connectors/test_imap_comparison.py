"""A dual run's verdict: exactly what differs, with reasons; nothing that is only on its way."""

import json

import pytest

from cli.imap import page
from connectors.imap.comparison import Comparison, compare
from schemas.events import ChangeKind, MailboxRecord, MessageChange, Observation
from schemas.identity import label_id_of
from schemas.outcomes import Outcome
from schemas.registers import (
    AnyRegister,
    AttachmentContent,
    ContentRegister,
    DeletedRegister,
    LabelsRegister,
    MessageContent,
    PartReference,
    content_version,
)

RECORD = MailboxRecord(mailbox_id="box", address="a@example.com", source="dual", exclude_labels=())
DAY = 86_400_000
BEGIN = 20_000 * DAY
NOW = BEGIN + 8 * DAY
NAMES = {"INBOX": "INBOX", "Label_1": "Harbour"}


def registers(
    message_id: str, labels: tuple[str, ...] = ("INBOX", "Label_1", "CATEGORY_SOCIAL")
) -> list[AnyRegister]:
    own = MessageContent(
        text_sha256="t", parts=(PartReference(part_path="2", content_type="application/pdf"),), sent_at=BEGIN
    )
    attachment = AttachmentContent(content_type="application/pdf", sha256="a", outcome=Outcome.TEXT)
    version = content_version(1, Outcome.TEXT, "d")
    common = {"mailbox_id": "box", "message_id": message_id}
    return [
        LabelsRegister(**common, epoch=1, history_id=7, label_ids=labels),
        ContentRegister(**common, version=version, message=own),
        ContentRegister(**common, part_path="2", version=version, attachment=attachment),
    ]


def observation(message_id: str, **changed: object) -> Observation:
    fields = {
        "mailbox_id": "box",
        "epoch": 1,
        "message_id": message_id,
        "kind": "seen",
        "label_ids": ("INBOX", label_id_of("Harbour")),
        "parts": {"": "t", "2": "a"},
        "received_at": BEGIN + 1000,
        "observed_at": BEGIN + 5000,
        "spent_bytes": 100,
        "spent_requests": 2,
    }
    return Observation.model_validate(fields | changed)


def compared(
    observations: list[Observation], found: list[AnyRegister], grace_milliseconds: int = 0, since: int = 0
) -> Comparison:
    change = MessageChange(
        mailbox_id="box",
        message_id="late",
        kind=ChangeKind.UPSERT,
        epoch=1,
        history_id=9,
        emitted_at=NOW - 1000,
    )
    return compare(
        RECORD,
        [observation("first", received_at=BEGIN, observed_at=BEGIN), *observations],
        [*registers("first"), *found],
        [change],
        NAMES,
        now=NOW,
        since=since,
        grace_milliseconds=grace_milliseconds,
    )


def test_two_sides_that_agree_are_a_go() -> None:
    by_api = observation("", kind="spent", way="gmail_api", spent_bytes=50, observed_at=BEGIN + 1)
    result = compared([by_api, observation("m"), by_api], registers("m"))
    assert result.reasons(7) == []
    found = result.as_dict(7)
    assert (found["verdict"], found["messages"], found["unread"]) == ("go", 2, 0)
    day = found["by_day"]["2024-10-04"]
    assert (day["observed"], day["imap_bytes"], day["imap_requests"]) == (2, 200, 4)
    assert (day["api_bytes"], day["api_requests"]) == (100, 4)
    assert day["imap_seconds"] == pytest.approx(2.0)  # of 0 and 4 seconds
    assert result.reasons(9) == ["the dual run lasts 8.00 days, not 9"]


@pytest.mark.parametrize(
    ("kind", "observations", "found"),
    [
        ("only_imap", [observation("m")], []),
        (
            "only_imap",
            [observation("m")],
            [*registers("m"), DeletedRegister(mailbox_id="box", message_id="m", epoch=1, history_id=8)],
        ),
        ("only_api", [], registers("m")),
        ("only_api", [observation("m"), observation("m", kind="gone")], registers("m")),
        ("labels", [observation("m")], registers("m", ("Label_1",))),
        ("labels", [observation("m"), observation("m", kind="labels", label_ids=())], registers("m")),
        ("contents", [observation("m", parts={"": "cut", "2": "a"})], registers("m")),
        ("contents", [observation("m", parts={"": "t", "2": "cut"})], registers("m")),
        ("contents", [observation("m", parts={"": "t"})], registers("m")),
    ],
)
def test_each_difference_is_found_and_is_a_no_go(
    kind: str, observations: list[Observation], found: list[AnyRegister]
) -> None:
    result = compared([*observations, observation("good")], [*found, *registers("good")])
    assert {name: ids for name, ids in result.differences.items() if ids} == {kind: ["m"]}
    assert result.as_dict(7)["verdict"] == "no-go"
    assert len(result.reasons(7)) == 1


def test_what_is_on_its_way_is_no_difference() -> None:
    late = [observation("late", observed_at=NOW - 2000, received_at=NOW - 3000)]
    assert compared(late, []).differences["only_imap"] == ["late"]
    result = compared(late, [], grace_milliseconds=60_000)
    assert result.reasons(7) == []
    assert compared([observation("m")], [], since=BEGIN + 2000).reasons(7) == []


def test_without_a_dual_run_there_is_no_verdict_for_it() -> None:
    result = compare(RECORD, [observation("m", epoch=0)], [], [], {}, now=NOW)
    assert result.reasons(7) == ["IMAP has observed nothing: set the mailbox's source to dual"]


def test_the_page_shows_verdict_reasons_and_a_chart() -> None:
    found = compared([observation("<m>")], []).as_dict(7)
    shown = page(found)
    assert "no-go" in shown
    assert "<svg" in shown
    assert "&lt;m&gt;" in shown
    assert "<m>" not in shown
    json.dumps(found)
