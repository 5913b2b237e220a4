"""A storm of operations, faults and kills in short; ``make test-full`` runs it at full size."""

from pathlib import Path

import pytest

from devstack.stack import Stack
from tests.random_sync import failures, run

pytestmark = pytest.mark.timeout(900)


def test_the_topics_tell_the_truth_whatever_happens(stack: Stack, tmp_path: Path) -> None:
    report = run(operations=90, kills=2, seed=11, directory=tmp_path, stack=stack)
    assert not failures(report, operations=90, faults=10, kills=2, resyncs=1), report
