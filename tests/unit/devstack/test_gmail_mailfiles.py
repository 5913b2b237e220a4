"""Reading mail files: how many mails there are, and that their bytes are whole."""

from pathlib import Path

import pytest

from devstack.gmail.mailfiles import MailFileError, read_mail


def mails(path: Path) -> list[bytes]:
    return [mail.read() for mail in read_mail(path)]


def mbox(tmp_path: Path, content: bytes) -> Path:
    path = tmp_path / "mail.mbox"
    path.write_bytes(content)
    return path


SEPARATOR = b"From a@example.com Thu Jan  1 00:00:00 2026\n"


def test_an_mbox_is_cut_at_its_separators(tmp_path: Path) -> None:
    path = mbox(tmp_path, SEPARATOR + b"Subject: 1\n\none\n\n" + SEPARATOR + b"Subject: 2\n\ntwo\n")
    assert mails(path) == [b"Subject: 1\n\none\n\n", b"Subject: 2\n\ntwo\n"]


def test_from_inside_a_text_does_not_cut(tmp_path: Path) -> None:
    text = (
        b"Subject: 1\n\nFrom here on:\n"
        b"From a@example.com Thu Jan  1 00:00:00 2026\n\n"
        b"From what I hear\nNote: 10:30\n"
    )
    assert mails(mbox(tmp_path, SEPARATOR + text)) == [text]


def test_escaped_lines_are_restored_by_one_level(tmp_path: Path) -> None:
    path = mbox(tmp_path, SEPARATOR + b"Subject: 1\n\n>From me\n>>From you\n> From him\n")
    assert mails(path) == [b"Subject: 1\n\nFrom me\n>From you\n> From him\n"]


def test_undated_separators_need_a_header_behind_them(tmp_path: Path) -> None:
    path = mbox(tmp_path, b"From MAILER-DAEMON\nSubject: 1\n\none\n\nFrom -\nSubject: 2\n\ntwo\n")
    assert mails(path) == [b"Subject: 1\n\none\n\n", b"Subject: 2\n\ntwo\n"]


def test_crlf_mboxes_are_read_too(tmp_path: Path) -> None:
    separator = SEPARATOR.replace(b"\n", b"\r\n")
    path = mbox(tmp_path, separator + b"Subject: 1\r\n\r\none\r\n\r\n" + separator + b"Subject: 2\r\n\r\n")
    assert mails(path) == [b"Subject: 1\r\n\r\none\r\n\r\n", b"Subject: 2\r\n\r\n"]


def test_mails_without_headers_or_body_count(tmp_path: Path) -> None:
    assert mails(mbox(tmp_path, SEPARATOR + b"\n" + SEPARATOR + b"\nno headers\n\n" + SEPARATOR)) == [
        b"\n",
        b"\nno headers\n\n",
        b"",
    ]


def test_a_maildir_tells_labels_by_flags_and_folders(tmp_path: Path) -> None:
    for folder in ("cur", "new", "tmp", ".Work.Plans/cur"):
        (tmp_path / folder).mkdir(parents=True)
    (tmp_path / "cur" / "1:2,FS").write_bytes(b"Subject: read\n\n")
    (tmp_path / "new" / "2").write_bytes(b"Subject: unread\n\n")
    (tmp_path / "tmp" / "3").write_bytes(b"Subject: half\n")
    (tmp_path / ".Work.Plans" / "cur" / "4:2,S").write_bytes(b"Subject: plans\n\n")
    found = read_mail(tmp_path)
    assert [mail.read() for mail in found] == [
        b"Subject: read\n\n",
        b"Subject: unread\n\n",
        b"Subject: plans\n\n",
    ]
    assert [mail.labels for mail in found] == [("INBOX", "STARRED"), ("INBOX", "UNREAD"), ("Work/Plans",)]


def test_eml_files_come_alone_or_in_folders(tmp_path: Path) -> None:
    (tmp_path / "sub").mkdir()
    (tmp_path / "b.eml").write_bytes(b"Subject: b\n\n")
    (tmp_path / "sub" / "a.EML").write_bytes(b"Subject: a\n\n")
    (tmp_path / "notes.txt").write_bytes(b"no mail")
    assert mails(tmp_path) == [b"Subject: b\n\n", b"Subject: a\n\n"]
    assert mails(tmp_path / "b.eml") == [b"Subject: b\n\n"]


def test_what_holds_no_mail_is_named(tmp_path: Path) -> None:
    (tmp_path / "empty.mbox").touch()
    (tmp_path / "picture.png").write_bytes(b"\x89PNG")
    (tmp_path / "folder").mkdir()
    for name, message in (
        ("missing", "no such file"),
        ("empty.mbox", "empty"),
        ("picture.png", "neither an mbox"),
        ("folder", "no mail in this directory"),
    ):
        with pytest.raises(MailFileError, match=message) as caught:
            read_mail(tmp_path / name)
        assert name in str(caught.value)
