"""``mailstream demo``: the whole path on this machine, and three questions that show what it is for."""

import asyncio
import contextlib
import json
import signal
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import click
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from cli.pipeline import Pipeline
from cli.search import show
from cli.status import Observer, Status
from connectors.elasticsearch import Index
from connectors.encoder import Encoder, open_encoder
from devstack.gmail.mailfiles import MailFileError, read_mail
from devstack.programs import DevstackError, find_tesseract
from devstack.sample.mailbox import DEMO_SEARCHES, write_sample_mailbox
from devstack.stack import Stack, start_stack
from search.access import Access
from search.query import parse
from search.results import Mode
from search.retrieval import Retrieval

# A long scan may be read for a quarter of an hour, and nothing else may move meanwhile.
STILL_SECONDS = 3600.0


@click.command()
@click.option(
    "--mbox",
    type=click.Path(exists=True, path_type=Path),
    help="Your own mail instead of the sample: an mbox file (Google Takeout), a maildir, or .eml files.",
)
@click.option("--once", is_flag=True, help="Exit after the searches instead of staying up.")
@click.option("--json", "as_json", is_flag=True, help="End with one JSON object that sums up the run.")
def demo(mbox: Path | None, once: bool, as_json: bool) -> None:
    """Run everything here: Gmail, Kafka, the workers, Elasticsearch; then search.

    Gmail is emulated, everything else is real.

    Example: mailstream demo --mbox takeout.mbox --once
    """
    console = Console(stderr=as_json, highlight=False)
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # ends as after Ctrl-C: nothing stays behind
    try:
        with tempfile.TemporaryDirectory(prefix="mailstream-demo-") as directory:
            summary = _run(console, Path(directory), mbox, once=once)
    except (DevstackError, MailFileError) as error:
        raise click.ClickException(str(error)) from error
    except KeyboardInterrupt:
        console.print("stopped")
        raise SystemExit(130) from None
    if as_json:
        click.echo(json.dumps(summary))


def _run(console: Console, directory: Path, mbox: Path | None, *, once: bool) -> dict[str, object]:
    started = time.monotonic()
    find_tesseract()
    if mbox is None:
        mail = directory / "sample.mbox"
        sample = write_sample_mailbox(mail)
        console.print(f"A sample mailbox: {sample.messages} messages, {sample.attachments} attachments.")
    else:
        mail = mbox
        read_mail(mail)  # what is no mail should be said before the servers start
    with contextlib.ExitStack() as stack:
        with console.status("Starting Kafka and Elasticsearch (the first time, they are downloaded)"):
            servers = stack.enter_context(start_stack(brief=once))
        console.print(f"Kafka {servers.kafka_bootstrap}, Elasticsearch {servers.elasticsearch_url}.")
        pipeline = stack.enter_context(
            Pipeline(servers.kafka_bootstrap, servers.elasticsearch_url, [mail], directory)
        )
        console.print(f"Gmail (emulated) {pipeline.gmail['url']}.")
        pipeline.start()
        return asyncio.run(_observe(console, pipeline, servers, started, sample=mbox is None, once=once))


async def _observe(
    console: Console, pipeline: Pipeline, servers: Stack, started: float, *, sample: bool, once: bool
) -> dict[str, object]:
    async with Observer.open(pipeline.settings) as observer, Index.open(servers.elasticsearch_url) as index:
        loading = asyncio.create_task(asyncio.to_thread(open_encoder, pipeline.encoder))
        with _progress(console) as update:
            status = await pipeline.wait_until_settled(observer, STILL_SECONDS, update)
        seconds = time.monotonic() - started
        attachments = await index.count(
            {
                "bool": {
                    "filter": [{"term": {"live": True}}, {"term": {"kind": "attachment"}}],
                    "must_not": [{"wildcard": {"part_path": "*/*"}}],  # parts of an attachment
                }
            }
        )
        console.print(
            f"{status.messages} messages, {attachments} attachments and what these hold are"
            f" {status.documents} documents, in {seconds:.0f} s; {status.dead_letters} dead letters.\n"
        )
        encoder = await loading
        if sample:
            await _three_searches(console, index, encoder)
        _what_next(console, servers, once=once)
        if not once:
            await _stay(console, pipeline, observer, index, status)
        return {
            "messages": status.messages,
            "attachments": attachments,
            "documents": status.documents,
            "dead_letters": status.dead_letters,
            "outcomes": status.outcomes,
            "engines": status.engines,
            "seconds": round(seconds, 1),
        }


@contextlib.contextmanager
def _progress(console: Console) -> Iterator[Callable[[Status], None]]:
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[note]}"),
        TimeElapsedColumn(),
    )
    with Progress(*columns, console=console) as progress:
        listed = progress.add_task("listed ", total=None, note="")
        indexed = progress.add_task("indexed", total=None, note="")

        def update(status: Status) -> None:
            total = sum(mailbox.total or 0 for mailbox in status.mailboxes)
            done = sum(mailbox.listed for mailbox in status.mailboxes)
            waiting = ", ".join(f"{count} for {stage}" for stage, count in status.lag.items() if count)
            progress.update(listed, completed=done, total=total or None)
            progress.update(
                indexed,
                completed=status.messages,
                total=total or None,
                note=f"{status.documents} documents" + (f"; waiting: {waiting}" if waiting else ""),
            )

        yield update


async def _three_searches(console: Console, index: Index, encoder: Encoder) -> None:
    for asked in DEMO_SEARCHES:
        console.print(f"[bold cyan]“{asked.query}”[/]  {asked.mode}: {asked.why}")
        results = await Retrieval(index, encoder).search(
            parse(asked.query), Access.everything(), mode=Mode(asked.mode), limit=2
        )
        for hit in results.hits:
            show(hit, err=console.stderr)


def _what_next(console: Console, servers: Stack, *, once: bool) -> None:
    console.print("Where to look next:")
    if once:
        console.print("  make demo DEMO_ARGS=: the same, and it stays up for your own searches and new mail")
    else:
        console.print(f"  export KAFKA_BOOTSTRAP={servers.kafka_bootstrap}")
        console.print(f"  export ELASTICSEARCH_URL={servers.elasticsearch_url}")
        console.print('  .venv/bin/mailstream search "your words"')
        console.print("  .venv/bin/mailstream token create me --all-mailboxes   # what the page asks for")
        console.print("  .venv/bin/mailstream serve                  # the page")
    console.print("  .venv/bin/mailstream demo --mbox FILE: your own mail (a Google Takeout file)")
    console.print("  examples/README.md: the topics for other teams; ARCHITECTURE.md: the path of a message")


async def _stay(
    console: Console, pipeline: Pipeline, observer: Observer, index: Index, status: Status
) -> None:
    console.print(
        f"\nUp until Ctrl-C. Drop an .eml file into {pipeline.drop_directory}: it is found in seconds."
    )
    known = status.messages
    while True:
        pipeline.check()
        now = await observer.status()
        if now.messages > known:
            newest = await index.search(
                {
                    "query": {"bool": {"filter": [{"term": {"live": True}}, {"term": {"kind": "message"}}]}},
                    "sort": [{"indexed_at": "desc"}],
                    "size": now.messages - known,
                    "source_includes": ["subject"],
                }
            )
            for hit in newest["hits"]["hits"]:
                console.print(f"new: {hit['_source'].get('subject', '')}")
        known = now.messages
        await asyncio.sleep(1)
