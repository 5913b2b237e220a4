"""The merge: any order, any repetition, the same state."""

import json
from itertools import permutations
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from schemas.outcomes import Outcome, Scan
from schemas.registers import (
    AnyRegister,
    AttachmentContent,
    ContentRegister,
    ContentVersion,
    DeletedRegister,
    LabelRegister,
    LabelsRegister,
    MessageContent,
    MessageState,
    content_version,
    decode_register,
)
from tests.merge_vectors import PATH, render, vectors

_OWNER = {"mailbox_id": "box", "message_id": "m1"}
_epochs = st.integers(1, 2)
_history = st.integers(1, 6)
_labels = st.sampled_from(["INBOX", "SENT", "Label_1"])

_registers: st.SearchStrategy[AnyRegister] = st.one_of(
    st.builds(
        lambda epoch, at, ids: LabelsRegister(
            **_OWNER, epoch=epoch, history_id=at, label_ids=tuple(sorted(ids))
        ),
        _epochs,
        _history,
        st.sets(_labels),
    ),
    st.builds(
        lambda epoch, at, label, present: LabelRegister(
            **_OWNER, epoch=epoch, history_id=at, label_id=label, present=present
        ),
        _epochs,
        _history,
        _labels,
        st.booleans(),
    ),
    st.builds(
        lambda epoch, engine, text: ContentRegister(
            **_OWNER,
            version=ContentVersion(epoch=epoch, engine=engine, rank=5, digest=text),
            message=MessageContent(text=text),
        ),
        _epochs,
        st.integers(1, 2),
        st.sampled_from("ab"),
    ),
    st.builds(lambda epoch, at: DeletedRegister(**_OWNER, epoch=epoch, history_id=at), _epochs, _history),
    st.builds(
        lambda epoch, outcome, digest, scan, standing: ContentRegister(
            **_OWNER,
            part_path="2",
            version=content_version(epoch, outcome, f"{outcome}{scan}{digest}", scan, standing),
            attachment=AttachmentContent(content_type="a/b", outcome=outcome, scan=scan),
        ),
        _epochs,
        st.sampled_from(Outcome),
        st.sampled_from("ab"),
        st.sampled_from(Scan),
        st.integers(0, 3),
    ),
)


@settings(max_examples=300, deadline=None)
@given(st.lists(_registers, max_size=12), st.randoms(use_true_random=False))
def test_order_and_repetition_do_not_matter(registers: list[AnyRegister], random: object) -> None:
    shuffled = [*registers, *registers[: len(registers) // 2]]
    random.shuffle(shuffled)  # type: ignore[attr-defined]
    expected = MessageState().join(registers)
    assert MessageState().join(shuffled) == expected
    assert expected.join(registers) == expected


@settings(max_examples=300, deadline=None)
@given(st.lists(_registers, max_size=8), st.lists(_registers, max_size=8))
def test_merging_in_pieces_is_merging_at_once(left: list[AnyRegister], right: list[AnyRegister]) -> None:
    assert MessageState().join(left).join(right) == MessageState().join([*left, *right])


@settings(max_examples=300, deadline=None)
@given(*[st.lists(_registers, max_size=6)] * 3)
def test_the_join_of_states_is_associative(
    one: list[AnyRegister], two: list[AnyRegister], three: list[AnyRegister]
) -> None:
    def all_of(state: MessageState) -> list[AnyRegister]:
        whole = [state.labels, state.deleted, *state.label_changes.values(), *state.contents.values()]
        return [register for register in whole if register is not None]

    left, middle, right = (MessageState().join(registers) for registers in (one, two, three))
    outer = left.join(all_of(middle)).join(all_of(right))
    assert outer == left.join(all_of(middle.join(all_of(right))))
    assert outer == right.join(all_of(middle)).join(all_of(left)), "and commutative"
    assert outer.join(all_of(outer)) == outer, "and idempotent"


@pytest.mark.parametrize("vector", vectors(), ids=lambda vector: vector["name"])
def test_the_vectors_for_other_languages_hold_in_every_order(vector: dict[str, Any]) -> None:
    records = [decode_register(r["key"], json.dumps(r["value"]).encode()) for r in vector["records"]]
    for order in permutations(records):
        state = MessageState().join(order)
        assert state.live == vector["merged"]["live"]
        assert sorted(state.label_ids) == vector["merged"]["label_ids"]
        versions = {path: content.version.model_dump(mode="json") for path, content in state.contents.items()}
        expected = {path: content["version"] for path, content in vector["merged"]["contents"].items()}
        assert versions == expected


def test_the_published_vectors_are_those_of_the_code() -> None:
    assert PATH.read_text() == render(), "run python -m tests.merge_vectors"


def test_content_under_the_wrong_path_is_refused() -> None:
    version = ContentVersion(epoch=1, rank=5, digest="x")
    with pytest.raises(ValueError, match="part path"):
        ContentRegister(**_OWNER, part_path="2", version=version, message=MessageContent())
    with pytest.raises(ValueError, match="part path"):
        ContentRegister(**_OWNER, version=version)


@given(_registers)
def test_a_register_survives_the_wire(register: AnyRegister) -> None:
    assert decode_register(register.key, register.encode()) == register


def _labels_at(history_id: int, *label_ids: str) -> LabelsRegister:
    return LabelsRegister(**_OWNER, epoch=1, history_id=history_id, label_ids=label_ids)


def _change(history_id: int, label_id: str, *, present: bool) -> LabelRegister:
    return LabelRegister(**_OWNER, epoch=1, history_id=history_id, label_id=label_id, present=present)


def test_a_snapshot_outdates_older_changes_and_not_newer_ones() -> None:
    state = MessageState().join(
        [
            _change(3, "Label_1", present=True),
            _change(7, "STARRED", present=True),
            _change(8, "INBOX", present=False),
            _labels_at(5, "INBOX", "UNREAD"),
        ]
    )
    assert state.label_ids == {"UNREAD", "STARRED"}


def test_a_message_is_live_only_when_seen_after_its_deletion() -> None:
    deleted = DeletedRegister(**_OWNER, epoch=1, history_id=5)
    assert not MessageState().join([_labels_at(5), deleted]).live
    assert MessageState().join([_labels_at(6), deleted]).live
    newer_epoch = LabelsRegister(**_OWNER, epoch=2, history_id=1, label_ids=())
    assert MessageState().join([newer_epoch, deleted]).live


def test_a_pending_scan_gives_way_to_its_text() -> None:
    def content(outcome: Outcome) -> ContentRegister:
        return ContentRegister(
            **_OWNER,
            part_path="2",
            version=content_version(1, outcome, "x"),
            attachment=AttachmentContent(content_type="image/png", outcome=outcome),
        )

    state = MessageState().join([content(Outcome.TEXT), content(Outcome.PENDING)])
    assert state.contents["2"].attachment is not None
    assert state.contents["2"].attachment.outcome is Outcome.TEXT


@pytest.mark.parametrize("key", ["abc/unheard", "abc", "abc/labels"])
def test_a_key_that_names_no_register_of_the_value_is_refused(key: str) -> None:
    with pytest.raises(ValueError, match=r"register|key|validation"):
        decode_register(key, _labels_at(1).encode())


TEXT, BLOCKED, TIMED_OUT = Outcome.TEXT, Outcome.BLOCKED, Outcome.TIMED_OUT


@pytest.mark.parametrize(
    ("stands", "comes", "wins"),
    [
        # (outcome, scan, engine, verdict known of)
        ((TIMED_OUT, Scan.OFF, 1, 0), (TEXT, Scan.OFF, 1, 0), True),
        ((TEXT, Scan.OFF, 1, 0), (TIMED_OUT, Scan.OFF, 1, 0), False),
        ((TEXT, Scan.CLEAN, 1, 0), (TIMED_OUT, Scan.CLEAN, 1, 0), False),
        ((BLOCKED, Scan.UNSCANNED, 1, 0), (TEXT, Scan.CLEAN, 1, 0), True),
        ((BLOCKED, Scan.UNSCANNED, 1, 0), (TIMED_OUT, Scan.CLEAN, 1, 0), True),
        ((TEXT, Scan.CLEAN, 1, 0), (BLOCKED, Scan.UNSCANNED, 1, 0), False),
        ((TEXT, Scan.UNSCANNED, 1, 0), (TEXT, Scan.CLEAN, 1, 0), True),
        # newer signatures find what older ones did not
        ((TEXT, Scan.CLEAN, 1, 0), (BLOCKED, Scan.INFECTED, 1, 0), True),
        # what was found stands against whoever has not scanned, or did not know of it, by a newer engine too
        ((BLOCKED, Scan.INFECTED, 1, 0), (TEXT, Scan.CLEAN, 1, 0), False),
        ((BLOCKED, Scan.INFECTED, 1, 0), (TEXT, Scan.OFF, 2, 0), False),
        ((BLOCKED, Scan.INFECTED, 1, 0), (TEXT, Scan.UNSCANNED, 2, 1), False),
        ((BLOCKED, Scan.INFECTED, 1, 0), (BLOCKED, Scan.UNSCANNED, 1, 1), False),
        # and gives way to who knew of it and found nothing any more; even that is not for ever
        ((BLOCKED, Scan.INFECTED, 1, 0), (TEXT, Scan.CLEAN, 1, 1), True),
        ((TEXT, Scan.CLEAN, 1, 1), (BLOCKED, Scan.INFECTED, 1, 2), True),
        ((TEXT, Scan.CLEAN, 1, 1), (BLOCKED, Scan.INFECTED, 1, 0), False),
    ],
)
def test_what_is_read_again_wins_where_it_is_better(
    stands: tuple[Outcome, Scan, int, int], comes: tuple[Outcome, Scan, int, int], wins: bool
) -> None:
    def content(outcome: Outcome, scan: Scan, engine: int, standing: int) -> ContentRegister:
        version = content_version(1, outcome, f"{outcome}{scan}{engine}", scan, standing)
        return ContentRegister(
            **_OWNER,
            part_path="2",
            version=version.model_copy(update={"engine": engine}),
            attachment=AttachmentContent(content_type="a/b", outcome=outcome, scan=scan),
        )

    old, new = content(*stands), content(*comes)
    for order in ([old, new], [new, old]):
        assert MessageState().join(order).contents["2"] == (new if wins else old)
