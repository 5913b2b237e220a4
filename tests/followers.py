"""The examples for other teams as those run them, and what they must say of what stands in the topic."""

from __future__ import annotations

import asyncio
import hashlib
import json
import os
import shutil
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from devstack.maven import cache_directory, locked
from schemas import topics
from schemas.outcomes import Scan
from schemas.registers import MessageState, decode_register, split_key
from tests import serving
from tests.records import read_all

EXAMPLES = Path(__file__).parents[1] / "examples"
SECONDS = 120.0
_BUILD_SECONDS = 900
_NODE = "24.21.0"
_NODE_NEEDED = (22, 22)


@dataclass(frozen=True)
class Said:
    """What a follower has to say: messages with the label, infected attachments, mail by sender."""

    labelled: frozenset[tuple[str, str]]  # message id, subject
    infected: frozenset[tuple[str, str, str | None]]  # message id, part path, signature
    senders: Mapping[str, int]


def expected(bootstrap: str, label: str) -> Said:
    """By our own merge of all that stands in the topic."""
    messages: dict[str, MessageState] = {}
    for key, value in asyncio.run(read_all(bootstrap, topics.DOCUMENTS.name)):
        if value is not None:
            owner = split_key(key)[0]
            messages[owner] = messages.get(owner, MessageState()).join([decode_register(key, value)])
    shown = [each for each in messages.values() if each.live and "" in each.contents]
    own = {id(each): each.contents[""] for each in shown}
    return Said(
        frozenset(
            (own[id(each)].message_id, own[id(each)].message.subject)  # type: ignore[union-attr]
            for each in shown
            if label in each.label_ids
        ),
        frozenset(
            (part.message_id, path, part.attachment.signature)
            for each in shown
            for path, part in each.contents.items()
            if part.attachment is not None and part.attachment.scan is Scan.INFECTED
        ),
        Counter(own[id(each)].message.sender for each in shown),  # type: ignore[union-attr]
    )


class Scanner(serving.Scanner):
    """One that calls every sixteenth document infected, too."""

    def is_infected(self, payload: bytes) -> bool:
        return super().is_infected(payload) or hashlib.sha256(payload).hexdigest()[0] == "0"


def python(script: str, *arguments: str) -> list[str]:
    """One of the Python examples."""
    return [sys.executable, str(EXAMPLES / "python" / script), *arguments]


def java(directory: Path, label: str) -> list[str]:
    """The Java example, its merge tested on the way. Built in ``directory``."""
    project = directory / "java"
    shutil.copytree(EXAMPLES / "java", project, ignore=shutil.ignore_patterns("target"))
    vectors = {"MERGE_VECTORS": str(EXAMPLES.parent / "docs" / "merge-vectors.json")}
    _build(["mvn", "-B", "-q", "test"], project, vectors)
    return ["mvn", "-B", "-q", "-f", str(project), "exec:java", f"-Dexec.args={label}"]


def node(directory: Path, label: str) -> list[str]:
    """The Node example, its merge tested on the way."""
    project = directory / "node"
    shutil.copytree(EXAMPLES / "node", project, ignore=shutil.ignore_patterns("node_modules"))
    _build(["npm", "ci", "--no-audit", "--no-fund"], project)
    program = _node()
    vectors = {"MERGE_VECTORS": str(EXAMPLES.parent / "docs" / "merge-vectors.json")}
    _build([program, "--test"], project, vectors)
    return [program, str(project / "follow.js"), label]


def _node() -> str:
    """A Node new enough: this machine's, or that of npm's package ``node``, in the cache."""
    found = shutil.which("node")
    if found is not None:
        told = subprocess.run([found, "--version"], capture_output=True, text=True, check=True).stdout
        if tuple(int(part) for part in told.strip().removeprefix("v").split(".")[:2]) >= _NODE_NEEDED:
            return found
    home = cache_directory() / "tools" / f"node-{_NODE}"
    home.mkdir(parents=True, exist_ok=True)
    program = home / "node_modules" / "node" / "bin" / "node"
    with locked(home / "lock"):
        if not program.exists():
            _build(["npm", "install", "--no-audit", "--no-fund", f"node@{_NODE}"], home)
    return str(program)


def _build(command: list[str], directory: Path, environment: Mapping[str, str] | None = None) -> None:
    done = subprocess.run(
        command,
        cwd=directory,
        env={**os.environ, **(environment or {})},
        timeout=_BUILD_SECONDS,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, f"{command}:\n{(done.stdout + done.stderr)[-3000:]}"


def follows(command: list[str], environment: Mapping[str, str], directory: Path, wanted: Said) -> None:
    """Run an example until it has said all that is wanted; it may say nothing else."""
    assert wanted.labelled and wanted.infected and wanted.senders, "there is nothing to find"
    directory.mkdir(parents=True, exist_ok=True)
    log = directory / "follower.log"
    lines: list[dict[str, Any]] = []
    with log.open("wb") as errors:
        process = subprocess.Popen(
            command,
            cwd=directory,
            env={**os.environ, **environment},
            stdout=subprocess.PIPE,
            stderr=errors,
            text=True,
        )
    assert process.stdout is not None

    def read(output: Any) -> None:
        for line in output:
            start = line.find("{")  # Maven's first line begins with a change of colour
            if start >= 0:
                lines.append(json.loads(line[start:]))

    reader = threading.Thread(target=read, args=(process.stdout,), daemon=True)
    reader.start()
    try:
        deadline = time.monotonic() + SECONDS
        while _said(lines) != wanted:
            told = f"{_said(lines)}\nis not\n{wanted}\n{log.read_text(errors='replace')[-3000:]}"
            assert process.poll() is None, f"it ended with {process.returncode}: {told}"
            assert time.monotonic() < deadline, told
            time.sleep(0.2)
    finally:
        process.terminate()
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        reader.join()


def _said(lines: list[dict[str, Any]]) -> Said:
    some = list(lines)
    counted = [line["senders"] for line in some if "senders" in line]
    return Said(
        frozenset((line["labelled"], line["subject"]) for line in some if "labelled" in line),
        frozenset(
            (line["infected"], line["part_path"], line.get("signature"))
            for line in some
            if "infected" in line
        ),
        counted[-1] if counted else {},
    )
