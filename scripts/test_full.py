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
# The whole lock is `python scripts/audit.py`: one question a package.
EXPOSED = ["aiohttp", "cryptography", "fastapi", "lxml", "pillow", "pypdf", "pypdfium2", "uvicorn"]
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


def metrics() -> None:
    """A run over the 120 mails with real documents moves every metric, or a table says why not."""
    os.environ["METRICS_MBOX"] = str(MAIL / "office.mbox")
    _pytest("tests/services/test_observing.py")
    del os.environ["METRICS_MBOX"]


def consumers() -> None:
    """The examples in Python, Java and Node say what the 120 mails with real documents are."""
    os.environ["CONSUMERS_MBOX"] = str(MAIL / "office.mbox")
    _pytest("tests/services/test_consumers.py")
    del os.environ["CONSUMERS_MBOX"]


def storm() -> None:
    """2,000 operations, faults and twelve kills: the topics and the index equal the mailboxes."""
    _run(sys.executable, "-m", "tests.random_sync", "--operations", "2000", "--kills", "12")


def ephemeral_kills() -> None:
    """SIGKILL at 200 moments with attachments in flight, 20 of them of the real extract worker."""
    os.environ.update(KILLS="180", PIPELINE_KILLS="20")
    _pytest("tests/kill/test_ephemeral.py")


def flat_memory() -> None:
    """1,000 attachments of mixed size through one worker."""
    os.environ["ATTACHMENTS"] = "1000"
    _pytest("tests/kill/test_memory.py")


def chaos() -> None:
    """20 seeds of 30 faults and 300 messages; 100 faults and 5,000 messages with the real model."""
    _run(sys.executable, "-m", "benchmarks.chaos", "--seeds", "1-20")
    large = ("--seed", "100", "--faults", "100", "--messages", "5000", "--encoder", "minilm")
    _run(sys.executable, "-m", "benchmarks.chaos", *large)


def soak() -> None:
    """An hour of steady load: nothing grows."""
    _run(sys.executable, "-m", "benchmarks.soak", "--minutes", "60")


def convergence() -> None:
    """300 random histories on Elasticsearch: at least 500 conflicts, 100 deletions, 50 replays."""
    os.environ["CONVERGENCE_EXAMPLES"] = "300"
    _pytest("tests/services/test_convergence.py", "-s")


def outage() -> None:
    """Elasticsearch away for 60 s, then overloaded, then slow."""
    os.environ["OUTAGE_SECONDS"] = "60"
    _pytest("tests/services/test_outage.py")


def pushes_and_labels() -> None:
    """10,000 duplicate pushes, and label changes of 10,000 messages: no fetch, no further history call."""
    os.environ.update(DUPLICATES="10000", RELABELLED="10000")
    _pytest("tests/services/test_push.py", "tests/services/test_sharing.py")


def labels() -> None:
    """10,000 label changes on documents of one chunk, and as many as time allows on such of a hundred."""
    _run(sys.executable, "-m", "benchmarks.labels", "--chunks", "0", "1")
    _run(sys.executable, "-m", "benchmarks.labels", "--chunks", "100", "--changes", "2000")


def source() -> None:
    """Change events a second; then three minutes flat out under each table, with a kill in between."""
    _run(sys.executable, "-m", "benchmarks.source")


def end_to_end() -> None:
    """The 120 mails with real documents from Gmail to searchable, and new mail beside a backfill of scans."""
    _run(sys.executable, "-m", "benchmarks.end_to_end", "--mbox", str(MAIL / "office.mbox"))


def bulks_and_replay() -> None:
    """Three times the client's own helper; a replay of the 120 mails twenty times as fast as reading them."""
    _run(sys.executable, "-m", "benchmarks.index", "--mbox", str(MAIL / "office.mbox"))


def growth() -> None:
    """Exponents of time in messages and bytes, and memory that stays."""
    _run(sys.executable, "-m", "benchmarks.growth")


def reindex() -> None:
    """10,000 documents rebuilt: a kill, live changes, a searcher; nothing lost, missed or asked of Gmail."""
    _run(sys.executable, "-m", "tests.reindex_run", "--messages", "7500")


def access() -> None:
    """5,000 requests of a caller of one mailbox: no byte of the other; no 5xx from any allowed request."""
    _run(sys.executable, "-m", "tests.access_fuzz", "--requests", "5000")
    os.environ["SCHEMA_EXAMPLES"] = "100"
    _pytest("tests/services/test_serve.py")


def fuzzing() -> None:
    """Two minutes of coverage-guided fuzzing for each of what reads strangers' bytes."""
    _run(sys.executable, "-m", "tests.fuzz", "all", "--seconds", "120")
    _pytest("tests/unit/schemas/test_mime_differential.py")


def audit() -> None:
    """What the package index knows against the packages that strangers' bytes come to first."""
    _run(sys.executable, "scripts/audit.py", *EXPOSED)


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
    "unit tests": lambda: _pytest("tests/unit", "-m", "not full"),
    "chart and containers": lambda: _pytest("tests/unit/project", "-m", "full"),
    "contract tests": lambda: _pytest("tests/contract"),
    "service tests": lambda: _pytest("tests/services"),
    "kill tests": lambda: _pytest("tests/kill"),
    "part paths of both mail files": part_paths,
    "a storm over three mailboxes": storm,
    "200 kills with attachments in flight": ephemeral_kills,
    "memory over 1,000 attachments": flat_memory,
    "chaos": chaos,
    "an hour of steady load": soak,
    "change events, and quota of both eras": source,
    "from Gmail to searchable": end_to_end,
    "bulks and a replay": bulks_and_replay,
    "growth of time and memory": growth,
    "10,000 duplicate pushes and label changes": pushes_and_labels,
    "a reindex of 10,000 documents": reindex,
    "access and every allowed request": access,
    "fuzzing": fuzzing,
    "known vulnerabilities": audit,
    "ranking on CACM": ranking,
    "latency of a search": search_latency,
    "an index that converges": convergence,
    "an outage of Elasticsearch": outage,
    "a storm of labels": labels,
    "office.mbox": office,
    "metrics over office.mbox": metrics,
    "plain.mbox": plain,
    "examples for other teams over office.mbox": consumers,
}


def main() -> None:
    """Run every part; the first failure ends it."""
    os.environ["HYPOTHESIS_PROFILE"] = "random"
    seconds = {}
    for name, part in PARTS.items():
        sys.stdout.write(f"\n=== {name}\n")
        started = time.monotonic()
        part()
        seconds[name] = time.monotonic() - started
    sys.stdout.write("\n" + "".join(f"{took:8.1f} s  {name}\n" for name, took in seconds.items()))


if __name__ == "__main__":
    main()
