"""What the extractors' records add up to: one result a document, with those of its children below it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import PurePosixPath
from typing import Any

from schemas.outcomes import Outcome, Scan, ScanVerdict
from streams.extractors.result import writable

MAX_FILENAME_CHARACTERS = 255
MAX_RAW_CHARACTERS = 4_096
UNKNOWN_TYPE = "application/octet-stream"


@dataclass(frozen=True, slots=True)
class Segment:
    """A run of text with its place: a 1-based page or slide, and what a person calls it."""

    text: str
    page: int | None = None
    label: str | None = None


@dataclass(frozen=True, slots=True)
class Metadata:
    """What is known about an attachment. ``sha256`` is None where not all bytes were read;
    ``content_type`` is the declared one where none was detected."""

    size_bytes: int | None
    declared_content_type: str | None
    content_type: str
    filename: str | None
    sha256: str | None
    pages: int | None = None
    author: str | None = None
    title: str | None = None
    created: str | None = None
    seconds: float | None = None
    truncated: bool = False
    inline: bool = False
    raw_filename: str | None = None  # as it was declared, where that is not ``filename``


@dataclass(frozen=True, slots=True)
class AttachmentResult:
    """What became of an attachment; ``path`` holds its ordinals below the attachment it came in."""

    outcome: Outcome
    metadata: Metadata
    scan: Scan = Scan.OFF
    signature: str | None = None
    segments: tuple[Segment, ...] = ()
    skipped_reason: str | None = None
    engines: tuple[str, ...] = ()
    path: tuple[int, ...] = ()
    children: tuple[AttachmentResult, ...] = ()

    @property
    def text(self) -> str:
        """All text, places joined by an empty line."""
        return "\n\n".join(segment.text for segment in self.segments)

    def walk(self) -> Iterator[AttachmentResult]:
        """This result and all below it."""
        yield self
        for child in self.children:
            yield from child.walk()


class Assembly:
    """Results under construction. ``root`` is what the worker knows of the attachment by itself."""

    def __init__(self, root: Metadata, verdict: ScanVerdict) -> None:
        self._root = root
        self._verdict = verdict
        self._open: dict[tuple[int, ...], dict[str, Any]] = {(): {}}
        self._segments: dict[tuple[int, ...], list[Segment]] = {}
        self._found: dict[tuple[int, ...], dict[str, Any]] = {}  # by the close, or the progress until then
        self._interruption = Outcome.CORRUPT

    def add(self, record: dict[str, Any]) -> None:
        """Take a record in. Raises KeyError, TypeError or ValueError on what no extractor of ours says."""
        if record["type"] == "progress" and "path" not in record:
            return
        path = tuple(map(int, record["path"]))
        match record["type"]:
            case "open":
                if path and path[:-1] not in self._open:
                    raise ValueError("a child without its parent")
                self._open[path] = record
            case "segment":
                self._segments.setdefault(path, []).append(
                    Segment(str(record["text"]), record["page"], record["label"])
                )
            case "progress":
                self._found[path] = record
            case "close":
                Outcome(record["outcome"])
                self._found[path] = record

    def interrupted(self, outcome: Outcome) -> None:
        """Say why the documents that are not closed never will be."""
        self._interruption = outcome

    @property
    def complete(self) -> bool:
        """Whether every document came to an end of its own."""
        return all("outcome" in self._found.get(path, {}) for path in self._open)

    def result(self) -> AttachmentResult:
        """The attachment's result, with those of what it holds below it."""
        results = {path: self._one(path) for path in self._open}
        for path in sorted(results, key=len, reverse=True):
            if path:
                parent = results[path[:-1]]
                children = (*parent.children, results[path])
                ordered = tuple(sorted(children, key=lambda child: child.path))
                results[path[:-1]] = replace(parent, children=ordered)
        return results[()]

    def _one(self, path: tuple[int, ...]) -> AttachmentResult:
        opened, found = self._open[path], self._found.get(path, {})
        segments = tuple(self._segments.get(path, ()))
        if "outcome" in found:
            outcome, truncated = Outcome(found["outcome"]), bool(found["truncated"])
        else:
            # Finished pages are kept: they are text, though not all of it.
            outcome, truncated = (Outcome.TEXT, True) if segments else (self._interruption, False)
        root = None if path else self._root
        scan = self._verdict.scan
        if scan is Scan.CLEAN and outcome is Outcome.ENCRYPTED:
            scan = Scan.UNSCANNED  # what we could not open, the scanner has not looked through either
        return AttachmentResult(
            outcome=outcome,
            metadata=Metadata(
                size_bytes=root.size_bytes if root else opened["size_bytes"],
                declared_content_type=(
                    root.declared_content_type if root else opened["declared_content_type"]
                ),
                content_type=opened.get("content_type") or (root.content_type if root else UNKNOWN_TYPE),
                filename=root.filename if root else safe_name(opened["filename"]),
                sha256=root.sha256 if root else opened["sha256"],
                pages=found.get("pages"),
                author=found.get("author"),
                title=found.get("title"),
                created=found.get("created"),
                seconds=found.get("seconds"),
                truncated=truncated,
                inline=root.inline if root else bool(opened["inline"]),
                raw_filename=root.raw_filename if root else raw_name(opened["filename"]),
            ),
            scan=scan,
            signature=self._verdict.signature if root else None,
            segments=segments,
            skipped_reason=found.get("skipped_reason"),
            engines=tuple(found.get("engines", ())),
            path=path,
        )


def raw_name(name: str | None) -> str | None:
    """A file name as it was declared, where that is not what is shown."""
    return writable(name)[:MAX_RAW_CHARACTERS] if name and name != safe_name(name) else None


def safe_name(name: str | None) -> str | None:
    """A file name to show: the last component, without control and direction characters, not too long."""
    if not name:
        return None
    # What is not printable includes every direction mark (RFC 3454's Cf) and halves of UTF-16 pairs.
    shown = "".join(character for character in writable(name) if character.isprintable())
    shown = PurePosixPath(shown.replace("\\", "/")).name.strip()
    return shown[-MAX_FILENAME_CHARACTERS:] if shown.strip(". ") else None
