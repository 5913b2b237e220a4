"""Ids are public: these values must never change."""

from aiokafka.partitioner import murmur2
from hypothesis import given
from hypothesis import strategies as st

from schemas.identity import document_id, message_key, partition_for


def test_ids_stay_what_they_are() -> None:
    assert message_key("box", "18c0ffee") == "cacb2d95f34614f779348ff262cae277"
    assert document_id("box", "18c0ffee") == "96f27e78894275fbb1fc8fececff2f28"
    assert document_id("box", "18c0ffee", "2.1/3") == "30b0ed2f748365ce8f6767b27dac322b"


def test_fields_do_not_run_into_each_other() -> None:
    assert document_id("box", "1", "2") != document_id("bo", "x1", "2")


@given(st.text(max_size=60), st.integers(1, 64))
def test_partitions_are_kafkas_own(key: str, partitions: int) -> None:
    assert partition_for(key, partitions) == (murmur2(key.encode()) & 0x7FFFFFFF) % partitions
