"""What the benchmarks' commands share: options, the mail that they read, how they say what they found."""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

Each = TypeVar("Each")

CORPORA = Path(os.environ.get("CORPORA", Path(__file__).parents[2] / "shared" / "corpora"))
OFFICE, PLAIN = CORPORA / "mail" / "office.mbox", CORPORA / "mail" / "plain.mbox"


def parser(words: str | None, page: str = "") -> argparse.ArgumentParser:
    """A parser that shows a module's words as they stand; with a page, it has ``--write`` and ``--json``."""
    made = argparse.ArgumentParser(description=words, formatter_class=argparse.RawDescriptionHelpFormatter)
    if page:
        made.add_argument("--write", action="store_true", help=f"write docs/performance/{page}.md")
        made.add_argument("--json", action="store_true", help="end with one JSON object")
    return made


def bodies(mbox: Path) -> list[str]:
    """What stands below the headers of each mail, as ASCII."""
    from devstack.gmail.mailfiles import read_mail

    return [mail.read().partition(b"\n\n")[2].decode("ascii", "replace") for mail in read_mail(mbox)]


def turned(those: Sequence[Each], round_number: int) -> list[Each]:
    """Another one first in each round."""
    first = round_number % len(those)
    return [*those[first:], *those[:first]]


def progress(line: str) -> None:
    """What goes on, where somebody looks on."""
    if sys.stderr.isatty():
        sys.stderr.write(f"\r{line}\033[K")


def print_json(report: Mapping[str, Any] | list[Any]) -> None:
    """One JSON object on one line, at the end of what a benchmark prints."""
    print(json.dumps(report), flush=True)
