"""Processes forked from one that has imported everything: as if each had been started by itself."""

import os
import signal
import subprocess
from pathlib import Path

import pytest

from cli.forks import Fork


def test_it_ends_with_its_code_and_leaves_its_words_in_the_log(tmp_path: Path) -> None:
    log = tmp_path / "log"
    fork = Fork(["emulate", "gmail", "--mbox", "/nowhere"], dict(os.environ), log)
    assert fork.wait(60) == fork.returncode == fork.poll() == 1
    assert log.read_text() == "Error: /nowhere: no such file or directory\n"
    assert Fork(["nothing"], dict(os.environ), log).wait(60) == 2


def test_it_has_the_environment_that_it_was_given_and_nothing_else(tmp_path: Path) -> None:
    given = {"PATH": os.environ["PATH"], "TOPIC_PARTITIONS": "many"}
    fork = Fork(["topics", "diff"], given, tmp_path / "log")
    assert fork.wait(60) == 1
    assert "TOPIC_PARTITIONS" in (tmp_path / "log").read_text()


def test_a_signal_ends_it_and_its_output_is_read(tmp_path: Path) -> None:
    (tmp_path / "mail.mbox").write_bytes(b"From x\nSubject: a\n\nb\n")
    arguments = ["emulate", "gmail", "--json", "--mbox", str(tmp_path / "mail.mbox")]
    fork = Fork(arguments, dict(os.environ), tmp_path / "log", piped=True)
    assert fork.stdout is not None
    assert fork.stdout.readline().startswith(b"{")
    assert fork.poll() is None
    with pytest.raises(subprocess.TimeoutExpired):
        fork.wait(0.1)
    fork.kill()
    assert fork.wait(60) == -signal.SIGKILL
    fork.terminate()  # nobody is there any more
