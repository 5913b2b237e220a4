"""When a rebuilt index may take the live one's place, and how records are cut into batches."""

from dataclasses import replace

import pytest

from connectors.kafka import Record
from streams.reindex import BATCH_BYTES, BATCH_RECORDS, Check, _batches

EQUAL = Check(100, 100, 150, 150, 50, (), 0)


@pytest.mark.parametrize(
    ("changed", "passes"),
    [
        ({}, True),
        ({"messages": 99}, False),
        ({"documents": 149}, False),
        ({"messages": 101, "documents": 152}, True),  # the log has what the live index lost
        ({"differing": ("a",)}, False),
        # What moves explains as much as it may, and no more.
        ({"messages": 98, "documents": 120, "moving": 2}, True),
        ({"messages": 97, "moving": 2}, False),
        ({"differing": ("a", "b", "c"), "moving": 2}, False),
    ],
)
def test_a_check_passes_only_where_nothing_lacks_without_a_reason(
    changed: dict[str, int], passes: bool
) -> None:
    assert replace(EQUAL, **changed).passed is passes  # type: ignore[arg-type]


def test_batches_are_bounded_by_number_and_by_bytes() -> None:
    small = [Record("t", 0, offset, "k", b"x") for offset in range(BATCH_RECORDS + 1)]
    assert [len(batch) for batch in _batches(small)] == [BATCH_RECORDS, 1]
    large = [Record("t", 0, offset, "k", b"x" * (BATCH_BYTES // 2)) for offset in range(5)]
    assert [len(batch) for batch in _batches(large)] == [2, 2, 1]
    assert _batches([]) == []
