"""How a pipeline hears of what the emulated Gmail pushes: a subscription and the settings that go with it."""

import json
from pathlib import Path

from devstack.gmail.pubsub import PUSH_ACCOUNT
from devstack.gmail.server import GmailEmulator

TOPIC, SUBSCRIPTION = "projects/p/topics/gmail", "projects/p/subscriptions/mailstream"
AUDIENCE = "https://mail.example.com"


def by_endpoint(emulator: GmailEmulator, port: int) -> dict[str, str]:
    """The settings of a ``push`` that listens on this port."""
    push = {"pushEndpoint": f"http://127.0.0.1:{port}/push", "oidcToken": {"audience": AUDIENCE}}
    emulator.pubsub.subscribe(SUBSCRIPTION, {"topic": TOPIC, "pushConfig": push})
    return {
        "GMAIL_PUBSUB_TOPIC": TOPIC,
        "PUSH_PORT": str(port),
        "PUSH_AUDIENCE": AUDIENCE,
        "PUSH_SERVICE_ACCOUNT": PUSH_ACCOUNT,
        "PUSH_CERTIFICATES_URL": f"{emulator.url}/oauth2/v1/certs",
    }


def by_pulling(emulator: GmailEmulator, directory: Path) -> dict[str, str]:
    """The settings of a ``push`` that asks; its key file is written into the directory."""
    emulator.pubsub.subscribe(SUBSCRIPTION, {"topic": TOPIC})
    key_file = directory / "service-account.json"
    key_file.write_text(json.dumps(emulator.service_account_info()))
    return {
        "GMAIL_PUBSUB_TOPIC": TOPIC,
        "PUBSUB_SUBSCRIPTION": SUBSCRIPTION,
        "PUBSUB_ENDPOINT": emulator.url,
        "GOOGLE_CREDENTIALS_FILE": str(key_file),
    }
