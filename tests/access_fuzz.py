"""A caller of mailbox A asks everything that anybody could think of: not one byte of mailbox B comes back.

python -m tests.access_fuzz --requests 5000
"""

import argparse
import asyncio
import base64
import json
import random
import string
import sys
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import httpx

from cli.serve import StatusOfMailboxes
from cli.status import MailboxProgress, Status
from connectors.elasticsearch import Index
from connectors.encoder import HashEncoder
from devstack.stack import start_stack
from schemas.events import LabelDirectory, MailboxRecord, labels_key
from schemas.identity import document_id, message_key
from schemas.outcomes import Outcome
from schemas.registers import (
    AnyRegister,
    AttachmentContent,
    ContentRegister,
    LabelsRegister,
    MessageContent,
    PartReference,
    Segment,
    content_version,
)
from search.api import Services, create_api
from search.authentication import Authentication, new_token
from search.registry import Registry
from search.retrieval import Retrieval
from streams.index import Indexer
from tests.standins import NoLetters, records_of

MARKER = "zqxsecret"  # stands in every text, name, address and label of B
MESSAGES = 30
A, B = "a" * 32, "b" * 32


def registers(mailbox_id: str, number: int, marker: str) -> list[AnyRegister]:
    """A message with an attachment; ``marker`` stands wherever a person writes something."""
    message_id = f"{'cafe' if marker else 'beef'}{number:012x}"
    owner = {"mailbox_id": mailbox_id, "message_id": message_id}
    text = f"harbour report {number} {marker} on the tide gauge"
    message = MessageContent(
        thread_id=f"{'cafe' if marker else 'beef'}{number // 3:012x}",
        # Some mails lie in both mailboxes: copies are collapsed.
        rfc_message_id=f"shared-{number}@example.com" if number % 5 == 0 else f"{marker}{number}@example.com",
        subject=f"Report {number} {marker}".strip(),
        sender=f"Robot {marker} <{marker or 'robot'}@example.com>",
        to=(f"{marker or 'anna'}@example.org",),
        sent_at=1_767_225_600_000 + number * 86_400_000,
        size_bytes=10_000,
        text=text,
        parts=(PartReference(part_path="2", filename=f"{marker}plan.pdf", content_type="application/pdf"),),
    )
    attachment = AttachmentContent(
        filename=f"{marker}plan.pdf",
        content_type="application/pdf",
        outcome=Outcome.TEXT,
        author=marker or "Robot",
        segments=(Segment(text=f"granite blocks {marker}", page=3),),
    )
    return [
        LabelsRegister(**owner, epoch=1, history_id=1, label_ids=("INBOX", f"Label_{marker or 'x'}")),
        ContentRegister(**owner, version=content_version(1, Outcome.TEXT, text), message=message),
        ContentRegister(
            **owner, part_path="2", version=content_version(1, Outcome.TEXT, text), attachment=attachment
        ),
    ]


class _Table:
    """A registry of two mailboxes."""

    def __init__(self) -> None:
        self.values = {}
        for mailbox_id, name in ((A, "anna"), (B, MARKER)):
            record = MailboxRecord(mailbox_id=mailbox_id, address=f"{name}@example.com")
            labels = LabelDirectory(mailbox_id=mailbox_id, names={f"Label_{name}": f"{name} label"})
            self.values[mailbox_id] = record.encode()
            self.values[labels_key(mailbox_id)] = labels.encode()

    async def refresh(self) -> bool:
        return False


class _Observer:
    """Sees both mailboxes, as the real one does."""

    async def status(self) -> Status:
        progress = (
            MailboxProgress(
                box, f"{name}@example.com", "live", listed=MESSAGES, total=MESSAGES, complete=True
            )
            for box, name in ((A, "anna"), (B, MARKER))
        )
        return Status(list(progress), {"extract": 0}, 0)


class _Callers:
    def __init__(self, *records: Any) -> None:
        self._records = {record.caller_id: record for record in records}

    async def get(self, caller_id: str) -> Any:
        return self._records.get(caller_id)


@asynccontextmanager
async def api(elasticsearch_url: str, **bounds: Any) -> AsyncIterator[tuple[httpx.AsyncClient, Any, str]]:
    """A client of the API over both mailboxes, its application, and the token of a caller of A."""
    async with Index.open(elasticsearch_url) as index:
        await index.ensure()
        found = [
            r
            for box, mark in ((A, ""), (B, MARKER))
            for n in range(MESSAGES)
            for r in registers(box, n, mark)
        ]
        await Indexer(index, HashEncoder(), NoLetters(), max_chunks=100).handle(records_of(found))  # type: ignore[arg-type]
        await index.refresh()

        record, token = new_token("anna", [A])
        app = create_api(
            Services(
                index=index,
                retrieval=Retrieval(index, HashEncoder()),
                authentication=Authentication(_Callers(record)),
                registry=Registry(_Table()),  # type: ignore[arg-type]
                status=StatusOfMailboxes(_Observer(), index).of,  # type: ignore[arg-type]
                **{"requests_per_minute": 1_000_000, **bounds},
            )
        )
        transport = httpx.ASGITransport(app)
        async with httpx.AsyncClient(transport=transport, base_url="http://mail.test") as client:
            client.headers["Authorization"] = f"Bearer {token}"
            yield client, app, token


@dataclass
class Report:
    """What came back."""

    requests: int = 0
    statuses: Counter[int] = field(default_factory=Counter)
    kinds: Counter[str] = field(default_factory=Counter)
    leaks: list[str] = field(default_factory=list)
    errors: list[str] = field(default_factory=list)  # 5xx


# What belongs to B: its marker, ids, keys. None of these may come back, but where the request itself said it.
SECRETS = [
    MARKER,
    B,
    *(f"cafe{number:012x}" for number in range(MESSAGES)),
    *(document_id(B, f"cafe{n:012x}", path) for n in range(MESSAGES) for path in ("", "2")),
    *(message_key(B, f"cafe{n:012x}") for n in range(MESSAGES)),
]
_OPERATORS = (
    *("from", "to", "cc", "subject", "label", "in", "is", "has", "filename", "type", "larger", "smaller"),
    *("before", "after", "older_than", "newer_than", "rfc822msgid", "mailbox_id", "live", "_id", "nonsense"),
)


class Fuzzer:
    """Makes requests: sensible ones, and what a thief would try."""

    def __init__(self, seed: int) -> None:
        self._draws = random.Random(seed)
        self.cursors: list[str] = []

    def request(self) -> tuple[str, str, dict[str, Any]]:
        """Kind, path and parameters."""
        draws = self._draws
        kind = draws.choice(
            (
                "search",
                "search",
                "search",
                "facets",
                "suggestions",
                "message",
                "document",
                "thread",
                "status",
                "odd",
            )
        )
        if kind == "search":
            parameters = {
                "q": self.query(),
                "mode": draws.choice(("hybrid", "keyword", "semantic")),
                **self.extra("limit", "zone"),
            }
            if draws.random() < 0.3:
                parameters["cursor"] = self.cursor()
            return kind, "/api/v1/search", parameters
        if kind == "facets":
            return kind, "/api/v1/facets", {"q": self.query(), **self.extra("zone")}
        if kind == "suggestions":
            beginning = draws.choice(
                (MARKER[: draws.randint(1, 9)], "r", ".*", "[a-z]", "@&~", self.noise(6))
            )
            return kind, "/api/v1/suggestions", {"q": beginning, **self.extra()}
        box = draws.choice((A, B, B, "*", f"{A},{B}", "_all", self.noise(8)))
        name = f"{draws.choice(('cafe', 'beef'))}{draws.randrange(MESSAGES):012x}"
        if kind == "message":
            return (
                kind,
                f"/api/v1/messages/{box}/{draws.choice((name, '*', '..', self.noise(5)))}",
                self.extra(),
            )
        if kind == "thread":
            return kind, f"/api/v1/threads/{box}/{draws.choice((name, '*', self.noise(5)))}", self.extra()
        if kind == "document":
            path = draws.choice(("", "2"))
            return kind, f"/api/v1/documents/{document_id(draws.choice((A, B)), name, path)}", self.extra()
        if kind == "status":
            return kind, "/api/v1/status", self.extra()
        odd = (
            "/api/v1/../search",
            "/page/../api.py",
            "/page/%2e%2e/api.py",
            "/_search",
            "/mail-read/_search",
            "/",
        )
        return kind, draws.choice(odd), {"q": MARKER}

    def query(self) -> str:
        """A query: words of both mailboxes, operators, and things that end other languages' strings."""
        draws = self._draws
        pieces = []
        for _ in range(draws.randint(1, 5)):
            value = draws.choice(
                (
                    *(
                        MARKER,
                        f"{MARKER}@example.com",
                        "harbour",
                        "granite",
                        "Report",
                        "5M",
                        "2026-01-05",
                        "7d",
                    ),
                    *("pdf", f'"{MARKER} label"', "Label_" + MARKER, "anywhere", "shared-5@example.com", B),
                    *(
                        '"}}}',
                        ".*",
                        "*",
                        "?",
                        "a" * 300,
                        "\\",
                        "(.*)*",
                        "\x00",
                        "İ",
                        "\u202e",
                        self.noise(10),
                    ),
                    *(f"mailbox_id:{B}", '{"match_all":{}}', "zqxsecert", "harbor", "[TO *]", "/.*/"),
                )
            )
            pieces.append(
                draws.choice(
                    (
                        value,
                        value,
                        f"{draws.choice(_OPERATORS)}:{value}",
                        f"-{value}",
                        f'"{value}"',
                        f"({value} OR {draws.choice(_OPERATORS)}:{value})",
                        f"OR {value}",
                        f"-{draws.choice(_OPERATORS)}:nothing",
                    )
                )
            )
        return " ".join(pieces)

    def extra(self, *offered: str) -> dict[str, Any]:
        """Parameters that are offered, with any value; now and then one that nobody offers."""
        draws = self._draws
        values = {
            "limit": draws.choice((1, 100, 0, -1, 10**9, "x")),
            "zone": draws.choice(("", "Europe/Berlin", "../../etc/passwd", "/etc/passwd", "Nowhere")),
        }
        foreign = {
            "mailbox": B,
            "mailbox_id": B,
            "mailbox_ids": f"{A},{B}",
            "access": "all",
            "filter": '{"match_all":{}}',
            "index": "*",
            "source": "{}",
        }
        chosen = {name: values[name] for name in offered if draws.random() < 0.3}
        if draws.random() < 0.1:
            name = draws.choice(sorted(foreign))
            chosen[name] = foreign[name]
        return chosen

    def cursor(self) -> str:
        """A true one, a spoilt one, or one made up."""
        draws = self._draws
        made = json.dumps(
            [self.noise(12), draws.randint(-5, 10**6), draws.choice((message_key(B, "x"), 5, None))]
        )
        choices = [base64.urlsafe_b64encode(made.encode()).decode(), self.noise(20), ""]
        if self.cursors:
            true = draws.choice(self.cursors)
            choices += [true, true[:-3], true[::-1]]
        return draws.choice(choices)

    def noise(self, length: int) -> str:
        """Characters of any kind."""
        return "".join(self._draws.choices(string.printable + "äß漢🙂\u0000\ud7ff", k=length))


async def fuzz(elasticsearch_url: str, requests: int, seed: int) -> Report:
    """Ask, and look into every answer."""
    report, fuzzer = Report(), Fuzzer(seed)
    async with api(elasticsearch_url) as (client, _, _):
        for _ in range(requests):
            kind, path, parameters = fuzzer.request()
            try:
                answer = await client.get(path, params=parameters)
            except httpx.InvalidURL:
                continue
            report.requests += 1
            report.kinds[kind] += 1
            report.statuses[answer.status_code] += 1
            if answer.status_code >= 500:
                report.errors.append(f"{answer.status_code} {path} {parameters}: {answer.text[:300]}")
            if answer.status_code == 200 and kind == "search" and answer.json()["next_cursor"]:
                fuzzer.cursors.append(answer.json()["next_cursor"])
            asked = f"{path} {json.dumps(parameters, ensure_ascii=False)}".lower()
            body = answer.text.lower() + str(answer.headers).lower()
            if answer.status_code == 200 and kind == "status":
                counted = sum(answer.json()["outcomes"].values())  # of A's attachments: one a message
                report.leaks += [f"counts {counted}: {path}"] if counted > MESSAGES else []
            report.leaks += [
                f"{secret}: {path} {parameters}"
                for secret in SECRETS
                if secret in body and secret not in asked
            ]
    return report


def failures(report: Report, requests: int) -> list[str]:
    """Why a run does not count, or what it found. A run that nobody answered proves nothing."""
    found = [*report.leaks[:10], *report.errors[:10]]
    if report.requests < requests * 0.95:
        found.append(f"only {report.requests} requests")
    if report.statuses[200] < report.requests / 4:
        found.append(f"hardly an answer: {report.statuses}")
    return found


def main() -> None:
    """Run it on an Elasticsearch of its own."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--requests", type=int, default=5_000)
    parser.add_argument("--seed", type=int, default=1)
    arguments = parser.parse_args()
    with start_stack() as stack:
        report = asyncio.run(fuzz(stack.elasticsearch_url, arguments.requests, arguments.seed))
    found = failures(report, arguments.requests)
    sys.stdout.write(f"{report.requests} requests: {dict(report.statuses)}, {dict(report.kinds)}\n")
    sys.stdout.write("\n".join(found) + ("\n" if found else "no byte of the other mailbox, no 5xx\n"))
    sys.exit(bool(found))


if __name__ == "__main__":
    main()
