"""The demo leaves nothing behind, whoever ends it."""

import subprocess
import sys
from pathlib import Path

ENDED = """
import os, signal, time
from cli import demo

def told_to_end(console, directory, mbox, *, once):
    (directory / "mail").write_text("somebody's")
    print(directory, flush=True)
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(60)

demo._run = told_to_end
demo.demo(["--json"])
"""


def test_sigterm_ends_it_as_ctrl_c_does() -> None:
    command = [sys.executable, "-c", ENDED]
    ran = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    assert ran.returncode == 130
    assert "stopped" in ran.stderr
    assert not Path(ran.stdout.strip()).exists()
