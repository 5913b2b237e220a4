"""``mailstream emulate gmail`` as a program: what it serves, and how it ends."""

import json
import signal
import subprocess
import sys
import urllib.request
from pathlib import Path

COMMAND = [sys.executable, "-m", "cli.main", "emulate", "gmail", "--json"]


def test_without_a_file_it_serves_the_sample() -> None:
    command = [*COMMAND, "--address", "anna@example.com"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, cwd=Path(__file__).parents[2]) as process:
        assert process.stdout is not None
        try:
            [box] = json.loads(process.stdout.readline())["mailboxes"]
        finally:
            process.terminate()
    assert (box["address"], box["messages"]) == ("anna@example.com", 101)


def test_it_serves_until_it_is_told_to_end(tmp_path: Path) -> None:
    first, second = tmp_path / "anna.mbox", tmp_path / "second.eml"
    first.write_bytes(b"From a@example.com Thu Jan  1 00:00:00 2026\nSubject: 1\n\none\n")
    second.write_bytes(b"Subject: 2\n\n")
    drop = tmp_path / "drop"
    process = subprocess.Popen(
        [*COMMAND, "--drop", str(drop), "--mbox", str(first), str(second), "--address", "anna@example.com"],
        stdout=subprocess.PIPE,
        cwd=Path(__file__).parents[2],
    )
    try:
        assert process.stdout is not None
        described = json.loads(process.stdout.readline())
        told = [(box["address"], box["messages"]) for box in described["mailboxes"]]
        assert told == [("anna@example.com", 1), ("second@example.com", 1)]
        assert {"client_id", "client_secret", "refresh_token"} <= set(described["mailboxes"][0])
        with urllib.request.urlopen(f"{described['url']}/_control/mailboxes", timeout=10) as answer:
            assert json.load(answer) == described["mailboxes"]
        process.send_signal(signal.SIGTERM)
        assert process.wait(20) == 0
    finally:
        process.kill()
        process.wait()
        if process.stdout is not None:
            process.stdout.close()
    assert drop.is_dir()
