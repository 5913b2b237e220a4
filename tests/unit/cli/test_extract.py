"""``mailstream extract``: one line a document, and one for whatever cannot be read, which stops nothing."""

import contextlib
import json
import os
import pty
import subprocess
import sys
import zipfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.commands import command

FIELDS = {"path", "part_path", "content_type", "size_bytes", "sha256", "outcome", "scan", "engine", "text"}
COMMAND = [sys.executable, "-m", "cli.main", "extract"]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Two files that can be read, and everything else that a folder may hold."""
    root = tmp_path / "papers"
    (root / "below").mkdir(parents=True)
    (root / "below" / "note.txt").write_text("the quay wall leans")
    with zipfile.ZipFile(root / "all.zip", "w") as archive:
        archive.writestr("inside.txt", "seven millimetres")
    os.mkfifo(root / "pipe")
    (root / "loop").symlink_to("loop")
    (root / "back").symlink_to(root, target_is_directory=True)
    (root / "gone").symlink_to("nowhere")
    # A file, by all that can be asked, until it is read.
    (root / "torn").symlink_to("/proc/self/mem")
    Path(os.fsdecode(os.fsencode(root) + b"/n\xffme.txt")).write_text("a name of bytes")
    return root


def test_a_folder_of_everything(folder: Path) -> None:
    answer = subprocess.run([*COMMAND, "--jsonl", str(folder)], capture_output=True, text=True, timeout=120)
    documents = [json.loads(line) for line in answer.stdout.splitlines()]
    assert all(document.keys() >= FIELDS for document in documents)
    found = {(Path(item["path"]).name, item["part_path"]): item["outcome"] for item in documents}
    assert found == {
        ("all.zip", ""): "container",
        ("all.zip", "1"): "text",
        ("note.txt", ""): "text",
        ("n\ufffdme.txt", ""): "text",
    }
    refused = [line for line in answer.stderr.splitlines() if str(folder) in line]
    assert {Path(line.partition(": ")[0]).name for line in refused} == {"pipe", "loop", "gone", "torn"}
    assert len(refused) == 4
    assert "Traceback" not in answer.stderr
    assert answer.returncode == 1


def test_what_is_read_goes_to_its_file_and_the_rest_to_the_terminal(tmp_path: Path) -> None:
    (tmp_path / "note.txt").write_text("the quay wall leans")
    ours, theirs = pty.openpty()
    process = subprocess.Popen(
        [*COMMAND, "--jsonl", str(tmp_path)], stdout=subprocess.PIPE, stderr=theirs, text=True
    )
    os.close(theirs)
    with ThreadPoolExecutor(1) as pool:
        shown = pool.submit(_until_closed, ours)
        written, _ = process.communicate(timeout=120)
    [line] = written.splitlines()
    assert json.loads(line)["text"] == "the quay wall leans"
    assert b"1 files, 1 documents: 1 text" in shown.result()
    assert process.returncode == 0


def _until_closed(terminal: int) -> bytes:
    shown = b""
    with contextlib.suppress(OSError):  # how a terminal says that the other end is closed
        while block := os.read(terminal, 4096):
            shown += block
    os.close(terminal)
    return shown


def test_nothing_to_read(tmp_path: Path) -> None:
    code, _, errors = command({}, "extract", str(tmp_path))
    assert (code, "there is no file in" in errors) == (2, True)
    os.mkfifo(tmp_path / "pipe")
    code, _, errors = command({}, "extract", str(tmp_path / "pipe"))
    assert (code, errors) == (1, f"{tmp_path}/pipe: neither a file nor a folder\n")
