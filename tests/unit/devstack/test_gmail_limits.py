"""Quota, faults, partial responses, page tokens and signatures of the emulator, each by itself."""

import json
from pathlib import Path
from typing import Any

import pytest

from devstack.gmail.clock import Clock
from devstack.gmail.errors import ApiError
from devstack.gmail.faults import Fault, FaultError, FaultPlan, parse_faults, read_faults
from devstack.gmail.fields import apply_fields
from devstack.gmail.paging import make_token, page_size, read_token
from devstack.gmail.quota import QUOTAS, Quota, QuotaMeter
from devstack.gmail.signing import SigningKey, TokenError


def spend(meter: QuotaMeter, method: str, times: int, address: str = "anna@example.com") -> None:
    for _ in range(times):
        meter.spend(address, method)


@pytest.mark.parametrize(("era", "gets"), [("new", 300), ("legacy", 3_000)])
def test_a_user_may_get_so_many_messages_a_minute(era: str, gets: int) -> None:
    clock = Clock(1_000.0)
    meter = QuotaMeter(QUOTAS[era], clock)
    spend(meter, "messages.get", gets)
    with pytest.raises(ApiError) as caught:
        spend(meter, "messages.get", 1)
    assert caught.value.code == 403
    assert caught.value.body()["error"]["errors"][0]["reason"] == "userRateLimitExceeded"
    assert caught.value.body()["error"]["errors"][0]["domain"] == "usageLimits"
    assert caught.value.body()["error"]["status"] == "RESOURCE_EXHAUSTED"
    spend(meter, "messages.get", 1, "bob@example.com")
    assert meter.requests["messages.get"] == gets + 2
    assert meter.rejections == {"userRateLimitExceeded": 1}


def test_the_window_slides() -> None:
    clock = Clock(1_000.0)
    meter = QuotaMeter(QUOTAS["new"], clock)
    spend(meter, "messages.get", 150)
    clock.advance(30)
    spend(meter, "messages.get", 150)
    clock.advance(29.9)
    with pytest.raises(ApiError):
        spend(meter, "messages.get", 1)
    clock.advance(0.2)
    spend(meter, "messages.get", 150)
    with pytest.raises(ApiError):
        spend(meter, "messages.get", 1)


def test_a_refused_call_costs_nothing_and_cheaper_calls_still_fit() -> None:
    meter = QuotaMeter(Quota({"messages.get": 20, "history.list": 2}, 30, None), Clock(0.0))
    spend(meter, "messages.get", 1)
    with pytest.raises(ApiError):
        spend(meter, "messages.get", 1)
    spend(meter, "history.list", 5)
    assert dict(meter.units) == {"messages.get": 20, "history.list": 10}


def test_the_project_has_a_limit_of_its_own() -> None:
    meter = QuotaMeter(Quota({"messages.get": 20}, None, 40), Clock(0.0))
    spend(meter, "messages.get", 1, "a@example.com")
    spend(meter, "messages.get", 1, "b@example.com")
    with pytest.raises(ApiError) as caught:
        spend(meter, "messages.get", 1, "c@example.com")
    assert (caught.value.code, caught.value.reason) == (429, "rateLimitExceeded")


def test_without_limits_units_are_counted_all_the_same() -> None:
    meter = QuotaMeter(QUOTAS["off"], Clock(0.0))
    spend(meter, "messages.get", 1_000)
    assert meter.units["messages.get"] == 20_000


# --- faults ------------------------------------------------------------------------------------------


def struck(fault: Fault, method: str, times: int) -> list[bool]:
    plan = FaultPlan([fault])
    return [plan.strike(fault.kind, method) is not None for _ in range(times)]


def test_faults_wait_count_and_choose_their_method() -> None:
    assert struck(Fault("rate_limit", after=1, count=2), "messages.get", 5) == [
        False,
        True,
        True,
        False,
        False,
    ]
    assert struck(Fault("server_error", method="labels.list"), "messages.get", 2) == [False, False]
    assert struck(Fault("expired_history"), "messages.list", 1) == [False]


def test_chance_is_repeatable() -> None:
    draws = struck(Fault("server_error", probability=0.5, seed=7), "messages.get", 50)
    assert draws == struck(Fault("server_error", probability=0.5, seed=7), "messages.get", 50)
    assert 10 < sum(draws) < 40


@pytest.mark.parametrize(
    ("described", "message"),
    [
        ({}, "list"),
        ([1], "fault 1: not an object"),
        ([{"kind": "earthquake"}], "'earthquake' is none of"),
        ([{"kind": "rate_limit", "often": 1}], "often"),
        ([{}], "kind"),
        ([{"kind": "rate_limit", "probability": 2}], "probability"),
        ([{"kind": "server_error", "status": 200}], "status: 200"),
    ],
)
def test_faults_that_cannot_be_read_are_named(described: Any, message: str) -> None:
    with pytest.raises(FaultError, match=message):
        parse_faults(described)


def test_faults_come_from_files(tmp_path: Path) -> None:
    path = tmp_path / "faults.json"
    path.write_text(json.dumps([{"kind": "slow_body", "seconds": 3}]))
    assert read_faults(path)[0].seconds == 3
    path.write_text("[")
    with pytest.raises(FaultError, match="no JSON"):
        read_faults(path)
    with pytest.raises(FaultError, match="No such file"):
        read_faults(tmp_path / "missing")


# --- fields, paging, signatures ----------------------------------------------------------------------

RESOURCE = {
    "id": "1",
    "payload": {"headers": [{"name": "a", "value": "b"}], "body": {"size": 1, "data": "x"}},
}


@pytest.mark.parametrize(
    ("fields", "selected"),
    [
        ("id", {"id": "1"}),
        ("id,payload/body/size", {"id": "1", "payload": {"body": {"size": 1}}}),
        (
            "payload(headers(name),body(data))",
            {"payload": {"headers": [{"name": "a"}], "body": {"data": "x"}}},
        ),
        ("missing", {}),
        ("*", RESOURCE),
        ("payload(", RESOURCE),
        ("a)b", RESOURCE),
        ("", RESOURCE),
    ],
)
def test_partial_responses(fields: str, selected: dict[str, Any]) -> None:
    assert apply_fields(RESOURCE, fields) == selected


def test_page_tokens_belong_to_their_request() -> None:
    token = make_token([5, "x"], ["list", "q"])
    assert read_token(token, ["list", "q"]) == [5, "x"]
    for wrong, request in ((token, ["list", "other"]), ("nonsense", ["list", "q"]), ("e30=", ["list", "q"])):
        with pytest.raises(ApiError, match="pageToken"):
            read_token(wrong, request)


def test_page_sizes_are_cut_to_the_maximum() -> None:
    assert [page_size(value) for value in (None, "1", "500", "9999")] == [100, 1, 500, 500]
    for wrong in ("0", "-1", "many"):
        with pytest.raises(ApiError):
            page_size(wrong)


def test_a_signature_is_checked() -> None:
    key = SigningKey()
    token = key.sign({"sub": "a"})
    assert key.verify(token) == {"sub": "a"}
    head, _, tail = token.split(".")
    for forged in (f"{head}.e30.{tail}", "a.b.c", "", SigningKey().sign({"sub": "a"})):
        with pytest.raises(TokenError):
            key.verify(forged)
