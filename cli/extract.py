"""``mailstream extract``: the attachment engine on files, as the workers run it."""

import asyncio
import json
import os
import stat
import sys
import time
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import click
from rich.console import Console
from rich.progress import Progress

from cli.processes import engine
from cli.settings import settings

BLOCK_BYTES = 1024 * 1024


@dataclass
class _Summary:
    """What has been read, and what could not be."""

    files: int = 0
    outcomes: Counter[str] = field(default_factory=Counter)
    unreadable: int = 0

    def cannot(self, path: Path | str, reason: str) -> None:
        """Say that a file is left out, and go on."""
        self.unreadable += 1
        click.echo(f"{shown(path)}: {reason}", err=True)

    def __str__(self) -> str:
        ends = ", ".join(f"{count} {outcome}" for outcome, count in self.outcomes.most_common())
        left_out = f"; {self.unreadable} could not be read" if self.unreadable else ""
        return f"{self.files} files, {self.outcomes.total()} documents: {ends or 'none'}{left_out}"


@click.command()
@click.argument(
    "paths", nargs=-1, required=True, type=click.Path(exists=True, readable=False, path_type=Path)
)
@click.option("--jsonl", is_flag=True, help="Print one JSON object a document, with its text.")
@click.option("--ocr/--no-ocr", default=True, show_default=True, help="Read images and scanned pages.")
def extract(paths: tuple[Path, ...], jsonl: bool, ocr: bool) -> None:
    """Extract text and metadata from files and folders.

    What is inside them, a zip's files or a mail's attachments, is a document of its own. What cannot be
    opened is named, and the rest is read; the exit code is 1 then.

    Example: mailstream extract contract.pdf scans/ --jsonl
    """
    summary = _Summary()
    files = [file for path in paths for file in _files(path, summary)]
    if not files and not summary.unreadable:
        raise click.UsageError("there is no file in " + ", ".join(map(shown, paths)))
    if files:
        asyncio.run(_run(files, summary, jsonl=jsonl, ocr=ocr))
    if summary.unreadable:
        raise SystemExit(1)


def shown(path: Path | str) -> str:
    """A path that can be written: file names are bytes, and not always UTF-8."""
    return os.fsencode(path).decode("utf-8", "replace")


def _files(path: Path, summary: _Summary) -> Iterator[Path]:
    """The regular files at and below ``path``. Links are followed to files, not to folders: they may lead
    back."""
    if not path.is_dir():
        yield from _regular(path, summary)
        return

    def failed(error: OSError) -> None:
        summary.cannot(error.filename, error.strerror or type(error).__name__)

    for folder, folders, names in os.walk(path, onerror=failed):
        folders.sort()
        for name in sorted(names):
            yield from _regular(Path(folder, name), summary)


def _regular(path: Path, summary: _Summary) -> Iterator[Path]:
    try:
        mode = path.stat().st_mode
    except OSError as error:
        summary.cannot(path, error.strerror or type(error).__name__)
        return
    if stat.S_ISREG(mode):
        yield path
    elif not stat.S_ISDIR(mode):
        # A pipe without a writer would be waited for without end.
        summary.cannot(path, "neither a file nor a folder")


async def _run(files: list[Path], summary: _Summary, *, jsonl: bool, ocr: bool) -> None:
    config = settings()
    handler = engine(config)
    console = Console(stderr=True, highlight=False)
    started = time.monotonic()
    # Lines for a file or a pipe must not go where the bar is drawn.
    with Progress(
        console=console,
        transient=True,
        disable=not console.is_terminal,
        redirect_stdout=sys.stdout.isatty(),
    ) as progress:
        task = progress.add_task("extracting", total=len(files))
        async with handler:
            rest = iter(files)

            async def reader() -> None:
                for file in rest:
                    await _read(handler, file, summary, jsonl=jsonl, ocr=ocr)
                    progress.advance(task)

            try:
                async with asyncio.TaskGroup() as group:
                    for _ in range(config.parser_processes):
                        group.create_task(reader())
            except ExceptionGroup as errors:
                raise errors.exceptions[0] from errors
    if console.is_terminal:
        console.print(f"{summary}, in {time.monotonic() - started:.1f} s", markup=False)


async def _read(handler: Any, file: Path, summary: _Summary, *, jsonl: bool, ocr: bool) -> None:
    try:
        documents = await documents_of(handler, file, ocr=ocr)
    except OSError as error:
        summary.cannot(file, error.strerror or type(error).__name__)
        return
    summary.files += 1
    for document in documents:
        summary.outcomes[document["outcome"]] += 1
        click.echo(json.dumps(document, ensure_ascii=False) if jsonl else _line(document))


async def documents_of(handler: Any, file: Path, *, ocr: bool) -> list[dict[str, Any]]:
    """What a file says, and each document inside it. Raises OSError."""
    result = await handler.process_attachment(
        _blocks(file), None, filename=file.name, declared_size_bytes=file.stat().st_size, ocr=ocr
    )
    return [
        {
            "path": shown(file),
            "part_path": "/".join(map(str, item.path)),
            "filename": item.metadata.filename,
            "content_type": item.metadata.content_type,
            "size_bytes": item.metadata.size_bytes,
            "sha256": item.metadata.sha256,
            "outcome": item.outcome.value,
            "scan": item.scan.value,
            "signature": item.signature,
            "engine": ", ".join(item.engines) or None,
            "pages": item.metadata.pages,
            "author": item.metadata.author,
            "title": item.metadata.title,
            "created": item.metadata.created,
            "seconds": item.metadata.seconds,
            "truncated": item.metadata.truncated,
            "skipped_reason": item.skipped_reason,
            "text": item.text,
        }
        for item in result.walk()
    ]


async def _blocks(file: Path) -> AsyncIterator[bytes]:
    with file.open("rb") as opened:
        while block := opened.read(BLOCK_BYTES):
            yield block


def _line(document: dict[str, Any]) -> str:
    place = document["path"] + (f" [{document['part_path']}]" if document["part_path"] else "")
    words = len(document["text"].split())
    return f"{document['outcome']:<14} {words:>7} words  {document['content_type']}  {place}"
