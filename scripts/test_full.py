"""Every "must show" at full size, with the time of each part: ``make test-full``.

The mail that is not the project's own is looked for under CORPORA (default: ``../shared/corpora``). A part
whose input is missing fails: nothing is skipped.
"""

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

ROOT = Path(__file__).parents[1]
CORPORA = Path(os.environ.get("CORPORA", ROOT.parent / "shared" / "corpora"))
MAIL = CORPORA / "mail"
MAILSTREAM = [sys.executable, "-m", "cli.main"]


def _run(*command: str) -> str:
    """Run a command that must succeed; its output is shown, its last line returned."""
    process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    last = ""
    for line in process.stdout:
        sys.stdout.write(line)
        last = line
    if process.wait():
        raise SystemExit(f"{' '.join(command)} ended with {process.returncode}")
    return last


def _pytest(*arguments: str) -> None:
    _run(sys.executable, "-m", "pytest", "-q", *arguments)


def office() -> None:
    """The 120 mails with real documents: counts, one outcome each, and twice the same documents."""
    sys.path.insert(0, str(ROOT))
    from tests.pipelines import attachments_in, documents, pipeline, settle

    mail = MAIL / "office.mbox"
    summary = json.loads(_run(*MAILSTREAM, "demo", "--mbox", str(mail), "--once", "--json"))
    runs = []
    for _ in range(2):
        with tempfile.TemporaryDirectory() as directory, pipeline(mail, Path(directory)) as running:
            running.start()
            settle(running)
            runs.append(documents(running))
    nested = sum("/" in document["part_path"] for document in runs[0].values())
    ends = sum(summary["outcomes"].values())
    checks = {
        "messages": summary["messages"] == 120,
        "attachments": summary["attachments"] == attachments_in(mail),
        "documents": summary["documents"] == 120 + summary["attachments"] + nested,
        "one outcome each": ends == summary["attachments"] + nested,
        "no pending": "pending" not in summary["outcomes"],
        "unstructured at work": summary["engines"].get("unstructured", 0) > 0,
        "pytesseract at work": summary["engines"].get("pytesseract", 0) > 0,
        "twice the same ids": runs[0].keys() == runs[1].keys() and len(runs[0]) == summary["documents"],
    }
    _require(checks)


def plain() -> None:
    """The 500 raw mails: each is indexed, or a dead letter with its reason."""
    summary = json.loads(_run(*MAILSTREAM, "demo", "--mbox", str(MAIL / "plain.mbox"), "--once", "--json"))
    _require({"500 ends": summary["messages"] + summary["dead_letters"] == 500})


def part_paths() -> None:
    """Both files: the same part paths and bytes from ``full`` and from ``raw``."""
    _run(sys.executable, "-m", "tests.part_paths", str(MAIL / "office.mbox"), str(MAIL / "plain.mbox"))


def storm() -> None:
    """2,000 operations, faults and twelve kills: the topics and the index equal the mailboxes."""
    _run(sys.executable, "-m", "tests.random_sync", "--operations", "2000", "--kills", "12")


def quota() -> None:
    """Three minutes flat out under each table, with a kill in between."""
    _run(sys.executable, "-m", "tests.quota_run", "--seconds", "180")


def ranking() -> None:
    """CACM: hybrid above 0.54, and above both baselines; every mode above its own plain baseline."""
    found = json.loads(
        _run(
            *(sys.executable, "-m", "benchmarks.retrieval", "--baselines", "--json"),
            *("--corpus", str(CORPORA / "retrieval" / "cacm")),
        )
    )
    ndcg = {name: measures["ndcg@10"] for name, measures in found.items()}
    plain = max(ndcg["plain bm25"], ndcg["plain dense"])
    _require(
        {
            "hybrid": ndcg["hybrid"] >= 0.54,
            "hybrid beats the plain server by 8 %": ndcg["hybrid"] >= 1.08 * plain,
            "keyword": ndcg["keyword"] >= ndcg["plain bm25"],
            "semantic": ndcg["semantic"] >= ndcg["plain dense"],
        }
    )


def search_latency() -> None:
    """100,000 documents: a whole hybrid search takes at most three times a bare kNN request."""
    found = json.loads(_run(sys.executable, "-m", "benchmarks.search_latency", "--json"))
    _require({"three times a bare kNN request": found["ratio"] <= 3.0})


def _require(checks: dict[str, bool]) -> None:
    for name, holds in checks.items():
        sys.stdout.write(f"{'ok  ' if holds else 'FAIL'} {name}\n")
    if not all(checks.values()):
        raise SystemExit("a check failed")


PARTS: dict[str, Callable[[], object]] = {
    "unit tests": lambda: _pytest("tests/unit"),
    "contract tests": lambda: _pytest("tests/contract"),
    "service tests": lambda: _pytest("tests/services"),
    "kill tests": lambda: _pytest("tests/kill"),
    "part paths of both mail files": part_paths,
    "a storm over three mailboxes": storm,
    "quota of both eras": quota,
    "ranking on CACM": ranking,
    "latency of a search": search_latency,
    "office.mbox": office,
    "plain.mbox": plain,
}


def main() -> None:
    """Run every part; the first failure ends it."""
    seconds = {}
    for name, part in PARTS.items():
        sys.stdout.write(f"\n=== {name}\n")
        started = time.monotonic()
        part()
        seconds[name] = time.monotonic() - started
    sys.stdout.write("\n" + "".join(f"{took:8.1f} s  {name}\n" for name, took in seconds.items()))


if __name__ == "__main__":
    main()
