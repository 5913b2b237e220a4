"""What a deployment says of itself: a run over a handful of mails moves every metric, is logged, traced."""

import asyncio
import base64
import gzip
import json
import os
import re
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from email.message import EmailMessage
from pathlib import Path
from typing import Any, ClassVar

import httpx
import pytest
from elasticsearch import Elasticsearch
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from cli.mailbox import register
from cli.pipeline import Pipeline, mailbox_id_of
from connectors.kafka import Producer, Send
from connectors.metrics import DECLARED, LABELS
from devstack.gmail.faults import Fault
from devstack.gmail.mailfiles import MailBytes, RawMail, read_mail
from devstack.gmail.server import GmailEmulator
from devstack.local import free_ports
from devstack.sample.scans import scanned_image
from devstack.stack import Stack
from schemas import mapping, topics
from schemas.events import DeadLetter, MailboxRecord
from schemas.identity import document_id, hashed
from tests.commands import command
from tests.metrics import Collected
from tests.pipelines import pipeline, settle
from tests.pushes import by_endpoint
from tests.records import read_all
from tests.serving import Handler, Scanner, served

pytestmark = [pytest.mark.timeout(600), pytest.mark.full]

ADDRESS, REFUSED = "anna@example.com", "bert@example.com"
MARKER = "xylophone"  # stands in texts, names and addresses, and nowhere in logs or metrics
WAIT_SECONDS = 90.0
MBOX = os.environ.get("METRICS_MBOX")  # further mail, at full size
# What no quiet run can move, why, and where it is seen to move.
EXCEPTIONS = {
    "index_conflicts_total": ("two index workers must meet on one message", "services/test_convergence.py"),
    "index_forwarded_total": ("an older version must stand behind", "services/test_convergence.py"),
    "index_forgotten_total": ("a deletion is forgotten by a sweep, a month later", "services/test_forget.py"),
    "index_bulk_errors_total": ("Elasticsearch must refuse", "unit/connectors/test_bulk.py"),
    "gmail_requests_waiting": ("it is 0 again within milliseconds", "unit/connectors/test_quota.py"),
}


class _Collector(Handler):
    """Takes in traces, as an OpenTelemetry collector does."""

    spans: ClassVar[list[Any]] = []

    def post(self, body: bytes) -> None:
        if self.headers.get("Content-Encoding") == "gzip":
            body = gzip.decompress(body)
        for resource in ExportTraceServiceRequest.FromString(body).resource_spans:
            for scope in resource.scope_spans:
                self.spans.extend(scope.spans)
        self.answer({})


def _mail(number: int) -> bytes:
    mail = EmailMessage()
    mail["From"] = f"{MARKER} <{MARKER}@example.com>"
    mail["Subject"] = f"{MARKER} {number}"
    mail.set_content(f"A {MARKER} has wooden bars. {number}")
    text = f"the bars of a {MARKER}".encode()
    mail.add_attachment(text, maintype="text", subtype="plain", filename=f"{MARKER}.txt")
    if number == 0:
        scan = scanned_image("scan.png", 1, "An invoice of March", "Total 4,711")
        mail.add_attachment(scan.render(), maintype="image", subtype="png", filename=f"{MARKER}.png")
        pixel = b"GIF89a\x01\x00\x01\x00\x00\x00\x00;"
        mail.add_attachment(pixel, maintype="image", subtype="gif", disposition="inline", filename="p.gif")
    return mail.as_bytes()


@contextmanager
def _deployment(stack: Stack, directory: Path) -> Iterator[tuple[Pipeline, GmailEmulator]]:
    push_port, serve_port = free_ports(2)
    mails: list[RawMail] = [MailBytes(_mail(number)) for number in range(4)]
    if MBOX is not None:
        mails += read_mail(Path(MBOX))
    faults = [Fault("rate_limit", "messages.get", count=1, retry_after_seconds=1)]
    with GmailEmulator({ADDRESS: mails, REFUSED: mails[:1]}, faults=faults) as emulator:
        described = emulator.describe()
        described["mailboxes"] = [box for box in described["mailboxes"] if box["address"] == ADDRESS]
        with served(Scanner) as scanner, served(_Collector) as collector:
            settings = {
                **by_endpoint(emulator, push_port),
                "SOURCE_POLL_SECONDS": "3600",
                "SCANNER": "http",
                "HTTP_SCANNER_URL": scanner,
                "SERVE_PORT": str(serve_port),
                "EPHEMERAL_DIRECTORY": f"/dev/shm/mailstream-test-{os.getpid()}",
                "LOG_FORMAT": "json",
                "OTEL_EXPORTER_OTLP_ENDPOINT": collector,
                "LOG_LEVEL": "info",
            }
            with pipeline(
                None, directory, stack=stack, gmail=described, also=settings, metrics=True
            ) as running:
                yield running, emulator


def _wait(collected: Collected, *names: str) -> None:
    deadline = time.monotonic() + WAIT_SECONDS
    while missing := set(names) - collected.changed:
        assert time.monotonic() < deadline, f"these stay at 0: {missing}"
        time.sleep(0.2)


def _trace_of(*names: str) -> list[Any]:
    """The spans of a trace that has these, each the parent of the next; waits for one."""
    deadline = time.monotonic() + WAIT_SECONDS
    while True:
        spans = {span.span_id: span for span in list(_Collector.spans)}
        for last in spans.values():
            chain = [last]
            while parent := spans.get(chain[0].parent_span_id):
                chain.insert(0, parent)
            if tuple(span.name for span in chain) == names:
                return chain
        assert time.monotonic() < deadline, f"no such trace: {Counter(s.name for s in spans.values())}"
        time.sleep(0.5)


async def _disturb(running: Pipeline, emulator: GmailEmulator) -> None:
    """A mailbox whose credentials Google refuses, and two events that nobody can read."""
    record = MailboxRecord(mailbox_id=mailbox_id_of(REFUSED), address=REFUSED)
    token = {"token_uri": f"{emulator.url}/token", "type": "authorized_user", "refresh_token": "none"}
    await register(running.settings, [(record, {**token, "client_id": "none", "client_secret": "none"})])
    async with Producer(running.kafka_bootstrap) as producer:
        await producer.send(
            [
                Send(topics.CHANGES.name, "nobody", b"no change"),
                Send(topics.DOCUMENTS.name, f"{MARKER}/labels", b'{"text": "%s"}' % MARKER.encode()),
            ]
        )


def _search(running: Pipeline) -> None:
    code, output, errors = command(running, "token", "create", "a test", "--all-mailboxes", "--json")
    assert code == 0, errors
    token = json.loads(output)["token"]
    assert MARKER in _answer(running, token, 200)
    [port] = free_ports(1)
    running.also |= {"SERVE_PORT": str(port), "SERVE_TIMEOUT_SECONDS": "0.000001"}
    running.start("serve-2")
    _answer(running, token, 504)


def _answer(running: Pipeline, token: str, wanted: int) -> str:
    """What a search is answered, once the server is there."""
    url = f"http://127.0.0.1:{running.also['SERVE_PORT']}/api/v1/search?q={MARKER}"
    deadline = time.monotonic() + WAIT_SECONDS
    while True:
        running.check()
        with suppress(httpx.ConnectError):
            answer = httpx.get(url, headers={"Authorization": f"Bearer {token}"}, timeout=30)
            assert answer.status_code == wanted, answer.text
            return answer.text
        assert time.monotonic() < deadline, "nobody answers"
        time.sleep(0.5)


def _leave_old_files(directory: Path) -> None:
    directory.mkdir(mode=0o700, exist_ok=True)
    for name, age_seconds in (("old", 3600), ("young", 5)):
        (directory / name).write_bytes(b"bytes")
        at = time.time() - age_seconds
        os.utime(directory / name, (at, at))


def _lose_a_document(running: Pipeline, emulator: GmailEmulator) -> None:
    """So that an audit has something to find."""
    message = emulator.mailboxes[ADDRESS].messages()[0].id
    with Elasticsearch(running.elasticsearch_url) as client:
        client.delete(
            index=mapping.WRITE_ALIAS, id=document_id(mailbox_id_of(ADDRESS), message), refresh=True
        )
    _, output, errors = command(running, "audit", ADDRESS, "--json")
    assert json.loads(output)["missing"], errors


@pytest.fixture(scope="module")
def run(stack: Stack, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Collected, Path]]:
    """A deployment in which everything happens once, and what its processes said."""
    directory = tmp_path_factory.mktemp("run")
    with _deployment(stack, directory) as (running, emulator), Collected(running) as collected:
        running.start("source", "push", "serve", "reap")
        _leave_old_files(running.settings.ephemeral_directory)
        _wait(collected, "consumer_lag", "gmail_watch_expiry_gauge", "ephemeral_oldest_seconds")
        running.start("extract", "slow", "index")
        settle(running)
        emulator.mailboxes[ADDRESS].add(_mail(9))
        _wait(collected, "gmail_pushes_total", "gmail_history_gap_gauge")
        settle(running)
        asyncio.run(_disturb(running, emulator))
        _wait(collected, "source_parked_total", "dead_letters_total")
        _trace_of("push", "source", "extract", "index")
        _search(running)
        _lose_a_document(running, emulator)
        _wait(collected, "source_audit_gauge", "search_seconds", "search_timeouts_total")
        yield collected, directory


def test_a_run_moves_every_declared_metric(run: tuple[Collected, Path]) -> None:
    collected, _ = run
    unmoved = {metric.name for metric in DECLARED} - collected.changed
    assert unmoved <= set(EXCEPTIONS)


def test_every_exception_is_a_metric_and_names_a_test() -> None:
    assert set(EXCEPTIONS) <= {metric.name for metric in DECLARED}
    for _, place in EXCEPTIONS.values():
        assert (Path(__file__).parents[1] / place).exists()


def test_labels_hold_hashes_and_closed_lists_only(run: tuple[Collected, Path]) -> None:
    collected, _ = run
    closed = re.compile(r"[A-Za-z_.0-9-]{1,40}")
    hashes = {value for value in collected.labels["mailbox"] if re.fullmatch(r"[0-9a-f]{12}", value)}
    assert hashes
    assert collected.labels["mailbox"] - hashes <= {"all", "project"}
    for label in LABELS.keys() & collected.labels.keys():
        assert all(closed.fullmatch(value) for value in collected.labels[label]), label
    for text in collected.texts.values():
        assert MARKER not in text
        assert mailbox_id_of(ADDRESS) not in text


def test_logs_are_json_with_what_they_are_about_and_nothing_private(run: tuple[Collected, Path]) -> None:
    _, directory = run
    lines = [
        line
        for name in ("source", "extract", "slow", "index", "push", "reap")
        for line in (directory / f"{name}.log").read_text().splitlines()
    ]
    assert not [line for line in lines if MARKER in line or ADDRESS in line or REFUSED in line]
    parsed = [json.loads(line) for line in lines if line.startswith("{")]
    assert {"time", "level", "logger", "message"} <= set.intersection(*map(set, parsed))
    assert any("mailbox" in line and line["logger"].startswith("connectors") for line in parsed)


def test_dead_letters_quote_nothing(run: tuple[Collected, Path], stack: Stack) -> None:
    values = [value for _, value in asyncio.run(read_all(stack.kafka_bootstrap, topics.DEAD_LETTERS.name))]
    letters = [DeadLetter.decode(value) for value in values if value]
    assert {topics.CHANGES.name, topics.DOCUMENTS.name} <= {letter.topic for letter in letters}
    for letter in letters:
        assert MARKER not in str(letter)
        assert MARKER.encode() not in base64.b64decode(letter.event or "")


def test_one_trace_leads_from_the_push_to_searchable(run: tuple[Collected, Path]) -> None:
    chain = _trace_of("push", "source", "extract", "index")
    assert len({span.trace_id for span in chain}) == 1
    starts = [span.start_time_unix_nano for span in chain]
    assert starts == sorted(starts)
    said = [{each.key: each.value.string_value for each in span.attributes} for span in chain]
    assert all(attributes["mailbox"] == hashed(mailbox_id_of(ADDRESS)) for attributes in said)
    assert len({attributes["message_id"] for attributes in said[1:]}) == 1
    assert MARKER not in str(_Collector.spans)
