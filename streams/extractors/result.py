"""What extractors say: documents open, text arrives place by place, documents close with an outcome."""

from __future__ import annotations

import hashlib
import re
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from schemas.outcomes import Outcome
from streams.extractors.limits import Limits

# Half a UTF-16 pair is no text: no index, and no JSON but Python's, takes it.
_UNWRITABLE = re.compile("[\x00\ud800-\udfff]")
# A title or an author; longer ones are made to fill an index.
MAX_FACT_CHARACTERS = 1_000


def writable(text: str) -> str:
    """The text without what cannot be written as UTF-8 or must not be in an index."""
    return _UNWRITABLE.sub("", text)


class ExtractionError(Exception):
    """A document that cannot be read to its end; ``outcome`` says why."""

    def __init__(self, outcome: Outcome) -> None:
        super().__init__(outcome.value)
        self.outcome = outcome


@dataclass
class Budget:
    """What one attachment and everything inside it may still use."""

    limits: Limits
    characters: int = 0
    unpacked_bytes: int = 0
    entries: int = 0

    def unpack(self, size_bytes: int) -> None:
        """Count unpacked bytes. Raises ExtractionError over the cap."""
        self.unpacked_bytes += size_bytes
        if self.unpacked_bytes > self.limits.max_unpacked_bytes:
            raise ExtractionError(Outcome.LIMIT_EXCEEDED)

    def entry(self) -> None:
        """Count an archive's entry or a mail's part. Raises ExtractionError over the cap."""
        self.entries += 1
        if self.entries > self.limits.max_entries:
            raise ExtractionError(Outcome.LIMIT_EXCEEDED)


@dataclass
class Document:
    """One document under extraction. What is emitted leaves the process at once, so that it survives it."""

    path: tuple[int, ...]
    payload: bytes
    declared_content_type: str | None
    filename: str | None
    charset: str | None
    ocr: bool
    budget: Budget
    emit: Callable[[dict[str, Any]], None]
    languages: str = "eng"  # of OCR, as tesseract takes them: "eng+deu"
    content_type: str = "application/octet-stream"
    engines: list[str] = field(default_factory=list)
    facts: dict[str, Any] = field(default_factory=dict)  # pages, author, title, created
    characters: int = 0
    truncated: bool = False
    waits_for_ocr: bool = False
    children: int = 0
    names: list[str] = field(default_factory=list)  # of the children
    is_container: bool = False
    inline: bool = False  # shown in the body of the mail it came in
    skipped_reason: str | None = None  # set: there is nothing in it that anybody would look for
    read: Callable[[Document], None] | None = None  # what reads a document inside this one

    @property
    def limits(self) -> Limits:
        """The caps."""
        return self.budget.limits

    def used(self, engine: str) -> None:
        """Name a library that did work on this document."""
        if engine not in self.engines:
            self.engines.append(engine)

    def text(self, text: str, *, page: int | None = None, label: str | None = None) -> None:
        """Emit text of one place. Text beyond the cap is cut, and the document says so."""
        text = writable(text).strip()
        room = self.limits.max_characters - self.budget.characters
        if len(text) > room:
            text, self.truncated = text[: max(room, 0)], True
        if text:
            self.characters += len(text)
            self.budget.characters += len(text)
            self.emit({"type": "segment", "path": self.path, "text": text, "page": page, "label": label})

    def progress(self) -> None:
        """Say that a page is done: the deadline of the next one begins."""
        self.emit({"type": "progress", "path": self.path, "engines": self.engines, **self._facts()})

    def _facts(self) -> dict[str, Any]:
        return {
            name: writable(value)[:MAX_FACT_CHARACTERS] if isinstance(value, str) else value
            for name, value in self.facts.items()
        }

    def child(
        self,
        payload: bytes,
        *,
        filename: str | None = None,
        declared_content_type: str | None = None,
        charset: str | None = None,
        inline: bool = False,
    ) -> Document:
        """A document inside this one, numbered from 1. Raises ExtractionError over the caps."""
        self.budget.entry()
        self.children += 1
        if filename:
            self.names.append(filename)
        if len(self.path) + 1 > self.limits.max_depth:
            raise ExtractionError(Outcome.LIMIT_EXCEEDED)
        return Document(
            path=(*self.path, self.children),
            payload=payload,
            declared_content_type=declared_content_type,
            filename=filename,
            charset=charset,
            ocr=self.ocr,
            languages=self.languages,
            budget=self.budget,
            emit=self.emit,
            inline=inline,
        )

    def embedded(self, payload: bytes, **about: Any) -> None:
        """Read a file inside this document as a ``child`` of it. Raises ExtractionError over the caps."""
        assert self.read is not None
        self.read(self.child(payload, **about))

    def unreadable(self, outcome: Outcome, *, filename: str | None = None) -> None:
        """Name a file inside this document that cannot be taken out. Raises ExtractionError over the caps."""
        with self.child(b"", filename=filename).opened():
            raise ExtractionError(outcome)

    @contextmanager
    def opened(self) -> Iterator[None]:
        """Around the extraction: emits what the document is before, and what became of it after."""
        started = time.monotonic()
        self.emit(
            {
                "type": "open",
                "path": self.path,
                "filename": self.filename,
                "declared_content_type": self.declared_content_type,
                "content_type": self.content_type,
                "size_bytes": len(self.payload),
                "sha256": hashlib.sha256(self.payload).hexdigest(),
                "inline": self.inline,
            }
        )
        outcome: Outcome | None = None
        try:
            yield
            if self.is_container or self.characters:
                # Who looks for a file by its name finds what it came in, too.
                self.text("\n".join(self.names), label="files")
        except ExtractionError as error:
            outcome = error.outcome
        except (MemoryError, RecursionError):
            outcome = Outcome.LIMIT_EXCEEDED
        except Exception:  # noqa: BLE001 - parsers raise whatever they like on damaged input
            outcome = Outcome.CORRUPT
        self.emit(
            {
                "type": "close",
                "path": self.path,
                "outcome": self._outcome(outcome).value,
                "skipped_reason": self.skipped_reason,
                "engines": self.engines,
                "truncated": self.truncated,
                "seconds": round(time.monotonic() - started, 3),
                **self._facts(),
            }
        )

    def _outcome(self, failed: Outcome | None) -> Outcome:
        if failed is not None:
            if self.characters and failed in (Outcome.CORRUPT, Outcome.LIMIT_EXCEEDED):
                # What was read before the damage is text that somebody may look for.
                self.truncated = True
                return Outcome.TEXT
            return failed
        if self.skipped_reason is not None:
            return Outcome.SKIPPED
        if self.waits_for_ocr:
            return Outcome.PENDING
        if self.is_container:
            return Outcome.CONTAINER
        return Outcome.TEXT if self.characters else Outcome.EMPTY
