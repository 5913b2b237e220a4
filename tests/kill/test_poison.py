"""A mail that takes its worker with it: after three deaths it is a dead letter, and all others are found."""

import asyncio
import signal
import time
from contextlib import suppress
from pathlib import Path

import pytest

from cli.pipeline import Pipeline
from connectors.errors import UnavailableError
from devstack.stack import Stack
from schemas.events import DeadLetter
from streams.attempts import MAX_DEATHS
from tests import poison
from tests.pipelines import dead_letters, documents, observed, pipeline

pytestmark = pytest.mark.timeout(900)

MARKER = "xylophone"  # stands in every mail, and in nothing that a crash leaves
# An audit that repairs would find the mail missing and bring it again.
SETTINGS = {"LOG_LEVEL": "info", "AUDIT_REPAIR": "false"}
WAIT_SECONDS = 600.0
INNOCENT = 30


def _mail(path: Path, poisonous: str) -> Path:
    """A mail that kills in the midst of others."""
    with path.open("w") as file:
        for number in range(INNOCENT + 1):
            said = poisonous if number == INNOCENT // 2 else "harmless"
            file.write(
                f"From MAILER-DAEMON Thu Jan  1 00:00:00 2026\nFrom: {MARKER} <{MARKER}@example.com>\n"
                f"Subject: {said} {MARKER} {number}\nMessage-ID: <{number}@example.com>\n"
                f"Date: Mon, 1 Jan 2024 10:{number:02}:00 +0000\n\n{said} {MARKER} {number}\n\n"
            )
    return path


async def _supervise(running: Pipeline, name: str) -> list[int]:
    """Start the worker again as often as it dies, until nothing is left to do; how it ended each time."""
    ends: list[int] = []
    deadline = time.monotonic() + WAIT_SECONDS
    async with observed(running) as observer:
        while True:
            code = running.processes[name].poll()
            if code is not None:
                ends.append(code)
                running.start(name)
            assert not [n for n, process in running.processes.items() if n != name and process.poll()]
            with suppress(UnavailableError):  # an index that was made just now has no shard yet
                status = await observer.status()
                if status.settled and status.mailboxes and status.dead_letters:
                    return ends
            assert time.monotonic() < deadline, ends
            await asyncio.sleep(0.3)


@pytest.mark.parametrize(
    ("name", "poisonous", "end"),
    [
        ("index", poison.KILLS, signal.SIGKILL),
        pytest.param("extract", poison.CRASHES, signal.SIGSEGV, marks=pytest.mark.full),
    ],
)
def test_an_event_that_kills_its_worker_is_a_dead_letter_after_three_deaths(
    stack: Stack, tmp_path: Path, name: str, poisonous: str, end: signal.Signals
) -> None:
    mails = _mail(tmp_path / "mail.mbox", poisonous)
    with pipeline(mails, tmp_path / "run", stack=stack, also=SETTINGS, before={"": poison.plant}) as running:
        running.start()
        ends = asyncio.run(_supervise(running, name))
        [value] = dead_letters(running)
        found = documents(running)
        cores = {name: _core_bytes(process.pid) for name, process in running.processes.items()}
    assert ends == [-end] * MAX_DEATHS
    letter = DeadLetter.decode(value)
    assert (letter.error_class, letter.attempts) == ("worker_killed", MAX_DEATHS + 1)
    assert letter.message_id is not None
    subjects = {document.get("subject", "") for document in found.values()}
    assert sum(subject.startswith("harmless") for subject in subjects) == INNOCENT
    assert not any(subject.startswith(poisonous) for subject in subjects)
    # What all this left for people to read names nobody and quotes nothing.
    assert MARKER.encode() not in value
    for log in (tmp_path / "run").glob("*.log"):
        assert MARKER not in log.read_text(), log
    if end == signal.SIGSEGV:
        assert "Segmentation fault" in (tmp_path / "run" / f"{name}.log").read_text()
    del cores["gmail"]
    assert set(cores.values()) == {("0", "0")}


def _core_bytes(pid: int) -> tuple[str, str]:
    """How large a core dump of that process may be, and may become: where tests run, the first is often 0."""
    lines = Path(f"/proc/{pid}/limits").read_text().splitlines()
    [line] = [line for line in lines if line.startswith("Max core file size")]
    soft, hard = line.split()[4:6]
    return soft, hard
