"""The registry's commands on a real Kafka: register, change, grant again, rotate keys, remove, add again."""

import asyncio
import base64
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import requests

from connectors.kafka import read_table
from connectors.vault import Vault, new_key
from devstack.gmail.oauth import CLIENT_ID, CLIENT_SECRET
from devstack.gmail.server import GmailEmulator
from devstack.stack import Stack
from schemas import topics
from schemas.events import CredentialRecord, credential_key
from tests.commands import command
from tests.pipelines import emptied
from tests.records import read_all

ANNA, BOB = "anna@example.com", "bob@example.com"
pytestmark = pytest.mark.timeout(300)


class Commands:
    """Runs the command as a person does."""

    def __init__(self, bootstrap: str, emulator: GmailEmulator, directory: Path) -> None:
        self.emulator = emulator
        self.directory = directory
        self.environment = {
            "KAFKA_BOOTSTRAP": bootstrap,
            "GMAIL_API_ENDPOINT": emulator.url,
            "CREDENTIALS_KEY": new_key(),
        }

    def run(self, *arguments: str, code: int = 0) -> str:
        got, output, errors = command(self.environment, *arguments)
        assert got == code, errors
        return output + (errors if code else "")

    def file(self, name: str, content: Any) -> str:
        path = self.directory / name
        path.write_text(content if isinstance(content, str) else json.dumps(content))
        return str(path)

    def mailbox(self, address: str) -> dict[str, Any]:
        lines = self.run("mailbox", "list", "--json").splitlines()
        [found] = [record for record in map(json.loads, lines) if record["address"] == address]
        return dict(found)

    def login(self, address: str) -> None:
        secrets = {
            "client_id": CLIENT_ID,
            "client_secret": CLIENT_SECRET,
            "auth_uri": f"{self.emulator.url}/o/oauth2/auth",
            "token_uri": f"{self.emulator.url}/token",
        }
        arguments = ["--client-secrets", self.file("client.json", {"installed": secrets}), "--no-browser"]
        process = subprocess.Popen(
            [sys.executable, "-m", "cli.main", "auth", "login", address, *arguments],
            env={**os.environ, **self.environment, "PYTHONUNBUFFERED": "1"},
            stderr=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert process.stderr is not None
        url = next(word for line in process.stderr for word in line.split() if word.startswith("http"))
        assert "Done" in requests.get(url, timeout=20).text
        _, errors = process.communicate(timeout=60)
        assert process.returncode == 0, errors


@pytest.fixture(scope="module")
def commands(stack: Stack, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Commands]:
    with GmailEmulator({ANNA: [], BOB: []}, org_units={BOB: "/Left"}) as emulator:
        made = Commands(emptied(stack).kafka_bootstrap, emulator, tmp_path_factory.mktemp("commands"))
        made.run("topics", "apply")
        yield made


def test_a_mailbox_from_consent_to_removal_and_back(commands: Commands) -> None:
    commands.login(ANNA)
    first = commands.mailbox(ANNA)
    assert (first["state"], first["epoch"]) == ("live", 1)
    commands.run("mailbox", "park", ANNA)
    assert commands.mailbox(ANNA)["state"] == "parked"
    commands.login(ANNA)
    again = commands.mailbox(ANNA)
    assert (again["state"], again["mailbox_id"], again["epoch"]) == ("live", first["mailbox_id"], 1)
    commands.run("mailbox", "set", ANNA, "--deletions", "keep", "--keep-days", "30", "--after", "2024-02-01")
    changed = commands.mailbox(ANNA)
    assert (changed["deletions"], changed["keep_days"]) == ("keep", 30)
    assert changed["query"] == "after:2024/02/01"
    commands.run("mailbox", "remove", ANNA)
    assert "add it again" in commands.run("mailbox", "unpark", ANNA, code=1)
    commands.login(ANNA)
    back = commands.mailbox(ANNA)
    assert (back["state"], back["mailbox_id"], back["epoch"]) == ("live", first["mailbox_id"], 2)


def test_credentials_are_ciphertext_at_rest(commands: Commands) -> None:
    """What Google gave for a mailbox stands nowhere in the topics, in no way it could be written."""
    commands.login(ANNA)
    bootstrap, key = commands.environment["KAFKA_BOOTSTRAP"], commands.environment["CREDENTIALS_KEY"]
    mailbox_id = commands.mailbox(ANNA)["mailbox_id"]

    async def stored() -> dict[str, bytes]:
        return {
            f"{topic.name} {name}": f"{name} ".encode() + (value or b"")
            for topic in topics.ALL
            for name, value in await read_all(bootstrap, topic.name)
        }

    found = asyncio.run(stored())
    sealed = found[f"{topics.MAILBOXES.name} {credential_key(mailbox_id)}"].partition(b" ")[2]
    opened = Vault([key]).open(mailbox_id, CredentialRecord.decode(sealed))
    secrets = [opened["refresh_token"].encode(), CLIENT_SECRET.encode(), key.encode(), base64.b64decode(key)]
    assert all(len(secret) >= 8 for secret in secrets)
    for secret in secrets:
        for form in (secret, base64.b64encode(secret).rstrip(b"="), secret.hex().encode()):
            assert not [place for place, value in found.items() if form in value]


def test_a_domain_is_added_once(commands: Commands) -> None:
    key = commands.file("key.json", commands.emulator.service_account_info())
    arguments = ["mailbox", "add", "--domain", "example.com", "--credentials", key, "--admin", ANNA]
    chosen = [*arguments, "--include-ou", "/Left", "--json"]
    planned = json.loads(commands.run(*chosen, "--dry-run"))
    assert planned["added"] == [BOB]
    assert json.loads(commands.run(*chosen)) == planned
    assert json.loads(commands.run(*chosen))["skipped"][BOB] == "registered already"
    assert commands.mailbox(BOB)["state"] == "live"


def test_keys_are_rotated_and_nothing_is_lost(commands: Commands) -> None:
    commands.login(ANNA)
    old = commands.environment["CREDENTIALS_KEY"]
    granted = _opened(commands, old)
    try:
        commands.environment["CREDENTIALS_KEY"] = commands.run("keys", "new").strip()
        assert json.loads(commands.run("keys", "rotate", "--json", "--dry-run", code=1).splitlines()[0])[
            "lost"
        ]
        commands.environment["CREDENTIALS_KEY_FILE"] = commands.file("keys", f"# before\n{old}\n")
        counted = json.loads(commands.run("keys", "rotate", "--json"))
        assert counted["sealed"] >= 1
        assert counted["lost"] == 0
        del commands.environment["CREDENTIALS_KEY_FILE"]
        again = json.loads(commands.run("keys", "rotate", "--json"))
        assert (again["sealed"], again["current"], again["lost"]) == (0, counted["sealed"], 0)
        assert _opened(commands, commands.environment["CREDENTIALS_KEY"]) == granted
    finally:
        commands.environment.pop("CREDENTIALS_KEY_FILE", None)


def _opened(commands: Commands, key: str) -> dict[str, Any]:
    """What stands in the registry of Anna's credentials, opened by this key alone."""
    mailbox_id = commands.mailbox(ANNA)["mailbox_id"]
    registry = asyncio.run(read_table(commands.environment["KAFKA_BOOTSTRAP"], topics.MAILBOXES.name))
    return Vault([key]).open(mailbox_id, CredentialRecord.decode(registry[credential_key(mailbox_id)]))


def test_wrong_use_is_one_line(commands: Commands) -> None:
    nothing = commands.file("nothing.json", "{")
    web = commands.file("web.json", {"web": {}})
    cases = [
        (["mailbox", "add", "--credentials", nothing], 2, "ADDRESS or --domain"),
        (["mailbox", "add", ANNA, "--credentials", nothing], 2, "no JSON"),
        (["mailbox", "add", ANNA, "--credentials", web, "--keep-days", "3"], 2, "--keep-days"),
        (["mailbox", "add", "--domain", "example.com", "--credentials", web], 2, "--admin"),
        (["auth", "login", ANNA, "--client-secrets", web], 1, "desktop app"),
        (["mailbox", "park", "nobody@example.com"], 1, "no mailbox has"),
        (["mailbox", "set", ANNA], 2, "something to change"),
        (["sync", ANNA, "--query", "x"], 2, "--backfill"),
        (["push"], 1, "PUSH_AUDIENCE"),
    ]
    for arguments, code, words in cases:
        assert words in commands.run(*arguments, code=code), arguments
