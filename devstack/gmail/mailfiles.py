"""Mail in files: mbox (mboxo, mboxrd, Google Takeout), maildir, a folder of .eml files, a single .eml file.

Only positions are kept; the bytes are read when somebody asks for them.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol


class MailFileError(Exception):
    """A path that holds no mail, or cannot be read. The message says which and what to do."""


class RawMail(Protocol):
    """A mail in RFC 5322 form, wherever it lies."""

    @property
    def labels(self) -> tuple[str, ...]:
        """The labels that the file's place or name tells; none where it tells nothing."""
        ...

    def read(self) -> bytes:
        """The bytes of the mail."""
        ...


@dataclass(frozen=True, slots=True)
class MailBytes:
    """A mail in memory."""

    content: bytes
    labels: tuple[str, ...] = ()

    def read(self) -> bytes:
        """The bytes of the mail."""
        return self.content


@dataclass(frozen=True, slots=True)
class MailFile:
    """A mail that is a file of its own."""

    path: Path
    labels: tuple[str, ...] = ()

    def read(self) -> bytes:
        """The bytes of the mail. Raises OSError when the file has gone since."""
        return self.path.read_bytes()


@dataclass(frozen=True, slots=True)
class MboxSlice:
    """A mail inside an mbox file: the bytes from ``start`` to ``end``, without the separator line."""

    path: Path
    start: int
    end: int
    labels: tuple[str, ...] = ()

    def read(self) -> bytes:
        """The bytes of the mail, with the escaping of "From " lines undone."""
        with self.path.open("rb") as file:
            file.seek(self.start)
            return _ESCAPED_FROM.sub(rb"\1", file.read(self.end - self.start))


_ESCAPED_FROM = re.compile(rb"^>(>*From )", re.MULTILINE)
_DATED_SEPARATOR = re.compile(rb"From (?=.*\d{1,2}:\d{2})(?=.*\b(?:19|20)\d{2}\b)")
_UNDATED_SEPARATOR = re.compile(rb"From \S+\s*$")
_HEADER_LINE = re.compile(rb"[!-9;-~]+[ \t]*:|>From ")


def read_mail(path: Path) -> list[RawMail]:
    """Every mail that ``path`` holds, in the order of the file or of the file names.

    Raises MailFileError when there is no such path, or no mail in it.
    """
    try:
        if path.is_dir():
            return _read_directory(path)
        with path.open("rb") as file:
            beginning = file.read(64 * 1024)
        if beginning.startswith(b"From "):
            return [MboxSlice(path, start, end) for start, end in _slices(path)]
    except FileNotFoundError:
        raise MailFileError(f"{path}: no such file or directory") from None
    except OSError as error:
        raise MailFileError(f"{path}: cannot be read: {error.strerror}") from error
    if not beginning.strip():
        raise MailFileError(f"{path}: the file is empty")
    if path.suffix.lower() != ".eml" and not _HEADER_LINE.match(beginning.lstrip()):
        raise MailFileError(f'{path}: neither an mbox (which begins with "From ") nor a mail')
    return [MailFile(path)]


def _read_directory(path: Path) -> list[RawMail]:
    if (path / "cur").is_dir() or (path / "new").is_dir():
        found: list[RawMail] = list(_maildir(path, ()))
        # Maildir++: a folder is a directory beside cur and new, and its name begins with a dot.
        for folder in sorted(path.glob(".*/")):
            found += _maildir(folder, (folder.name[1:].replace(".", "/"),))
    else:
        files = sorted(file for file in path.rglob("*") if file.suffix.lower() == ".eml" and file.is_file())
        found = [MailFile(file) for file in files]
    if not found:
        raise MailFileError(f"{path}: no mail in this directory (looked for a maildir and for .eml files)")
    return found


def _maildir(path: Path, labels: tuple[str, ...]) -> Iterator[MailFile]:
    for part in ("cur", "new"):
        if not (path / part).is_dir():
            continue
        for file in sorted((path / part).iterdir()):
            if file.is_file() and not file.name.startswith("."):
                flags = file.name.rpartition(":2,")[2] if ":2," in file.name else ""
                yield MailFile(file, (*(labels or ("INBOX",)), *_flag_labels(flags)))


def _flag_labels(flags: str) -> Iterator[str]:
    if "S" not in flags:
        yield "UNREAD"
    if "F" in flags:
        yield "STARRED"
    if "T" in flags:
        yield "TRASH"
    if "D" in flags:
        yield "DRAFT"


def _slices(path: Path) -> Iterator[tuple[int, int]]:
    """Start and end of each mail in an mbox file.

    A "From " line separates when it comes first, or after a blank line and bears a time and a year, or is
    one word followed by something like a header: people do begin paragraphs with "From ".
    """
    with path.open("rb") as file:
        start = end = position = 0
        blank, undated = True, False
        for line in file:
            if undated and _HEADER_LINE.match(line):
                yield start, end
                start = position
            undated = False
            after = position + len(line)
            if position == 0:
                start = after
            elif blank and _DATED_SEPARATOR.match(line):
                yield start, position
                start = after
            elif blank and _UNDATED_SEPARATOR.match(line):
                end, undated = position, True
            blank = not line.strip()
            position = after
        yield start, position
