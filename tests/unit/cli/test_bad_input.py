"""Wrong input is one clear line: exit code 2 for wrong usage, 1 for a failure, never a traceback."""

import socket
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from cli.main import COMMANDS, mailstream
from tests.commands import command

Answer = tuple[int, str, str]  # exit code, output, errors


def _run(*arguments: str, **environment: str) -> Answer:
    return command(environment, *arguments)


@pytest.fixture
def busy_port() -> Iterator[int]:
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        held.listen()
        yield held.getsockname()[1]


def _mail(tmp_path: Path) -> str:
    path = tmp_path / "one.eml"
    path.write_bytes(b"Subject: one\n\ntext\n")
    return str(path)


def _says(answer: Answer, code: int, words: str) -> None:
    exit_code, _, errors = answer
    assert exit_code == code, errors
    assert words in errors
    assert "Traceback" not in errors
    [line] = [line for line in errors.splitlines() if line.startswith("Error: ")]
    assert len(line) < 300


def test_a_missing_file(tmp_path: Path) -> None:
    _says(_run("demo", "--mbox", str(tmp_path / "nope.mbox"), "--once"), 2, "does not exist")
    _says(_run("emulate", "gmail", "--mbox", str(tmp_path / "nope.mbox")), 1, "no such file")
    _says(_run("extract", str(tmp_path / "nope.pdf")), 2, "does not exist")


def test_an_empty_mbox(tmp_path: Path) -> None:
    (tmp_path / "empty.mbox").touch()
    for words in (("demo", "--once"), ("emulate", "gmail")):
        _says(_run(*words, "--mbox", str(tmp_path / "empty.mbox")), 1, "the file is empty")


def test_a_directory_without_mail(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("no mail")
    for words in (("demo", "--once"), ("emulate", "gmail")):
        _says(_run(*words, "--mbox", str(tmp_path)), 1, "no mail in this directory")


def test_a_busy_port(tmp_path: Path, busy_port: int) -> None:
    answer = _run("emulate", "gmail", "--mbox", _mail(tmp_path), "--port", str(busy_port))
    _says(answer, 1, f"port {busy_port} is in use")


def test_no_java(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("devstack.programs._JDK_PATTERNS", ())
    path = tmp_path / "bin"
    path.mkdir()
    for program in ("tesseract", "mvn"):
        (path / program).symlink_to("/bin/true")
    environment = {"PATH": str(path), "STACK": "maven", "JAVA_HOME": ""}
    demo = ["demo", "--once", "--mbox", _mail(tmp_path)]
    for arguments in (demo, ["devstack", "up", "--dir", str(tmp_path / "stack")]):
        _says(_run(*arguments, **environment), 1, "install the package openjdk-21-jdk-headless")


def test_no_tesseract(tmp_path: Path) -> None:
    _says(_run("demo", "--once", PATH=str(tmp_path)), 1, "install the package tesseract-ocr")


def test_servers_that_are_not_there() -> None:
    away = {"KAFKA_BOOTSTRAP": "127.0.0.1:1", "ELASTICSEARCH_URL": "http://127.0.0.1:1", "ENCODER": "hash"}
    _says(_run("status", **away), 1, "Kafka at 127.0.0.1:1 does not answer")
    _says(_run("topics", "apply", **away), 1, "Kafka at 127.0.0.1:1 does not answer")
    _says(_run("search", "words", **away), 1, "set ELASTICSEARCH_URL")


def test_wrong_settings_name_the_variable() -> None:
    _says(_run("source", CREDENTIALS_KEY=""), 1, "CREDENTIALS_KEY is not set")
    _says(_run("source", CREDENTIALS_KEY="short"), 1, "CREDENTIALS_KEY")
    _says(_run("status", SOURCE_POLL_SECONDS="soon"), 1, "SOURCE_POLL_SECONDS")


def test_wrong_usage() -> None:
    _says(_run("search", "  "), 2, "the query is empty")
    _says(_run("worker", "nothing"), 2, "No such command")
    _says(_run("reprocess"), 2, "--outcome or --engine-before")
    _says(_run("reprocess", "--outcome", "tired"), 2, "'tired' is none of")


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_has_help_with_an_example(name: str) -> None:
    command = mailstream.get_command(
        mailstream.make_context("mailstream", [name], resilient_parsing=True), name
    )
    assert command is not None
    assert command.help is not None
    assert f"mailstream {name}" in command.help
    # The list of commands is shown without importing them; its lines must not grow apart from the help.
    assert " ".join(command.help.partition("\n\n")[0].split()) == COMMANDS[name][1]


def test_a_metrics_port_that_is_taken(busy_port: int) -> None:
    _says(_run("source", METRICS_PORT=str(busy_port)), 1, f"METRICS_PORT {busy_port} cannot be used")


def test_traces_without_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "opentelemetry.sdk.trace", None)  # as if it were not installed
    endpoint = "http://127.0.0.1:4318"
    _says(_run("source", OTEL_EXPORTER_OTLP_ENDPOINT=endpoint), 1, "install mailstream[otel]")
