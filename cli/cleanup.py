"""``mailstream imap cleanup``: what the old fetcher left on disk and in its database, found and removed."""

import asyncio
import json
import os
from collections import Counter
from collections.abc import Iterable
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import IO, Any

import click
from rich.console import Console
from rich.progress import track

from cli.settings import Settings, settings
from connectors.errors import ConfigurationError, MailstreamError
from connectors.leftovers import (
    Leftovers,
    OrphanFile,
    OrphanRecord,
    Result,
    Store,
    find,
    remove_file,
    remove_records,
)

HASHES_A_QUESTION = 500


class PlanError(MailstreamError):
    """A file that is no plan, or one that was made for another directory or table."""


@click.command()
@click.option("--plan", type=click.Path(dir_okay=False, path_type=Path), help="Write what was found there.")
@click.option(
    "--texts",
    type=click.Path(dir_okay=False, path_type=Path),
    help="Read the orphaned files, and write what they say there, a JSON line each.",
)
@click.option(
    "--delete",
    "planned",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="Remove what this plan names, as far as it is still as it was.",
)
@click.option(
    "--receipt", type=click.Path(dir_okay=False, path_type=Path), help="With --delete: what became of each."
)
@click.option(
    "--older-than", type=float, default=24.0, show_default=True, help="Hours: files that are newer stay."
)
@click.option(
    "--no-index", is_flag=True, help="Do not ask the index which of the files it knows by their hash."
)
@click.option("--yes", is_flag=True, help="Do not ask.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def cleanup(
    plan: Path | None,
    texts: Path | None,
    planned: Path | None,
    receipt: Path | None,
    older_than: float,
    no_index: bool,
    yes: bool,
    as_json: bool,
) -> None:
    """Find files without a record and records without a file; remove them only by a plan.

    Without --delete nothing is changed. LEGACY_DIRECTORY, LEGACY_DATABASE_URL and the table's names say
    where.

    Example: mailstream imap cleanup --plan plan.jsonl --texts texts.jsonl, and when that has been read:
    mailstream imap cleanup --delete plan.jsonl --receipt receipt.jsonl
    """
    if planned is not None:
        if receipt is None or plan is not None or texts is not None:
            raise click.UsageError("--delete goes with --receipt, and without --plan and --texts")
        _remove(_store(settings()), planned, receipt, yes=yes, as_json=as_json)
        return
    if receipt is not None:
        raise click.UsageError("--receipt goes with --delete")
    config = settings()
    store = _store(config)
    found = find(store, older_than * 3600)
    indexed = None if no_index else asyncio.run(_indexed(config, found.files))
    if texts is not None:
        asyncio.run(_read(config, store, found.files, texts))
    if plan is not None:
        _write_plan(plan, store, older_than, found)
    counts = _counts(found, indexed)
    if as_json:
        click.echo(json.dumps({**counts, "plan": str(plan) if plan else None}))
    else:
        _show(counts)
        click.echo(f"Nothing was changed.{f' The plan is in {plan}.' if plan else ''}")


def _store(config: Settings) -> Store:
    url = config.legacy_database_url.get_secret_value()
    if config.legacy_directory is None or not url:
        raise ConfigurationError(
            "LEGACY_DIRECTORY and LEGACY_DATABASE_URL say where the old fetcher kept things"
        )
    return Store(
        config.legacy_directory.absolute(),
        url,
        config.legacy_table,
        config.legacy_id_column,
        config.legacy_path_column,
    )


def _counts(found: Leftovers, indexed: int | None) -> dict[str, int | None]:
    return {
        "files_seen": found.files_seen,
        "records_seen": found.records_seen,
        "files_without_record": len(found.files),
        "bytes_without_record": sum(orphan.size_bytes for orphan in found.files),
        "of_those_known_to_the_index": indexed,
        "records_without_file": len(found.records),
        "recent_files_left_alone": found.recent_files,
        "special_files_left_alone": found.special_files,
        "unreadable": found.unreadable,
        "records_without_path_left_alone": found.without_path,
        "records_outside_the_directory_left_alone": found.outside,
    }


def _show(counts: dict[str, Any]) -> None:
    for name, count in counts.items():
        if count is not None:
            click.echo(f"{count:>15,}  {name.replace('_', ' ')}")


async def _indexed(config: Settings, files: list[OrphanFile]) -> int:
    """How many of the files the index knows: what they say is not lost with them."""
    from connectors.elasticsearch import Index

    known: set[str] = set()
    hashes = sorted({orphan.sha256 for orphan in files})
    async with Index.open(config.elasticsearch) as index:
        for start in range(0, len(hashes), HASHES_A_QUESTION):
            some = hashes[start : start + HASHES_A_QUESTION]
            query = {"bool": {"filter": [{"terms": {"sha256": some}}, {"term": {"live": True}}]}}
            groups = {"known": {"terms": {"field": "sha256", "size": len(some)}}}
            answer = await index.search({"query": query, "size": 0, "aggs": groups})
            known |= {bucket["key"] for bucket in answer["aggregations"]["known"]["buckets"]}
    return sum(orphan.sha256 in known for orphan in files)


async def _read(config: Settings, store: Store, files: list[OrphanFile], texts: Path) -> None:
    """What the files say, by the engine that reads attachments."""
    from cli.extract import documents_of
    from cli.processes import engine

    console = Console(stderr=True)
    shown = track(files, "reading", console=console, transient=True, disable=not console.is_terminal)
    with _private(texts, "w") as output:
        async with engine(config) as handler:
            for orphan in shown:
                for document in await documents_of(handler, store.directory / orphan.path, ocr=True):
                    output.write(json.dumps({**document, "path": orphan.path}) + "\n")


def _private(path: Path, mode: str) -> IO[str]:
    """A text file that only its owner reads: it names files, or says what is in them."""
    return open(path, mode, encoding="utf-8", opener=lambda name, flags: os.open(name, flags, 0o600))


def _header(store: Store) -> dict[str, str]:
    return {
        "plan": "mailstream imap cleanup",
        "directory": str(store.directory),
        "table": store.table,
        "columns": f"{store.id_column}, {store.path_column}",
    }


def _write_plan(path: Path, store: Store, older_than: float, found: Leftovers) -> None:
    with _private(path, "w") as file:
        lines: Iterable[dict[str, Any]] = (
            {**_header(store), "older_than_hours": older_than},
            *({"file": asdict(orphan)} for orphan in found.files),
            *({"record": asdict(orphan)} for orphan in found.records),
        )
        file.writelines(json.dumps(line) + "\n" for line in lines)


def _read_plan(path: Path, store: Store) -> tuple[float, list[OrphanFile], list[OrphanRecord]]:
    try:
        header, *lines = [json.loads(line) for line in path.read_text("utf-8").splitlines()]
        older_than = float(header.pop("older_than_hours"))
        files = [OrphanFile(**line["file"]) for line in lines if "file" in line]
        records = [OrphanRecord(**line["record"]) for line in lines if "record" in line]
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise PlanError(f"{path} is no plan of this command") from error
    if header != _header(store):
        raise PlanError(
            f"{path} was made for another place: {header.get('directory')}, {header.get('table')}"
        )
    return older_than, files, records


def _remove(store: Store, planned: Path, receipt: Path, *, yes: bool, as_json: bool) -> None:
    older_than, files, records = _read_plan(planned, store)
    if not yes:
        size = sum(orphan.size_bytes for orphan in files)
        click.confirm(
            f"Remove {len(files):,} files ({size:,} bytes) and {len(records):,} records for good?", abort=True
        )
    results: Counter[str] = Counter()
    with _private(receipt, "a") as output:

        def note(kind: str, orphan: OrphanFile | OrphanRecord, result: Result) -> None:
            results[f"{kind}: {result}"] += 1
            moment = datetime.now(UTC).isoformat(timespec="seconds")
            output.write(json.dumps({"at": moment, "result": result, kind: asdict(orphan)}) + "\n")

        def stand() -> None:
            output.flush()
            os.fsync(output.fileno())

        # What is an orphan is asked anew: days may lie between a plan and its execution.
        now = {orphan.path: orphan for orphan in find(store, older_than * 3600).files}
        for number, orphan in enumerate(files):
            note("file", orphan, _remove_planned(store, orphan, now))
            if number % 100 == 0:
                stand()
        stand()
        for done in remove_records(store, records):
            for record, result in done:
                note("record", record, result)
            stand()
    if as_json:
        click.echo(json.dumps({"results": dict(results), "receipt": str(receipt)}))
    else:
        for name, count in sorted(results.items()):
            click.echo(f"{count:>15,}  {name}")
        click.echo(f"The receipt is in {receipt}.")
    if any(name.endswith("refused") for name in results):
        raise SystemExit(1)


def _remove_planned(store: Store, orphan: OrphanFile, now: dict[str, OrphanFile]) -> Result:
    if now.get(orphan.path) == orphan:
        return remove_file(store, orphan)
    if not (store.directory / orphan.path).exists():
        return "gone already"
    return "changed since" if orphan.path in now else "not an orphan any more"
