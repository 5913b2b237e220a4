"""The emulator against Google's own client libraries, and every answer against Google's own description."""

import asyncio
import base64
import hashlib
import http.client
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlencode, urlsplit

import aiohttp
import google.auth.jwt
import googleapiclient
import httplib2
import jsonschema
import pytest
from aiohttp import web
from google.auth.exceptions import RefreshError
from google.auth.transport.requests import Request
from google.oauth2 import service_account
from google.oauth2.credentials import Credentials
from googleapiclient.discovery import build
from googleapiclient.errors import HttpError

from devstack.gmail.clock import Clock
from devstack.gmail.faults import Fault, FaultPlan
from devstack.gmail.mailfiles import MailBytes
from devstack.gmail.server import EmulatorError, GmailEmulator

ANNA, BOB = "anna@example.com", "bob@sales.example.com"
READONLY = ["https://www.googleapis.com/auth/gmail.readonly"]
DOCUMENTS = Path(googleapiclient.__file__).parent / "discovery_cache" / "documents"
MAIL = [
    b"Subject: =?utf-8?B?w6k=?=\nDate: Mon, 1 Jan 2024 10:00:00 +0000\n\nplain\n",
    b"Subject: papers\nDate: Tue, 2 Jan 2024 10:00:00 +0000\nContent-Type: multipart/mixed; boundary=x\n\n"
    b"--x\n\nsee below\n--x\nContent-Type: application/pdf; name=a.pdf\nContent-Transfer-Encoding: base64\n\n"
    b"JVBERi0=\n--x\nContent-Type: message/rfc822\n\nSubject: inner\n\ninside\n--x--\n",
    b"no header, no date",
    b"Content-Type: multipart/mixed; boundary=y\n\nnever begins",
    b"Content-Type: text/plain; charset=koi8-r\nContent-Transfer-Encoding: base64\n\n*broken*",
    b"",
]


# --- Google's description as JSON schemas ------------------------------------------------------------


def schemas(document: str) -> dict[str, Any]:
    """The schemas of a discovery document as JSON Schema: what is not described may not come."""
    described = json.loads((DOCUMENTS / document).read_text(encoding="utf-8"))["schemas"]
    return {name: _schema(schema) for name, schema in described.items()}


def _schema(described: dict[str, Any]) -> dict[str, Any]:
    if "$ref" in described:
        return {"$ref": f"#/$defs/{described['$ref']}"}
    if described["type"] == "any":
        return {}
    if described["type"] == "array":
        return {"type": "array", "items": _schema(described["items"])}
    if described["type"] == "object":
        properties = {name: _schema(value) for name, value in described.get("properties", {}).items()}
        return {"type": "object", "properties": properties, "additionalProperties": False}
    schema: dict[str, Any] = {"type": described["type"]}
    if "enum" in described:
        schema["enum"] = described["enum"]
    if described["type"] == "string" and described.get("format") in {"uint64", "int64"}:
        schema["pattern"] = "^-?[0-9]+$"
    if described.get("format") == "byte":
        schema["pattern"] = "^[A-Za-z0-9_-]*={0,2}$"
    return schema


GMAIL = schemas("gmail.v1.json")
DIRECTORY = schemas("admin.directory_v1.json")
PUBSUB = schemas("pubsub.v1.json")


def valid(answer: Any, name: str, defs: dict[str, Any] = GMAIL) -> Any:
    jsonschema.validate(answer, {"$ref": f"#/$defs/{name}", "$defs": defs})
    return answer


# --- fixtures ----------------------------------------------------------------------------------------


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def emulator(clock: Clock) -> Iterator[GmailEmulator]:
    mail = {ANNA: [MailBytes(raw) for raw in MAIL], BOB: [MailBytes(b"Subject: for Bob\n\n")]}
    server = GmailEmulator(
        mail,
        clock=clock,
        org_units={BOB: "/Sales/East"},
        attachment_id_gets=2,
        notification_interval_seconds=0,
    ).start()
    yield server
    server.stop()


def as_user(emulator: GmailEmulator, address: str = ANNA, scopes: list[str] | None = None) -> Credentials:
    info = emulator.client_credentials(address)
    return Credentials(None, scopes=scopes or READONLY, **info)  # type: ignore[no-untyped-call]


def as_service(emulator: GmailEmulator, subject: str | None, scopes: list[str]) -> Any:
    info = emulator.service_account_info()
    return service_account.Credentials.from_service_account_info(  # type: ignore[no-untyped-call]
        info, scopes=scopes, subject=subject
    )


def users(emulator: GmailEmulator, credentials: Any = None) -> Any:
    service = build(
        "gmail",
        "v1",
        credentials=credentials or as_user(emulator),
        client_options={"api_endpoint": emulator.url},
        static_discovery=True,
    )
    return service.users()


def control(
    emulator: GmailEmulator, method: str, path: str, body: bytes | dict[str, Any] | list[Any] = b""
) -> Any:
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    response, answer = httplib2.Http().request(emulator.url + "/_control" + path, method, content)
    assert response.status == 200, answer
    return json.loads(answer)


def refused(request: Any) -> tuple[int, str]:
    """Status and reason of a request that must fail, after a look at the error's form."""
    with pytest.raises(HttpError) as caught:
        request.execute()
    error = json.loads(caught.value.content)["error"]
    assert error["code"] == caught.value.resp.status
    assert {"message", "domain", "reason"} == set(error["errors"][0])
    assert error["status"].isupper()
    return error["code"], error["errors"][0]["reason"]


def every_page(method: Callable[..., Any], field: str, schema: str, **parameters: Any) -> list[Any]:
    found: list[Any] = []
    token = None
    while True:
        page = valid(method(userId="me", pageToken=token, **parameters).execute(), schema)
        found += page.get(field, [])
        token = page.get("nextPageToken")
        if token is None:
            return found


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
    with_quota = GmailEmulator({ANNA: [MailBytes(MAIL[0])]}, quota="new", clock=clock).start()
    try:
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
    finally:
        with_quota.stop()


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


# --- who may -----------------------------------------------------------------------------------------


def refreshed(credentials: Credentials) -> Credentials:
    credentials.refresh(Request())  # type: ignore[no-untyped-call]
    return credentials


def test_access_ends_with_time_and_with_revocation(emulator: GmailEmulator, clock: Clock) -> None:
    credentials = refreshed(as_user(emulator))

    def status() -> int:
        headers = {"Authorization": f"Bearer {credentials.token}"}
        response, content = httplib2.Http().request(
            f"{emulator.url}/gmail/v1/users/me/profile", headers=headers
        )
        if response.status == 401:
            assert json.loads(content)["error"]["status"] == "UNAUTHENTICATED"
        return int(response.status)

    assert status() == 200
    clock.advance(4_000)
    assert status() == 401
    users(emulator, credentials).getProfile(userId="me").execute()  # google-auth refreshes by itself
    control(emulator, "POST", f"/mailboxes/{ANNA}/revoke")
    with pytest.raises(RefreshError, match="invalid_grant"):
        users(emulator, credentials).getProfile(userId="me").execute()


def test_scopes_and_subjects_are_checked(emulator: GmailEmulator) -> None:
    listed = users(emulator).messages().list(userId="me").execute()["messages"]
    metadata = users(emulator, as_user(emulator, ANNA, ["https://www.googleapis.com/auth/gmail.metadata"]))
    metadata.messages().get(userId="me", id=listed[0]["id"], format="metadata").execute()
    assert refused(metadata.messages().get(userId="me", id=listed[0]["id"]))[0] == 403
    assert refused(metadata.messages().list(userId="me", q="x"))[0] == 403
    nobody = users(emulator, as_service(emulator, None, READONLY))
    assert refused(nobody.getProfile(userId="me")) == (400, "failedPrecondition")
    with pytest.raises(RefreshError, match="invalid_grant"):
        users(emulator, as_service(emulator, "eve@example.com", READONLY)).getProfile(userId="me").execute()


def test_consent_with_pkce(emulator: GmailEmulator) -> None:
    known = emulator.client_credentials(BOB)
    verifier = "v" * 64
    challenge = base64.urlsafe_b64encode(hashlib.sha256(verifier.encode()).digest()).rstrip(b"=").decode()
    asked = {
        "client_id": known["client_id"],
        "redirect_uri": "http://127.0.0.1:9/back",
        "response_type": "code",
        "scope": READONLY[0],
        "state": "s1",
        "code_challenge": challenge,
        "code_challenge_method": "S256",
        "login_hint": BOB,
    }
    client = httplib2.Http()
    client.follow_redirects = False

    def consent() -> str:
        response, _ = client.request(f"{emulator.url}/o/oauth2/auth?{urlencode(asked)}")
        back = parse_qs(urlsplit(response["location"]).query)
        assert back["state"] == ["s1"]
        return back["code"][0]

    def exchange(code: str, verifier: str) -> dict[str, Any]:
        form = {
            "grant_type": "authorization_code",
            "code": code,
            "redirect_uri": asked["redirect_uri"],
            "code_verifier": verifier,
            **{name: known[name] for name in ("client_id", "client_secret")},
        }
        headers = {"Content-Type": "application/x-www-form-urlencoded"}
        _, content = client.request(f"{emulator.url}/token", "POST", urlencode(form), headers)
        answer: dict[str, Any] = json.loads(content)
        return answer

    assert exchange(consent(), "wrong")["error"] == "invalid_grant"
    code = consent()
    tokens = exchange(code, verifier)
    assert exchange(code, verifier)["error"] == "invalid_grant", "a code works once"
    credentials = Credentials(  # type: ignore[no-untyped-call]
        None, scopes=READONLY, **{**known, "refresh_token": tokens["refresh_token"]}
    )
    assert users(emulator, credentials).getProfile(userId="me").execute()["emailAddress"] == BOB


# --- Directory and Pub/Sub ---------------------------------------------------------------------------


def test_the_directory_lists_users_by_unit(emulator: GmailEmulator) -> None:
    scopes = ["https://www.googleapis.com/auth/admin.directory.user.readonly"]
    service = build(
        "admin",
        "directory_v1",
        credentials=as_service(emulator, ANNA, scopes),
        client_options={"api_endpoint": emulator.url},
        static_discovery=True,
    )
    first = valid(service.users().list(customer="my_customer", maxResults=1).execute(), "Users", DIRECTORY)
    second = (
        service.users().list(customer="my_customer", maxResults=1, pageToken=first["nextPageToken"]).execute()
    )
    assert [page["users"][0]["primaryEmail"] for page in (first, second)] == [ANNA, BOB]
    assert "nextPageToken" not in second
    sales = service.users().list(customer="my_customer", query="orgUnitPath='/Sales'").execute()
    assert [user["primaryEmail"] for user in sales["users"]] == [BOB]
    assert refused(service.users().list())[0] == 400
    assert refused(users(emulator, as_service(emulator, ANNA, scopes)).getProfile(userId="me"))[0] == 403


def test_a_watch_is_pulled_and_acknowledged(emulator: GmailEmulator, clock: Clock) -> None:
    service = build(
        "pubsub",
        "v1",
        credentials=as_service(emulator, None, ["https://www.googleapis.com/auth/pubsub"]),
        client_options={"api_endpoint": emulator.url},
        static_discovery=True,
    )
    subscriptions = service.projects().subscriptions()
    name, topic = "projects/p/subscriptions/s", "projects/p/topics/t"
    subscriptions.create(name=name, body={"topic": topic}).execute()
    api = users(emulator)
    watch = {"topicName": topic, "labelIds": ["INBOX"], "labelFilterBehavior": "include"}
    answer = valid(api.watch(userId="me", body=watch).execute(), "WatchResponse")
    assert int(answer["expiration"]) / 1000 - clock() == pytest.approx(7 * 86_400, abs=60)

    def pull() -> list[Any]:
        body = subscriptions.pull(subscription=name, body={"maxMessages": 10}).execute()
        return list(valid(body, "PullResponse", PUBSUB).get("receivedMessages", []))

    assert len(pull()) == 1, "a watch announces the mailbox at once"
    control(emulator, "POST", f"/mailboxes/{ANNA}/messages?label=SPAM", b"Subject: buy\n\n")
    assert pull() == []
    new = control(emulator, "POST", f"/mailboxes/{ANNA}/messages", b"Subject: new\n\n")
    (received,) = pull()
    notice = json.loads(base64.urlsafe_b64decode(received["message"]["data"]))
    assert notice == {"emailAddress": ANNA, "historyId": int(new["historyId"])}
    clock.advance(11)
    redelivered = pull()
    assert len(redelivered) == 2, "what is not acknowledged comes again"
    ack_ids = [message["ackId"] for message in redelivered]
    subscriptions.acknowledge(subscription=name, body={"ackIds": ack_ids}).execute()
    clock.advance(11)
    assert pull() == []
    api.stop(userId="me").execute()
    control(emulator, "POST", f"/mailboxes/{ANNA}/messages", b"Subject: unheard\n\n")
    assert pull() == []


async def test_a_push_bears_a_token_that_googles_library_accepts() -> None:
    received: asyncio.Queue[tuple[str, dict[str, Any]]] = asyncio.Queue()
    refusals = iter([503])

    async def endpoint(request: web.Request) -> web.Response:
        if status := next(refusals, None):
            return web.Response(status=status)
        await received.put((request.headers["Authorization"], await request.json()))
        return web.Response(status=204)

    application = web.Application()
    application.router.add_post("/push", endpoint)
    runner = web.AppRunner(application)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    url = f"http://127.0.0.1:{runner.addresses[0][1]}/push"
    async with GmailEmulator({ANNA: []}, notification_interval_seconds=0) as emulator:
        mailbox = emulator.mailboxes[ANNA]
        name, topic = "projects/p/subscriptions/s", "projects/p/topics/t"
        push = {"pushEndpoint": url, "oidcToken": {"serviceAccountEmail": "push@p.iam.gserviceaccount.com"}}
        emulator.pubsub.subscribe(name, {"topic": topic, "pushConfig": push})
        emulator.pubsub.watch(mailbox, {"topicName": topic})
        header, body = await asyncio.wait_for(received.get(), 10)
        assert body["subscription"] == name
        assert json.loads(base64.urlsafe_b64decode(body["message"]["data"]))["emailAddress"] == ANNA
        async with aiohttp.ClientSession() as session:
            certificates = await (await session.get(f"{emulator.url}/oauth2/v1/certs")).json()
            keys = await (await session.get(f"{emulator.url}/oauth2/v3/certs")).json()
        token = header.removeprefix("Bearer ")
        claims = google.auth.jwt.decode(  # type: ignore[no-untyped-call]
            token, certs=certificates, audience=url
        )
        assert claims["iss"] == "https://accounts.google.com"
        assert (claims["email"], claims["email_verified"]) == ("push@p.iam.gserviceaccount.com", True)
        assert [key["kid"] for key in keys["keys"]] == list(certificates)
        mailbox.add(b"Subject: new\n\n")
        _, body = await asyncio.wait_for(received.get(), 10)
        notice = json.loads(base64.urlsafe_b64decode(body["message"]["data"]))
        assert notice["historyId"] == mailbox.history_id
    await runner.cleanup()


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
