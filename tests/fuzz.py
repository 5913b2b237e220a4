"""A coverage-guided fuzzer over what reads strangers' bytes.

    python -m tests.fuzz mime|gmail|query|events|paths|all --seconds 60 [--corpus DIR]

Seeds are generated; what is found on the way is kept in DIR, if one is given. An input that breaks a promise
of ``tests.fuzz_targets``, or takes ten seconds, ends it with an error and is written to build/fuzz. It then
goes into ``tests/unit/schemas/test_hostile_bytes.py``, with a word on what it was.
"""

import argparse
import json
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from email.message import EmailMessage
from pathlib import Path

NAMES = ("mime", "gmail", "query", "events", "paths")
FIXTURES = Path(__file__).parent / "unit" / "schemas" / "fixtures"
ARTIFACTS = Path("build/fuzz")
MAX_BYTES = 20_000
SLOW_SECONDS = 10


def seeds(name: str) -> Iterator[bytes]:
    """Inputs of the kind that a target expects."""
    if name == "mime":
        mail = EmailMessage()
        mail["Subject"], mail["From"] = "Grüße", "Anna <anna@example.com>"
        mail.set_content("plain words")
        yield mail.as_bytes()
        mail.add_alternative("<p>rich</p>", subtype="html")
        mail.add_attachment(b"%PDF-", maintype="application", subtype="pdf", filename="räume.pdf")
        yield mail.as_bytes()
        outer = EmailMessage()
        outer.set_content("see below")
        outer.add_attachment(mail)
        yield outer.as_bytes()
        yield b"Content-Type: a/b; name*0*=utf-8''%C3%A4; name*1=b\r\nContent-Disposition: inline\r\n\r\nx"
    elif name == "query":
        for text in (
            'from:"Anna Berg" -draft (a OR subject:(b c)) larger:5M',
            "in:anywhere has:attachment type:pdf before:2026-03-31 older_than:2w",
            'label:x is:unread "late delivery" rfc822msgid:<a@b> filename:a.pdf to:x cc:y',
        ):
            yield text.encode()
    elif name == "events":
        from schemas.catalog import EVENTS

        for number, kind in enumerate(EVENTS):
            for path in FIXTURES.glob(f"{kind.__name__}-*.jsonl"):
                for line in path.read_text().splitlines()[:3]:
                    yield bytes((number, 1)) + json.loads(line)["value"].encode()
    else:
        yield bytes(range(256))
        yield bytes(40)


def fuzz(name: str, seconds: int, corpus: Path) -> None:
    """Fuzz one target in this process, which ends with it."""
    import atheris

    with atheris.instrument_imports(include=["schemas", "connectors.gmail.message", "search", "email"]):
        from tests.fuzz_targets import TARGETS

    corpus.mkdir(parents=True, exist_ok=True)
    ARTIFACTS.mkdir(parents=True, exist_ok=True)
    for number, seed in enumerate(seeds(name)):
        (corpus / f"seed-{number}").write_bytes(seed)
    atheris.Setup(
        [
            *(sys.argv[0], f"-max_total_time={seconds}", f"-max_len={MAX_BYTES}", f"-timeout={SLOW_SECONDS}"),
            *(f"-artifact_prefix={ARTIFACTS}/{name}-", "-print_final_stats=1", str(corpus)),
        ],
        TARGETS[name],
    )
    atheris.Fuzz()


def main() -> None:
    """One target here, or all, each in a process of its own."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("target", choices=[*NAMES, "all"])
    parser.add_argument("--seconds", type=int, default=60, help="for each target")
    parser.add_argument("--corpus", type=Path)
    arguments = parser.parse_args()
    if arguments.target == "all":
        for name in NAMES:
            sys.stdout.write(f"--- {name}\n")
            sys.stdout.flush()
            more = ["--corpus", str(arguments.corpus / name)] if arguments.corpus else []
            command = [sys.executable, "-m", "tests.fuzz", name, "--seconds", str(arguments.seconds), *more]
            subprocess.run(command, check=True)
        return
    with tempfile.TemporaryDirectory() as directory:
        fuzz(arguments.target, arguments.seconds, arguments.corpus or Path(directory))


if __name__ == "__main__":
    main()
