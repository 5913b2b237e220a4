"""``mailstream emulate gmail``: how it fails; and the drop folder."""

from pathlib import Path

import pytest
from click.testing import CliRunner

from cli.emulate import emulate
from devstack.gmail.clock import Clock
from devstack.gmail.drop import DropFolder
from devstack.gmail.store import Mailbox

ONE_MAIL = b"From a@example.com Thu Jan  1 00:00:00 2026\nSubject: 1\n\none\n"


@pytest.fixture
def mbox(tmp_path: Path) -> Path:
    path = tmp_path / "Anna's mail.mbox"
    path.write_bytes(ONE_MAIL)
    return path


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["--address", "a@x", "--address", "b@x"], 2, "2 addresses for 0 files"),
        (["--mbox", "missing.mbox"], 1, "missing.mbox: no such file"),
        (["--mbox", "{empty}"], 1, "the file is empty"),
        (["--mbox", "{folder}"], 1, "no mail in this directory"),
        (["--mbox", "{mbox}", "--address", "a@x", "--address", "b@x"], 2, "2 addresses for 1 files"),
        (["--mbox", "{mbox}", "--faults", "missing.json"], 1, "missing.json: No such file"),
        (["--mbox", "{mbox}", "--quota", "none"], 2, "Invalid value for '--quota'"),
    ],
)
def test_errors_are_one_line_that_says_what_is_wrong(
    arguments: list[str], code: int, message: str, mbox: Path, tmp_path: Path
) -> None:
    (tmp_path / "empty.mbox").touch()
    (tmp_path / "folder").mkdir()
    paths = {"mbox": mbox, "empty": tmp_path / "empty.mbox", "folder": tmp_path / "folder"}
    result = CliRunner().invoke(emulate, ["gmail", *(argument.format(**paths) for argument in arguments)])
    assert result.exit_code == code
    assert message in result.output
    assert result.output.count("Error:") == 1


def test_help_has_an_example() -> None:
    result = CliRunner().invoke(emulate, ["gmail", "--help"])
    assert "Example: mailstream emulate gmail" in result.output


def test_a_dropped_file_arrives_once_it_is_whole(tmp_path: Path) -> None:
    anna, bob = Mailbox("anna@example.com"), Mailbox("bob@example.com")
    folder = DropFolder(tmp_path, {box.address: box for box in (anna, bob)}, Clock(1_700_000_000.0))
    file = tmp_path / "new.eml"
    file.write_bytes(b"Subject: ha")
    assert folder.scan() == 0
    file.write_bytes(b"Subject: half and half\n\n")
    assert folder.scan() == 0, "it has grown since the last look"
    assert [folder.scan(), folder.scan()] == [1, 0]
    (message,) = anna.messages()
    assert message.headers["subject"] == "half and half"
    assert message.labels == ["INBOX", "UNREAD"]
    assert message.internal_date == 1_700_000_000_000
    (tmp_path / "bob@example.com").mkdir()
    (tmp_path / "bob@example.com" / "x.EML").write_bytes(b"Subject: for Bob\n\n")
    (tmp_path / "notes.txt").write_bytes(b"not mail")
    assert [folder.scan(), folder.scan()] == [0, 1]
    assert len(bob.messages()) == 1
    file.unlink()
    assert folder.scan() == 0
