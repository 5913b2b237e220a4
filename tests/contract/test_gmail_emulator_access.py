"""Who may do what at the emulated Gmail: consent, tokens, delegation, the Directory, and Pub/Sub."""

import asyncio
import base64
import hashlib
import json
from typing import Any
from urllib.parse import parse_qs, urlencode, urlsplit

import aiohttp
import google.auth.jwt
import httplib2
import pytest
from aiohttp import web
from google.auth.exceptions import RefreshError
from google.oauth2.credentials import Credentials
from googleapiclient.discovery import build

from devstack.gmail.clock import Clock
from devstack.gmail.server import GmailEmulator
from tests.gmail_api import (
    ANNA,
    BOB,
    DIRECTORY,
    PUBSUB,
    READONLY,
    as_service,
    as_user,
    control,
    refreshed,
    refused,
    users,
    valid,
)

# --- who may -----------------------------------------------------------------------------------------


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
        return str(back["code"][0])

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
