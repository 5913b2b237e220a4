"""How long is waited after failures."""

import pytest

from connectors.errors import backoff_seconds


@pytest.mark.parametrize(("failures", "whole"), [(0, 0.5), (1, 1.0), (5, 16.0), (7, 60.0), (100_000, 60.0)])
def test_a_wait_doubles_up_to_its_longest_however_long_it_lasts(failures: int, whole: float) -> None:
    waits = {backoff_seconds(failures, 60.0, first=0.5) for _ in range(20)}
    assert whole / 2 <= min(waits) < max(waits) <= whole
