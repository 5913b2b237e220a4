"""A rolling restart under load: mail arrives, people search, and each process is ended by SIGTERM in turn."""

import asyncio
import http.client
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from email.message import EmailMessage
from io import BytesIO
from pathlib import Path

import pytest
from PIL import Image, ImageDraw

from cli.forks import Fork
from cli.pipeline import PROCESSES, Pipeline
from cli.processes import GRACE_SECONDS
from devstack import local
from devstack.stack import Stack
from tests.commands import command
from tests.pipelines import documents, observed, pipeline, settle

pytestmark = [pytest.mark.timeout(900), pytest.mark.full]

FIRST_MAILS, MOST_MAILS = 20, 1_000
MAIL_SECONDS = 0.4  # between two arrivals
SCANS = 40  # every how manieth mail brings a picture
SEARCHERS = 2
OUT_SECONDS = 0.5  # from the moment when nobody sends to an instance any more, to its SIGTERM
WAIT_SECONDS = 120.0


def _mail(number: int) -> EmailMessage:
    mail = EmailMessage()
    mail["From"] = f"Robot {number % 7} <robot-{number % 7}@example.com>"
    mail["To"] = "anna@example.com"
    mail["Subject"] = f"Harbour report {number}"
    mail["Message-ID"] = f"<{number}@example.com>"
    mail["Date"] = f"Mon, 1 Jan 2024 {number // 60 % 24:02}:{number % 60:02}:00 +0000"
    mail.set_content(f"The tide gauge {number} reads {number * 37 % 991} millimetres.")
    if number % SCANS == 0:
        picture = Image.new("L", (900, 120), 255)
        ImageDraw.Draw(picture).text((20, 30), f"Berth number {number}", 0, font_size=48)
        written = BytesIO()
        picture.save(written, "PNG")
        mail.add_attachment(written.getvalue(), maintype="image", subtype="png", filename="berth.png")
    return mail


class Arrivals(threading.Thread):
    """Drops one mail after the other, until ``enough`` is called."""

    def __init__(self, directory: Path) -> None:
        super().__init__()
        self._directory = directory
        self._stopping = threading.Event()
        self.mails = FIRST_MAILS

    def run(self) -> None:
        while self.mails < MOST_MAILS and not self._stopping.wait(MAIL_SECONDS):
            (self._directory / f"{self.mails}.eml").write_bytes(_mail(self.mails).as_bytes())
            self.mails += 1

    def enough(self) -> None:
        self._stopping.set()
        self.join()


class Instance:
    """One ``mailstream serve``, always on the same port."""

    def __init__(self, environment: dict[str, str], log: Path) -> None:
        [self.port] = local.free_ports(1)
        self._environment = environment
        self._log = log
        self.is_in = threading.Event()  # whether the balancer sends to it
        self.process = self._start()

    def _start(self) -> subprocess.Popen[bytes]:
        with self._log.open("ab") as log:
            return subprocess.Popen(
                [sys.executable, "-m", "cli.main", "serve", "--port", str(self.port)],
                env=self._environment,
                stdout=log,
                stderr=log,
            )

    def start(self) -> None:
        if self.process.poll() is not None:
            self.process = self._start()
        deadline = time.monotonic() + WAIT_SECONDS
        while True:
            assert self.process.poll() is None, self._log.read_text()
            try:
                if self.ask("/readyz")[0] == 200:
                    break
            except OSError:
                pass
            assert time.monotonic() < deadline, self._log.read_text()
            time.sleep(0.1)
        self.is_in.set()

    def ask(self, path: str, token: str = "") -> tuple[int, bytes]:
        connection = http.client.HTTPConnection(local.HOST, self.port, timeout=60)
        try:
            connection.request("GET", path, headers={"Authorization": f"Bearer {token}"})
            response = connection.getresponse()
            return response.status, response.read()
        finally:
            connection.close()


class Searcher(threading.Thread):
    """Searches one time after the other, at an instance that is in; nothing is ever asked twice."""

    def __init__(self, instances: list[Instance], token: str) -> None:
        super().__init__()
        self._instances = instances
        self._token = token
        self._stopping = threading.Event()
        self.answered = 0
        self.errors: list[str] = []

    def run(self) -> None:
        while not self._stopping.wait(0.02):
            chosen = next(each for each in self._turn() if each.is_in.is_set())
            try:
                status, body = chosen.ask("/api/v1/search?q=harbour", self._token)
            except (OSError, http.client.HTTPException) as error:
                self.errors.append(repr(error))
                continue
            if status == 200 and json.loads(body)["results"]:
                self.answered += 1
            else:
                self.errors.append(f"{status} {body[:200]!r}")

    def _turn(self) -> list[Instance]:
        first = self.answered % len(self._instances)
        return [*self._instances[first:], *self._instances[:first]]

    def enough(self) -> None:
        self._stopping.set()
        self.join()


def _end(process: subprocess.Popen[bytes] | Fork, name: str) -> None:
    """Ask it to end by SIGTERM: it does, in time and in order."""
    assert process.poll() is None, f"{name} is not running"
    process.send_signal(signal.SIGTERM)
    process.wait(GRACE_SECONDS)
    assert process.returncode == 0, f"{name} ended with {process.returncode}"


def _go_on(running: Pipeline, name: str, mails: int | None = None) -> None:
    """Wait until so many mails are found; None: until there are more than now."""

    async def wait() -> None:
        async with observed(running) as observer:
            wanted = (await observer.status()).messages + 1 if mails is None else mails
            deadline = time.monotonic() + WAIT_SECONDS
            while (await observer.status()).messages < wanted:
                running.check()
                assert time.monotonic() < deadline, f"nothing arrives after the restart of {name}"
                await asyncio.sleep(0.5)

    asyncio.run(wait())


@contextmanager
def _serving(running: Pipeline) -> Iterator[list[Instance]]:
    # How fast this machine is, with everything on it, is not the question.
    bounds = {"SERVE_REQUESTS_PER_MINUTE": "100000", "SERVE_TIMEOUT_SECONDS": "60"}
    environment = {**os.environ, **running.environment, **bounds}
    instances = [Instance(environment, running.directory / f"serve-{n}.log") for n in (1, 2)]
    try:
        for instance in instances:
            instance.start()
        yield instances
    finally:
        for instance in instances:
            instance.process.kill()
            instance.process.wait()


def _drain(instance: Instance, token: str, stack: Stack) -> None:
    """Restart an instance; a search that it has taken in is answered first, however long that takes."""
    instance.is_in.clear()
    time.sleep(OUT_SECONDS)
    answers: list[int] = []
    asking = threading.Thread(target=lambda: answers.append(instance.ask("/api/v1/search?q=gauge", token)[0]))
    stack.elasticsearch.pause()
    try:
        asking.start()
        time.sleep(OUT_SECONDS)
        instance.process.send_signal(signal.SIGTERM)
        time.sleep(OUT_SECONDS)
        assert instance.process.poll() is None, "it left while it was asked"
        assert not answers
    finally:
        stack.elasticsearch.resume()
    asking.join()
    assert answers == [200]
    instance.process.wait(GRACE_SECONDS)
    assert instance.process.returncode == 0
    instance.start()


def test_a_rolling_restart_is_not_noticed(stack: Stack, tmp_path: Path) -> None:
    mail = tmp_path / "mail.mbox"
    mail.write_bytes(b"".join(b"From x\n" + _mail(n).as_bytes() + b"\n\n" for n in range(FIRST_MAILS)))
    with pipeline(mail, tmp_path / "run", stack=stack) as running:
        running.start()
        settle(running)
        code, output, errors = command(running, "token", "create", "people", "--all-mailboxes", "--json")
        assert code == 0, errors
        token = json.loads(output)["token"]
        with _serving(running) as instances:
            arrivals = Arrivals(running.drop_directory)
            searchers = [Searcher(instances, token) for _ in range(SEARCHERS)]
            load: list[Arrivals | Searcher] = [arrivals, *searchers]
            for thread in load:
                thread.start()
            try:
                _go_on(running, "nothing")
                for name in PROCESSES:
                    _end(running.processes[name], name)
                    running.start(name)
                    _go_on(running, name)
                for instance in instances:
                    _drain(instance, token, stack)
            finally:
                for thread in load:
                    thread.enough()
            assert [error for searcher in searchers for error in searcher.errors] == []
            assert all(searcher.answered > 20 for searcher in searchers)
        _go_on(running, "everything", arrivals.mails)  # the last one lies in its folder for a moment
        status = settle(running)  # the lag recovers
        found = documents(running)
        for name in PROCESSES:
            _end(running.processes[name], name)
    assert status.messages == arrivals.mails > 2 * FIRST_MAILS
    assert status.dead_letters == 0
    subjects = sorted(each["subject"] for each in found.values() if each["kind"] == "message")
    assert subjects == sorted(f"Harbour report {n}" for n in range(arrivals.mails))
    scans = [each for each in found.values() if each["kind"] == "attachment"]
    assert {each["outcome"] for each in scans} == {"text"}
    assert len(scans) == len(range(0, arrivals.mails, SCANS))
