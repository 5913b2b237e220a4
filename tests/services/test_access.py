"""A caller of one mailbox reads no byte of another, whatever he asks; ``make test-full`` asks 5,000 times."""

import asyncio

import pytest

from devstack.stack import Stack
from tests.access_fuzz import failures, fuzz
from tests.pipelines import emptied

pytestmark = pytest.mark.timeout(600)

REQUESTS = 600


def test_no_request_reaches_another_mailbox(stack: Stack) -> None:
    report = asyncio.run(fuzz(emptied(stack).elasticsearch_url, REQUESTS, seed=1))
    assert not failures(report, REQUESTS), report
    assert {"search", "facets", "suggestions", "message", "thread", "document", "status"} <= set(report.kinds)
