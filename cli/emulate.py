"""``mailstream emulate``: servers that stand in for those of others."""

import asyncio
import json
import signal
import tempfile
from pathlib import Path

import click

from devstack.gmail.faults import Fault, FaultError, read_faults
from devstack.gmail.mailfiles import MailFileError, RawMail, read_mail
from devstack.gmail.quota import QUOTAS
from devstack.gmail.server import HOST, EmulatorError, GmailEmulator

DEFAULT_DOMAIN = "example.com"


@click.group()
def emulate() -> None:
    """Emulate a server on this machine.

    Example: mailstream emulate gmail --mbox mail.mbox
    """


@emulate.command()
@click.option(
    "--mbox",
    "first_paths",
    type=click.Path(path_type=Path),
    multiple=True,
    metavar="FILE...",
    help="Mail: an mbox, a maildir, a folder of .eml files, or one .eml file. Each is a mailbox of its own."
    " None: the demo's sample.",
)
@click.argument("more_paths", type=click.Path(path_type=Path), nargs=-1, metavar="[FILE]...")
@click.option(
    "--address",
    "addresses",
    multiple=True,
    help="The address of the mailbox, in the order of the files; the same one again joins two files.",
)
@click.option(
    "--quota",
    type=click.Choice(sorted(QUOTAS)),
    default="new",
    show_default=True,
    help="new: limits of projects since May 2026; legacy: of older ones; off: none.",
)
@click.option(
    "--faults",
    "faults_file",
    type=click.Path(path_type=Path),
    help="JSON list of faults to commit: see devstack/gmail/faults.py.",
)
@click.option(
    "--host",
    default=HOST,
    show_default=True,
    help="Where to listen, as others call it.",
)
@click.option(
    "--port", type=click.IntRange(0, 65_535), default=0, show_default=True, help="0 takes a free port."
)
@click.option(
    "--imap-port", type=click.IntRange(0, 65_535), help="Speak IMAP too, on this port; 0 takes a free one."
)
@click.option(
    "--drop",
    type=click.Path(path_type=Path, file_okay=False),
    help="A folder; an .eml file put there arrives in the first mailbox, or in that of a folder so named.",
)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object with the credentials.")
def gmail(
    first_paths: tuple[Path, ...],
    more_paths: tuple[Path, ...],
    addresses: tuple[str, ...],
    quota: str,
    faults_file: Path | None,
    host: str,
    port: int,
    imap_port: int | None,
    drop: Path | None,
    as_json: bool,
) -> None:
    """Serve mail files, or a sample mailbox, as Gmail does, until Ctrl-C.

    Example: mailstream emulate gmail --mbox anna.mbox --address anna@example.com --quota legacy
    """
    paths = (*first_paths, *more_paths)
    if len(addresses) > max(len(paths), 1):
        raise click.UsageError(f"{len(addresses)} addresses for {len(paths)} files of mail")
    with tempfile.TemporaryDirectory() as directory:
        if not paths:
            from devstack.sample.mailbox import write_sample_mailbox  # it draws: 30 MB of libraries

            paths = (Path(directory) / "sample.mbox",)
            write_sample_mailbox(paths[0])
        try:
            faults = read_faults(faults_file) if faults_file else []
            mail = _mail(paths, addresses)
            asyncio.run(_serve(mail, quota, faults, (host, port, imap_port), drop, as_json=as_json))
        except (MailFileError, FaultError, EmulatorError, OSError) as error:
            raise click.ClickException(str(error)) from error


def _mail(paths: tuple[Path, ...], addresses: tuple[str, ...]) -> dict[str, list[RawMail]]:
    """The mail by address; a file without an address gets one after its name."""
    mail: dict[str, list[RawMail]] = {}
    for number, path in enumerate(paths):
        if number < len(addresses):
            address = addresses[number]
        else:
            name = "".join(c for c in path.resolve().stem.lower() if c.isalnum() or c in "._-") or "mailbox"
            address = f"{name}@{DEFAULT_DOMAIN}"
            if address in mail:
                address = f"{name}{number + 1}@{DEFAULT_DOMAIN}"
        mail.setdefault(address, []).extend(read_mail(path))
    return mail


async def _serve(
    mail: dict[str, list[RawMail]],
    quota: str,
    faults: list[Fault],
    address: tuple[str, int, int | None],
    drop: Path | None,
    *,
    as_json: bool,
) -> None:
    stopped = asyncio.Event()
    loop = asyncio.get_running_loop()
    for name in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(name, stopped.set)
    host, port, imap_port = address
    emulator = GmailEmulator(
        mail,
        quota=quota,
        faults=faults,
        host=host,
        port=port,
        drop_directory=drop,
        imap_port=imap_port,
    )
    async with emulator:
        described = emulator.describe()
        if as_json:
            click.echo(json.dumps(described))
        else:
            held = ", ".join(
                f"{box['address']} ({box['messages']} messages)" for box in described["mailboxes"]
            )
            imap = f" IMAP at {emulator.imap_url}." if emulator.imap_url else ""
            click.echo(
                f"Gmail at {emulator.url}: {held}.{imap} Connect with GMAIL_API_ENDPOINT={emulator.url};"
                f" credentials: {emulator.url}/_control/mailboxes. Ctrl-C ends it."
            )
        await stopped.wait()
