"""The emulator against Google's own client libraries, and every answer against Google's own description."""

import base64
import http.client
from typing import Any
from urllib.parse import urlsplit

import pytest

from devstack.gmail.clock import Clock
from devstack.gmail.faults import Fault, FaultPlan
from devstack.gmail.mailfiles import MailBytes
from devstack.gmail.server import EmulatorError, GmailEmulator
from tests.gmail_api import (
    ANNA,
    BOB,
    MAIL,
    READONLY,
    as_service,
    as_user,
    control,
    every_page,
    refreshed,
    refused,
    users,
    valid,
)

# --- reading -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", ["user", "service account"])
def test_both_ways_of_signing_in_read_every_message_in_every_format(
    emulator: GmailEmulator, path: str
) -> None:
    credentials = as_user(emulator) if path == "user" else as_service(emulator, ANNA, READONLY)
    api = users(emulator, credentials)
    profile = valid(api.getProfile(userId="me").execute(), "Profile")
    assert profile["emailAddress"] == ANNA
    listed = every_page(api.messages().list, "messages", "ListMessagesResponse", maxResults=4)
    assert len(listed) == len({entry["id"] for entry in listed}) == profile["messagesTotal"] == len(MAIL)
    raws = set()
    for entry in listed:
        for form in ("minimal", "metadata", "full", "raw"):
            message = valid(api.messages().get(userId=ANNA, id=entry["id"], format=form).execute(), "Message")
            assert message["threadId"] == entry["threadId"]
            assert ("payload" in message) is (form in {"metadata", "full"})
        raws.add(base64.urlsafe_b64decode(message["raw"]))
    assert raws == set(MAIL)


def test_listing_filters_and_pages_do_not_shift(emulator: GmailEmulator) -> None:
    messages = users(emulator).messages()
    first = messages.list(userId="me", maxResults=2).execute()
    subject = messages.get(userId="me", id=first["messages"][0]["id"], format="metadata").execute()
    assert subject["payload"]["headers"][0] == {"name": "Subject", "value": "papers"}
    control(emulator, "POST", f"/mailboxes/{ANNA}/messages", b"Subject: just now\n\n")
    second = messages.list(userId="me", maxResults=2, pageToken=first["nextPageToken"]).execute()
    assert not {m["id"] for m in first["messages"]} & {m["id"] for m in second["messages"]}
    spam = control(emulator, "POST", f"/mailboxes/{ANNA}/messages?label=SPAM", b"Subject: buy\n\n")
    hidden = messages.list(userId="me").execute()
    shown = messages.list(userId="me", includeSpamTrash=True).execute()
    assert len(shown["messages"]) == len(hidden["messages"]) + 1
    for parameters in ({"labelIds": ["SPAM"]}, {"q": "in:spam"}, {"q": "subject:buy in:anywhere"}):
        found = messages.list(userId="me", **parameters).execute()
        assert [message["id"] for message in found["messages"]] == [spam["id"]]
    assert messages.list(userId="me", labelIds=["INBOX", "SPAM"]).execute() == {"resultSizeEstimate": 0}


def test_attachment_ids_change_with_every_get_and_age(emulator: GmailEmulator) -> None:
    messages = users(emulator).messages()
    (entry,) = messages.list(userId="me", q="has:attachment").execute()["messages"]

    def attachment_id() -> str:
        parts = messages.get(userId="me", id=entry["id"]).execute()["payload"]["parts"]
        assert [part["body"].get("size") for part in parts] == [9, 5, 22]
        return str(parts[1]["body"]["attachmentId"])

    def fetch(reference: str) -> Any:
        return messages.attachments().get(userId="me", messageId=entry["id"], id=reference)

    first, second = attachment_id(), attachment_id()
    assert first != second
    for reference in (first, second):
        body = valid(fetch(reference).execute(), "MessagePartBody")
        assert base64.urlsafe_b64decode(body["data"]) == b"%PDF-"
    attachment_id()
    assert refused(fetch(first)) == (400, "invalidArgument")
    assert fetch(second).execute()["size"] == 5


def test_partial_responses_and_labels(emulator: GmailEmulator) -> None:
    api = users(emulator)
    page = api.messages().list(userId="me", maxResults=1, fields="messages(id),nextPageToken").execute()
    assert set(page) == {"messages", "nextPageToken"}
    assert set(page["messages"][0]) == {"id"}
    control(emulator, "POST", f"/mailboxes/{ANNA}/labels", {"name": "Boat"})
    listed = valid(api.labels().list(userId="me").execute(), "ListLabelsResponse")["labels"]
    assert {"id": "Label_1", "name": "Boat", "type": "user"} in listed
    inbox = valid(api.labels().get(userId="me", id="INBOX").execute(), "Label")
    assert inbox["messagesTotal"] == len(MAIL)


def test_requests_that_make_no_sense_are_refused_as_gmail_does(emulator: GmailEmulator) -> None:
    api = users(emulator)
    assert refused(api.messages().get(userId="me", id="1234567890abcdef")) == (404, "notFound")
    assert refused(api.messages().get(userId="me", id="<not@an.id>")) == (400, "invalidArgument")
    assert refused(api.messages().list(userId="me", pageToken="x")) == (400, "invalidArgument")
    assert refused(api.history().list(userId="me", startHistoryId="abc")) == (400, "invalidArgument")
    assert refused(api.getProfile(userId=BOB)) == (403, "forbidden")
    assert refused(api.labels().get(userId="me", id="Label_9")) == (404, "notFound")
    assert refused(api.watch(userId="me", body={"topicName": "x"})) == (400, "invalidArgument")


# --- history -----------------------------------------------------------------------------------------


def test_history_is_chronological_whole_and_paged(emulator: GmailEmulator) -> None:
    api = users(emulator)
    start = api.getProfile(userId="me").execute()["historyId"]
    assert api.history().list(userId="me", startHistoryId=start).execute() == {"historyId": start}
    base = f"/mailboxes/{ANNA}/messages"
    new = control(emulator, "POST", base, b"Subject: new\n\n")
    control(emulator, "POST", f"{base}/{new['id']}/modify", {"add": ["STARRED"], "remove": ["UNREAD"]})
    control(emulator, "POST", f"{base}/{new['id']}/trash")
    control(emulator, "POST", f"{base}/{new['id']}/untrash")
    control(emulator, "DELETE", f"{base}/{new['id']}")

    def history(**parameters: Any) -> list[Any]:
        return every_page(
            api.history().list, "history", "ListHistoryResponse", startHistoryId=start, **parameters
        )

    records = history(maxResults=2)
    assert [set(record) - {"id", "messages"} for record in records] == [
        {"messagesAdded"},
        {"labelsAdded", "labelsRemoved"},
        {"labelsAdded", "labelsRemoved"},  # into the trash is out of the inbox
        {"labelsRemoved"},
        {"messagesDeleted"},
    ]
    ids = [int(record["id"]) for record in records]
    assert ids == sorted(set(ids))
    assert all(record["messages"] == [{"id": new["id"], "threadId": new["threadId"]}] for record in records)
    assert records == history()
    added = history(historyTypes=["messageAdded", "messageDeleted"], maxResults=1)
    assert [set(record) - {"id", "messages"} for record in added] == [{"messagesAdded"}, {"messagesDeleted"}]
    assert len(history(labelId="TRASH")) == 2
    assert api.getProfile(userId="me").execute()["historyId"] == records[-1]["id"]


def test_history_that_was_dropped_is_not_found(emulator: GmailEmulator) -> None:
    api = users(emulator)
    start = int(api.getProfile(userId="me").execute()["historyId"])
    new = control(emulator, "POST", f"/mailboxes/{ANNA}/messages", b"Subject: new\n\n")
    control(emulator, "POST", f"/mailboxes/{ANNA}/history/drop", {"before": int(new["historyId"])})
    for unknown in (start, 1, start + 10_000):
        assert refused(api.history().list(userId="me", startHistoryId=str(unknown))) == (404, "notFound")
    assert "history" not in api.history().list(userId="me", startHistoryId=new["historyId"]).execute()


def test_the_truth_and_the_stats_are_told(emulator: GmailEmulator) -> None:
    api = users(emulator)
    listed = api.messages().list(userId="me").execute()["messages"]
    truth = control(emulator, "GET", "/truth")
    assert set(truth) == {ANNA, BOB}
    assert set(truth[ANNA]) == {message["id"] for message in listed}
    message = api.messages().get(userId="me", id=listed[0]["id"], format="minimal").execute()
    told = truth[ANNA][message["id"]]
    assert told == {"labels": ["INBOX"], "threadId": message["threadId"], "historyId": message["historyId"]}
    stats = control(emulator, "GET", "/stats")
    assert stats["requests"] == {"messages.list": 1, "messages.get": 1}
    assert stats["units"] == {"messages.list": 5, "messages.get": 20}


# --- limits and faults -------------------------------------------------------------------------------


def test_the_quota_is_refused_in_googles_words_until_the_minute_is_over(clock: Clock) -> None:
    with GmailEmulator({ANNA: [MailBytes(MAIL[0])]}, quota="new", clock=clock) as with_quota:
        api = users(with_quota)
        for _ in range(59):
            api.watch(userId="me", body={"topicName": "projects/p/topics/t"}).execute()
        api.stop(userId="me").execute()
        for _ in range(25):
            api.history().list(userId="me", startHistoryId=with_quota.mailboxes[ANNA].history_id).execute()
        assert refused(api.getProfile(userId="me")) == (403, "userRateLimitExceeded")
        clock.advance(60)
        api.getProfile(userId="me").execute()
        assert with_quota.stats()["rejections"] == {"userRateLimitExceeded": 1}


@pytest.mark.parametrize(
    ("fault", "answer"),
    [
        (Fault("rate_limit", count=1, retry_after_seconds=7), (429, "rateLimitExceeded")),
        (Fault("rate_limit", count=1, status=403), (403, "userRateLimitExceeded")),
        (Fault("server_error", count=1, status=503), (503, "backendError")),
        (Fault("failed_precondition", count=1), (400, "failedPrecondition")),
        (Fault("expired_history", count=1), (404, "notFound")),
    ],
    ids=lambda value: value.kind if isinstance(value, Fault) else None,
)
def test_faults_answer_once_and_then_all_is_well(
    emulator: GmailEmulator, fault: Fault, answer: tuple[int, str]
) -> None:
    api = users(emulator)
    emulator.faults = FaultPlan([fault])
    request = api.history().list(userId="me", startHistoryId=emulator.mailboxes[ANNA].history_id)
    assert refused(request) == answer
    request.execute()
    assert emulator.stats()["faults"] == {fault.kind: 1}


def test_faults_of_paging(emulator: GmailEmulator) -> None:
    api = users(emulator)
    start = emulator.mailboxes[ANNA].history_id
    control(emulator, "POST", f"/mailboxes/{ANNA}/messages", b"Subject: new\n\n")
    control(emulator, "PUT", "/faults", [{"kind": "empty_history_page", "count": 1}])
    page = api.history().list(userId="me", startHistoryId=start).execute()
    assert "history" not in page
    following = (
        api.history().list(userId="me", startHistoryId=start, pageToken=page["nextPageToken"]).execute()
    )
    assert len(following["history"]) == 1
    control(emulator, "PUT", "/faults", [{"kind": "stale_page_token", "count": 1}])
    first = api.messages().list(userId="me", maxResults=1).execute()
    again = api.messages().list(userId="me", maxResults=1, pageToken=first["nextPageToken"])
    assert refused(again) == (400, "invalidArgument")
    assert len(again.execute()["messages"]) == 1


def test_faults_of_the_connection_and_of_time(emulator: GmailEmulator) -> None:
    api = users(emulator)
    listed = api.messages().list(userId="me").execute()["messages"]
    emulator.faults = FaultPlan([Fault("connection_reset", count=1)])
    # httplib2 tries once more by itself on a fresh connection, so it is asked without its help.
    connection = http.client.HTTPConnection("127.0.0.1", urlsplit(emulator.url).port or 0)
    token = refreshed(as_user(emulator))
    connection.request(
        "GET", "/gmail/v1/users/me/profile", headers={"Authorization": f"Bearer {token.token}"}
    )
    with pytest.raises(ConnectionError):
        connection.getresponse()
    connection.close()
    emulator.faults = FaultPlan([Fault("slow_body", seconds=0.05, count=1)])
    whole = api.messages().get(userId="me", id=listed[0]["id"], format="raw").execute()
    assert base64.urlsafe_b64decode(whole["raw"]) in MAIL
    start = emulator.mailboxes[ANNA].history_id
    emulator.faults = FaultPlan([Fault("gone_between_list_and_get", count=1)])
    assert refused(api.messages().get(userId="me", id=listed[0]["id"])) == (404, "notFound")
    (record,) = api.history().list(userId="me", startHistoryId=start).execute()["history"]
    assert record["messagesDeleted"][0]["message"]["id"] == listed[0]["id"]


# --- running -----------------------------------------------------------------------------------------


def test_stopping_frees_the_port_and_a_busy_port_is_named(emulator: GmailEmulator) -> None:
    port = urlsplit(emulator.url).port or 0
    with pytest.raises(EmulatorError, match=f"port {port} is in use"):
        GmailEmulator({ANNA: []}, port=port).start()
    emulator.stop()
    emulator.stop()
    again = GmailEmulator({ANNA: []}, port=port).start()
    assert again.url == emulator.url
    again.stop()
