"""An encoder beside the worker: the same vectors, after everybody else, and its death is the worker's."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from connectors.encoder import HashEncoder
from connectors.errors import MailstreamError
from streams.encoder_process import NICENESS, EncoderProcess
from tests.processes import runs

OWNER = """
from streams.encoder_process import EncoderProcess
encoder = EncoderProcess("hash")
encoder.encode(["there"])
print(encoder._process.pid, flush=True)
input()
encoder.encode(["gone"])
"""
MISSING = """
from connectors.errors import ConfigurationError
from streams import encoder_process
def missing(name):
    raise ConfigurationError("the model cannot be read: make it")
encoder_process.open_encoder = missing
encoder_process.main("minilm")
"""


async def test_vectors_are_those_of_the_encoder_and_the_process_ends_with_its_context() -> None:
    texts = ["penalty for late delivery", "héliport\nbrûlé", *(f"text {number}" for number in range(300))]
    async with EncoderProcess("hash") as encoder:
        assert encoder.name == HashEncoder.name
        assert encoder._process is None, "not before it is needed"
        for some in (texts, texts[:1], []):
            assert np.array_equal(encoder.encode(some), HashEncoder().encode([*some]))
        assert encoder._process is not None
        pid = encoder._process.pid
        assert runs(pid)
    assert not runs(pid)


async def test_others_go_first() -> None:
    async with EncoderProcess("hash") as encoder:
        encoder.encode(["one"])
        assert encoder._process is not None
        pid = encoder._process.pid
        assert os.getpriority(os.PRIO_PROCESS, pid) == min(os.getpriority(os.PRIO_PROCESS, 0) + NICENESS, 19)
        assert os.getsid(pid) == pid
        session = Path(f"/proc/{pid}/autogroup")
        assert not session.exists() or session.read_text().split()[-2:] == ["nice", str(NICENESS)]


def test_what_kills_it_kills_its_owner() -> None:
    command = [sys.executable, "-c", OWNER]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as owner:
        assert owner.stdout is not None
        try:
            os.kill(int(owner.stdout.readline()), signal.SIGKILL)
            owner.communicate("\n", timeout=60)
        finally:
            owner.kill()
    assert owner.returncode == -signal.SIGKILL


async def test_one_that_does_not_start_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "executable", "/bin/false")
    async with EncoderProcess("hash") as encoder:
        with pytest.raises(MailstreamError, match="ended with 1"):
            encoder.encode(["one"])


def test_a_model_that_is_not_there_is_said_in_one_line() -> None:
    ran = subprocess.run([sys.executable, "-c", MISSING], capture_output=True, text=True, check=False)
    assert (ran.returncode, ran.stdout, ran.stderr) == (1, "", "the model cannot be read: make it\n")
