"""Today's code on what an earlier release left: topics, offsets, index. Nothing is fetched again."""

import asyncio
import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from cli.pipeline import Pipeline
from connectors.elasticsearch.versions import Versions
from devstack.gmail.server import GmailEmulator
from devstack.stack import Stack
from tests.commands import command
from tests.pipelines import documents, emptied, settle
from tests.release import ANNA, live, mail, mailbox, restore

pytestmark = [pytest.mark.full, pytest.mark.timeout(600)]

RELEASES = sorted((Path(__file__).parents[1] / "releases").iterdir())
WAIT_SECONDS = 90.0


class Upgraded:
    """A release's servers, with today's processes on them."""

    def __init__(self, running: Pipeline, emulator: GmailEmulator, left: dict[str, Any]) -> None:
        self.running = running
        self.emulator = emulator
        self.left = left  # the documents, before today's processes began

    @property
    def fetched(self) -> int:
        requests = self.emulator.stats()["requests"]
        return int(requests.get("messages.get", 0) + requests.get("attachments.get", 0))

    def command(self, *arguments: str, code: int = 0) -> str:
        got, output, errors = command(self.running, *arguments)
        assert got == code, (arguments, errors)
        return output

    def check(self) -> dict[str, Any]:
        """The index is the mailbox, once each; returns its documents."""
        found = documents(self.running)
        messages = {
            document["message_id"]: sorted(document["label_ids"])
            for document in found.values()
            if document["kind"] == "message"
        }
        there = self.emulator.mailboxes[ANNA].messages()
        assert messages == {message.id: sorted(message.labels) for message in there}
        report = json.loads(self.command("audit", ANNA, "--json"))
        assert not any(report[name] for name in ("missing", "stale", "labels")), report
        return found

    def found(self, words: str) -> list[str]:
        """The subjects that a search finds."""
        lines = self.command("search", words, "--mode", "keyword", "--json").splitlines()
        return [json.loads(line)["subject"] for line in lines]


@pytest.fixture(scope="module", params=RELEASES, ids=lambda path: path.name)
def upgraded(
    request: pytest.FixtureRequest, stack: Stack, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Upgraded]:
    directory = tmp_path_factory.mktemp("run")
    with mailbox(request.param) as emulator:
        live(emulator, request.param)
        asyncio.run(restore(emptied(stack), request.param))
        with Pipeline(
            stack.kafka_bootstrap,
            stack.elasticsearch_url,
            [],
            directory,
            encoder="hash",
            gmail=emulator.describe(),
            also={"AUDIT_HOURS": "0"},
        ) as running:
            left = documents(running)
            running.start()
            settle(running)
            yield Upgraded(running, emulator, left)


SAID = (
    *("kind", "message_id", "part_path", "subject", "sender", "sent_at", "label_ids", "text"),
    *("filename", "content_type", "outcome", "sha256"),
)


def _said(found: dict[str, Any]) -> dict[str, Any]:
    return {key: {name: document.get(name) for name in SAID} for key, document in found.items()}


def _wait(upgraded: Upgraded, messages: int) -> None:
    deadline = time.monotonic() + WAIT_SECONDS
    while sum(each["kind"] == "message" for each in documents(upgraded.running).values()) != messages:
        assert time.monotonic() < deadline
        upgraded.running.check()
        time.sleep(1)
    settle(upgraded.running)


def test_what_was_there_stays_and_goes_on(upgraded: Upgraded) -> None:
    assert len(upgraded.left) > 25
    assert upgraded.check() == upgraded.left, "today's processes leave alone what is right"
    assert upgraded.fetched == 0
    assert upgraded.found("granite") == ["harbour 0"], "in an attachment that the release read"
    anna = upgraded.emulator.mailboxes[ANNA]
    ids = {message.id for message in anna.messages()}
    owners = {document.get("filename"): document["message_id"] for document in upgraded.left.values()}
    with_attachment = owners["annex-4.txt"]
    anna.modify(with_attachment, add=["STARRED"])
    anna.delete(owners["annex-5.txt"])
    for number in (21, 22):
        anna.add(mail(number, "lighthouse"), ["INBOX"])
    _wait(upgraded, len(ids) + 1)
    found = upgraded.check()
    assert upgraded.fetched == 2
    starred = [d for d in found.values() if d["message_id"] == with_attachment]
    assert len(starred) == 2
    assert all("STARRED" in document["label_ids"] for document in starred)
    assert sorted(upgraded.found("lighthouse")) == ["lighthouse 21", "lighthouse 22"]


def test_an_index_from_the_releases_topics_is_the_same(upgraded: Upgraded) -> None:
    before = upgraded.check()
    fetched = upgraded.fetched
    upgraded.command("reindex")
    settle(upgraded.running)

    async def live_version() -> str:
        async with Versions.open(upgraded.running.elasticsearch_url) as versions:
            [name] = [version.name for version in await versions.all() if version.live]
            return name

    assert asyncio.run(live_version()) != "mail-v000001"
    # Today's code may say more of a document; of what it said it may take nothing back.
    after = upgraded.check()
    assert _said(after) == _said(before)
    assert upgraded.fetched == fetched
    assert upgraded.found("granite") == ["harbour 0"]
    anna = upgraded.emulator.mailboxes[ANNA]
    anna.add(mail(23, "lighthouse"), ["INBOX"])
    _wait(upgraded, len(list(anna.messages())))
    assert len(upgraded.found("lighthouse")) == 3


def test_who_could_search_still_can(upgraded: Upgraded) -> None:
    listed = [json.loads(line) for line in upgraded.command("token", "list", "--json").splitlines()]
    assert "a reader" in {each["name"] for each in listed}
