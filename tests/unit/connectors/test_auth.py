"""A person's consent, end to end over the emulator's consent page, and a domain's users."""

import threading
import webbrowser
from collections.abc import Iterator
from typing import Any
from urllib.parse import parse_qs, urlencode, urlsplit

import pytest
import requests

from connectors.errors import AuthorizationError, ConfigurationError
from connectors.gmail.auth import SCOPES, ask_consent, granted_address
from connectors.gmail.directory import Choice, Directory
from devstack.gmail.oauth import CLIENT_ID, CLIENT_SECRET
from devstack.gmail.server import GmailEmulator

ANNA, BOB, CARLA = "anna@example.com", "bob@example.com", "carla@example.com"


@pytest.fixture(scope="module")
def emulator() -> Iterator[GmailEmulator]:
    units = {ANNA: "/Sales", BOB: "/Sales/North", CARLA: "/Board"}
    mail: dict[str, list[Any]] = {ANNA: [], BOB: [], CARLA: []}
    with GmailEmulator(mail, org_units=units, groups={"pilots@example.com": [BOB, CARLA]}) as server:
        yield server


def _secrets(emulator: GmailEmulator) -> dict[str, Any]:
    return {
        "installed": {
            "client_id": CLIENT_ID,
            "client_secret": CLIENT_SECRET,
            "auth_uri": f"{emulator.url}/o/oauth2/auth",
            "token_uri": f"{emulator.url}/token",
            "redirect_uris": ["http://localhost"],
        }
    }


class Browser:
    """Stands for the person's browser: agrees at once; may be told to change what is asked or answered."""

    def __init__(self) -> None:
        self.asked: dict[str, list[str]] = {}
        self.change: dict[str, str] = {}
        self.answer: dict[str, str] = {}

    def open(self, url: str, **_: Any) -> bool:
        self.asked = parse_qs(urlsplit(url).query)
        query = {**{name: values[0] for name, values in self.asked.items()}, **self.change}
        threading.Thread(target=self._follow, args=(url.partition("?")[0] + "?" + urlencode(query),)).start()
        return True

    def _follow(self, url: str) -> None:
        answered = requests.get(url, allow_redirects=False, timeout=10).headers["Location"]
        query = {name: values[0] for name, values in parse_qs(urlsplit(answered).query).items()}
        requests.get(answered.partition("?")[0], params={**query, **self.answer}, timeout=10)


@pytest.fixture
def browser(monkeypatch: pytest.MonkeyPatch) -> Browser:
    opened = Browser()
    monkeypatch.setattr(webbrowser, "get", lambda _name=None: opened)
    return opened


def test_consent_gives_a_refresh_token_for_reading_only(emulator: GmailEmulator, browser: Browser) -> None:
    info = ask_consent(_secrets(emulator), ANNA, open_browser=True, timeout_seconds=20)
    assert granted_address(info, ANNA, emulator.url) == ANNA
    assert browser.asked["scope"] == list(SCOPES)
    assert browser.asked["access_type"] == ["offline"]
    assert browser.asked["code_challenge_method"] == ["S256"]
    assert urlsplit(browser.asked["redirect_uri"][0]).hostname == "127.0.0.1"
    assert info["refresh_token"]


def test_who_grants_another_mailbox_is_found_out(emulator: GmailEmulator, browser: Browser) -> None:
    browser.change = {"login_hint": BOB}
    info = ask_consent(_secrets(emulator), ANNA, open_browser=True, timeout_seconds=20)
    assert granted_address(info, ANNA, emulator.url) == BOB


@pytest.mark.parametrize(
    ("change", "answer"),
    [
        ({}, {"state": "forged"}),
        ({}, {"code": "stolen"}),
        ({"login_hint": "nobody@example.com"}, {}),
        ({"code_challenge": "x" * 43}, {}),
    ],
)
def test_no_consent_no_credentials(
    emulator: GmailEmulator, browser: Browser, change: dict[str, str], answer: dict[str, str]
) -> None:
    browser.change, browser.answer = change, answer
    with pytest.raises(AuthorizationError):
        ask_consent(_secrets(emulator), ANNA, open_browser=True, timeout_seconds=20)


def test_nobody_agrees(emulator: GmailEmulator, browser: Browser, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(browser, "open", lambda _url, **_: True)
    with pytest.raises(AuthorizationError, match="nobody agreed"):
        ask_consent(_secrets(emulator), ANNA, open_browser=True, timeout_seconds=1)


@pytest.mark.parametrize("secrets", [{}, {"web": {"client_id": "x"}}, {"installed": {"client_id": "x"}}])
def test_secrets_of_another_kind_are_refused(secrets: dict[str, Any]) -> None:
    with pytest.raises(ConfigurationError, match="client secrets"):
        ask_consent(secrets, ANNA, open_browser=False, timeout_seconds=1)


@pytest.mark.parametrize(
    ("choice", "wanted"),
    [
        (Choice(), {ANNA, BOB, CARLA}),
        (Choice(include_units=("/Sales",)), {ANNA, BOB}),
        (Choice(include_units=("/Sal",)), set()),
        (Choice(exclude_units=("/Sales/North",)), {ANNA, CARLA}),
        (Choice(include_groups=("pilots@example.com",)), {BOB, CARLA}),
        (Choice(include_groups=("pilots@example.com",), exclude_units=("/Board",)), {BOB}),
        (Choice(include_units=("/Sales",), exclude_groups=("pilots@example.com",)), {ANNA}),
    ],
)
def test_a_domains_users_are_chosen_by_unit_and_group(
    emulator: GmailEmulator, choice: Choice, wanted: set[str]
) -> None:
    directory = Directory(emulator.service_account_info(), ANNA, emulator.url, with_groups=True)
    users = directory.users("example.com", choice)
    assert {user.address for user in users if user.left_out is None} == wanted
    assert len(users) == 3
