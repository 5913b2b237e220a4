"""Every "must show" at full size, with the time of each part: ``make test-full [PARTS="growth soak"]``.

A part is a function of this file; without names all of them run, in their order, until one fails. They take
hours: what has passed on the same committed code (all files but docs) is noted in the user's cache, and the
next run goes on with the others; a part that is named runs in any case. The mail that is not the project's
own is looked for under CORPORA (default: ``../shared/corpora``). A part whose input is missing fails.
"""

import argparse
import hashlib
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

ROOT = Path(__file__).parents[1]
NOTES = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "mailstream" / "test-full"
CORPORA = Path(os.environ.get("CORPORA", ROOT.parent / "shared" / "corpora"))
MAIL = CORPORA / "mail"
CACM = CORPORA / "retrieval" / "cacm"
# The whole lock is `python scripts/audit.py`: one question a package.
EXPOSED = ["aiohttp", "cryptography", "fastapi", "lxml", "pillow", "pypdf", "pypdfium2", "uvicorn"]
MAILSTREAM = [sys.executable, "-m", "cli.main"]


def _run(*command: str, **environment: str) -> str:
    """Run a command that must succeed; its output is shown, its last line returned."""
    known = {**os.environ, **environment}
    process = subprocess.Popen(command, cwd=ROOT, env=known, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    last = ""
    for line in process.stdout:
        sys.stdout.write(line)
        last = line
    if process.wait():
        raise SystemExit(f"{' '.join(command)} ended with {process.returncode}")
    return last


def _pytest(*arguments: str, **environment: str) -> None:
    _run(sys.executable, "-m", "pytest", "-q", *arguments, **environment)


def unit_tests() -> None:
    """The packages, module by module: properties with random examples, real mail through three parsers."""
    _pytest("tests/unit")


def chart_and_containers() -> None:
    """What we hand out, as kubeconform, docker-compose and npm see it; a copy of us without IMAP."""
    _pytest("tests/project")


def contract_tests() -> None:
    """Our Gmail and IMAP clients against the emulators, and these against Google's own client."""
    _pytest("tests/contract")


def service_tests() -> None:
    """Everything on a real Kafka and a real Elasticsearch."""
    _pytest("tests/services")


def kill_tests() -> None:
    """What a kill at the wrong moment must not do."""
    _pytest("tests/kill")


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
    _pytest("tests/services/test_observing.py", METRICS_MBOX=str(MAIL / "office.mbox"))


def consumers() -> None:
    """The examples in Python, Java and Node say what the 120 mails with real documents are."""
    _pytest("tests/services/test_consumers.py", CONSUMERS_MBOX=str(MAIL / "office.mbox"))


def storm() -> None:
    """2,000 operations, faults and twelve kills: the topics and the index equal the mailboxes."""
    _run(sys.executable, "-m", "tests.random_sync", "--operations", "2000", "--kills", "12")


def ephemeral_kills() -> None:
    """SIGKILL at 200 moments with attachments in flight, 20 of them of the real extract worker."""
    _pytest("tests/kill/test_ephemeral.py", KILLS="180", PIPELINE_KILLS="20")


def flat_memory() -> None:
    """1,000 attachments of mixed size through one worker."""
    _pytest("tests/kill/test_memory.py", ATTACHMENTS="1000")


def chaos() -> None:
    """Storms of 30 faults and 300 messages: seeds 1 to 10."""
    _run(sys.executable, "-m", "benchmarks.chaos", "--seeds", "1-10")


def more_chaos() -> None:
    """The same: seeds 11 to 20."""
    _run(sys.executable, "-m", "benchmarks.chaos", "--seeds", "11-20")


def large_chaos() -> None:
    """A storm of 100 faults and 5,000 messages with the real model."""
    large = ("--seed", "100", "--faults", "100", "--messages", "5000", "--encoder", "minilm")
    _run(sys.executable, "-m", "benchmarks.chaos", *large)


def soak() -> None:
    """An hour of steady load: nothing grows."""
    _run(sys.executable, "-m", "benchmarks.soak", "--minutes", "60")


def convergence() -> None:
    """300 random histories on Elasticsearch: at least 500 conflicts, 100 deletions, 50 replays."""
    _pytest("tests/services/test_convergence.py", "-s", CONVERGENCE_EXAMPLES="300")


def outage() -> None:
    """Elasticsearch away for 60 s, then overloaded, then slow."""
    _pytest("tests/services/test_outage.py", OUTAGE_SECONDS="60")


def pushes_and_labels() -> None:
    """10,000 duplicate pushes, and label changes of 10,000 messages: no fetch, no further history call."""
    files = ("tests/services/test_push.py", "tests/services/test_sharing.py")
    _pytest(*files, DUPLICATES="10000", RELABELLED="10000")


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


def extraction() -> None:
    """The real documents at five times Tika server's pace, twice with OCR, with 95 % of its words."""
    docs = ("--corpus", str(CORPORA / "docs"))
    found = json.loads(_run(sys.executable, "-m", "benchmarks.extraction", *docs, "--json", "--only"))
    for ocr, least in (("no_ocr", 5.0), ("ocr", 2.0)):
        [ours] = [line for line in found[ocr] if line["reader"] == "mailstream"]
        _require({f"{ocr}: pace": ours["× Tika"] >= least, "recall": ours["recall of Tika's words"] >= 0.95})


def embedding() -> None:
    """2.5 times the default backend's pace, at most 1 % of ranking lost."""
    cacm = ("--corpus", str(CACM), "--documents", "1500")
    found = json.loads(_run(sys.executable, "-m", "benchmarks.embedding", *cacm, "--json", "--only"))
    [ours] = [line for line in found if line["encoder"] == "mailstream"]
    _require({"pace": ours["documents, × default"] >= 2.5, "ranking": ours["loss, %"] <= 1.0})


def start() -> None:
    """`--help` and a whole search in less than a tenth of what the import of sentence-transformers takes."""
    found = json.loads(_run(sys.executable, "-m", "benchmarks.start", "--json"))
    tenth = found.pop("import of sentence-transformers") / 10
    _require({command: seconds < tenth for command, seconds in found.items()})


def growth() -> None:
    """Exponents of time in messages and bytes, and memory that stays."""
    _run(sys.executable, "-m", "benchmarks.growth")


def reindex() -> None:
    """10,000 documents rebuilt: a kill, live changes, a searcher; nothing lost, missed or asked of Gmail."""
    _run(sys.executable, "-m", "tests.reindex_run", "--messages", "7500")


def access() -> None:
    """5,000 requests of a caller of one mailbox: no byte of the other; no 5xx from any allowed request."""
    _run(sys.executable, "-m", "tests.access_fuzz", "--requests", "5000")
    _pytest("tests/services/test_serve.py", SCHEMA_EXAMPLES="100")


def fuzzing() -> None:
    """Two minutes of coverage-guided fuzzing for each of what reads strangers' bytes."""
    _run(sys.executable, "-m", "tests.fuzz", "all", "--seconds", "120")


def audit() -> None:
    """What the package index knows against the packages that strangers' bytes come to first."""
    _run(sys.executable, "scripts/audit.py", *EXPOSED)


def ranking() -> None:
    """CACM: hybrid above 0.54, and above both baselines; every mode above its own plain baseline."""
    found = json.loads(
        _run(
            *(sys.executable, "-m", "benchmarks.retrieval", "--baselines", "--json"),
            *("--corpus", str(CACM)),
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


PARTS: dict[str, Callable[[], None]] = {
    part.__name__.replace("_", "-"): part
    for part in (
        *(unit_tests, chart_and_containers, contract_tests, service_tests, kill_tests),
        *(part_paths, storm, ephemeral_kills, flat_memory),
        *(chaos, more_chaos, large_chaos, soak),
        *(extraction, embedding, end_to_end, source, bulks_and_replay, search_latency, growth, start),
        *(pushes_and_labels, reindex, access, fuzzing, audit, ranking, convergence),
        *(outage, labels, office, metrics, plain, consumers),
    )
}


def notes() -> Path | None:
    """Where it is noted what passed on this code; None where not all of it is a commit's."""
    try:
        listed, changed = (
            subprocess.run(["git", *asked], cwd=ROOT, capture_output=True, text=True, check=True).stdout
            for asked in (("ls-files", "--stage"), ("status", "--porcelain"))
        )
    except (OSError, subprocess.CalledProcessError):  # a copy without its history
        return None
    code = [line for line in listed.splitlines() if not line.endswith(".md") and "\tdocs/" not in line]
    digest = hashlib.sha256("\n".join(code).encode()).hexdigest()
    return None if changed else NOTES / f"{digest[:16]}.json"


def _noted(file: Path) -> dict[str, str]:
    passed: dict[str, str] = json.loads(file.read_text()) if file.exists() else {}
    return passed


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the parts that are named, or every one that has not passed on this code; the first failure ends it.
    After each, all times so far."""
    parser = argparse.ArgumentParser(
        description=__doc__,
        epilog="\n".join(f"{name:22}{part.__doc__}" for name, part in PARTS.items()),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("parts", nargs="*", metavar="PART")
    named = parser.parse_args(arguments).parts
    if unknown := [name for name in named if name not in PARTS]:
        parser.error(f"{', '.join(unknown)}: no such part; there are {', '.join(PARTS)}")
    os.environ["HYPOTHESIS_PROFILE"] = "random"
    file = notes()
    passed = _noted(file) if file is not None else {}
    took = "" if named else "".join(passed.values())
    for name in named or [name for name in PARTS if name not in passed]:
        sys.stdout.write(f"\n=== {name}: {PARTS[name].__doc__}\n")
        started = time.monotonic()
        try:
            PARTS[name]()
            if file is not None:
                line = f"{_line(started, name)}  passed {time.strftime('%Y-%m-%d %H:%M')}\n"
                file.parent.mkdir(parents=True, exist_ok=True)
                file.write_text(json.dumps(_noted(file) | {name: line}))  # another run may have noted some
        finally:
            took += f"{_line(started, name)}\n"
            sys.stdout.write(f"\n{took}")


def _line(started: float, name: str) -> str:
    return f"{time.monotonic() - started:8.1f} s  {name}"


if __name__ == "__main__":
    main()
