"""``mailstream extract``: the attachment engine on files, as the workers run it."""

import asyncio
import json
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import click
from rich.console import Console
from rich.progress import Progress

from cli.processes import engine
from cli.settings import settings

BLOCK_BYTES = 1024 * 1024


@click.command()
@click.argument("paths", nargs=-1, required=True, type=click.Path(exists=True, path_type=Path))
@click.option("--jsonl", is_flag=True, help="Print one JSON object a document, with its text.")
@click.option("--ocr/--no-ocr", default=True, show_default=True, help="Read images and scanned pages.")
def extract(paths: tuple[Path, ...], jsonl: bool, ocr: bool) -> None:
    """Extract text and metadata from files and folders.

    What is inside them, a zip's files or a mail's attachments, is a document of its own.

    Example: mailstream extract contract.pdf scans/ --jsonl
    """
    files = [file for path in paths for file in _files(path)]
    if not files:
        raise click.UsageError("there is no file in " + ", ".join(map(str, paths)))
    asyncio.run(_run(files, jsonl=jsonl, ocr=ocr))


def _files(path: Path) -> Iterator[Path]:
    if path.is_dir():
        yield from sorted(file for file in path.rglob("*") if file.is_file())
    else:
        yield path


async def _run(files: list[Path], *, jsonl: bool, ocr: bool) -> None:
    config = settings()
    handler = engine(config)
    console = Console(stderr=True)
    with Progress(console=console, transient=True, disable=not console.is_terminal) as progress:
        task = progress.add_task("extracting", total=len(files))
        async with handler:
            waiting = {
                asyncio.create_task(_one(handler, file, ocr)) for file in files[: config.parser_processes]
            }
            rest = iter(files[config.parser_processes :])
            while waiting:
                done, waiting = await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
                for finished in done:
                    for document in finished.result():
                        click.echo(json.dumps(document, ensure_ascii=False) if jsonl else _line(document))
                    progress.advance(task)
                    following = next(rest, None)
                    if following is not None:
                        waiting.add(asyncio.create_task(_one(handler, following, ocr)))


async def _one(handler: Any, file: Path, ocr: bool) -> list[dict[str, Any]]:
    result = await handler.process_attachment(
        _blocks(file), None, filename=file.name, declared_size_bytes=file.stat().st_size, ocr=ocr
    )
    return [
        {
            "path": str(file),
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
