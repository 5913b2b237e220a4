"""``mailstream schemas``: what was released holds; a registry takes it, keeps it, or says why it does not."""

import json
from base64 import b64encode
from pathlib import Path
from typing import Annotated

import pytest

from cli import schemas as schemas_command
from schemas import catalog
from schemas.catalog import CONTRACTS, EVENTS
from schemas.events import Event, MailboxId, MessageChange
from schemas.privacy import operational
from tests.certificates import Authority
from tests.commands import command
from tests.registry_server import registry_server

ROOT = Path(__file__).parents[3]
RELEASED = ROOT / schemas_command.RELEASED
REGISTRATIONS = sum(len(contract.events) for contract in CONTRACTS)


def _mailstream(*arguments: str, code: int = 0) -> tuple[str, str]:
    got, output, errors = command({}, "schemas", *arguments)
    assert got == code, errors
    return output, errors


def test_no_event_breaks_what_was_released() -> None:
    assert schemas_command.problems(RELEASED) == []


def test_the_released_schemas_are_those_of_the_code(tmp_path: Path) -> None:
    """To the letter: ``mailstream schemas export`` after a change of words."""
    _mailstream("export", "--dir", str(tmp_path))
    made = {path.name: path.read_text() for path in tmp_path.iterdir()}
    assert made == {name: (RELEASED / name).read_text() for name in made}
    assert len(made) == 2 * len(EVENTS)


class _Released(Event):
    mailbox_id: MailboxId
    colour: Annotated[str | None, operational("of the mailbox")] = None


def _today(monkeypatch: pytest.MonkeyPatch, kind: type[Event]) -> None:
    kind.__name__ = "Coloured"
    monkeypatch.setattr(catalog, "EVENTS", (kind,))


def test_check_says_what_breaks_whom(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    class Narrowed(Event):
        mailbox_id: MailboxId

    class Widened(_Released):
        shade: Annotated[str | None, operational("of the colour")] = None

    class Raised(Widened):
        schema_version = (1, 1)

    _today(monkeypatch, _Released)
    _mailstream("export", "--dir", str(tmp_path), "--format", "json-schema")
    assert [path.name for path in tmp_path.iterdir()] == ["Coloured-1.0.json"]
    assert "follows it compatibly" in _mailstream("check", "--dir", str(tmp_path))[0]

    _today(monkeypatch, Narrowed)
    _, errors = _mailstream("check", "--dir", str(tmp_path), code=1)
    assert errors.splitlines() == [
        "Coloured breaks 1.0: colour: was removed",
        "Coloured has changed since 1.0 was released: raise its schema_version",
    ]
    _, errors = _mailstream("export", "--dir", str(tmp_path), code=1)
    assert errors.endswith("Coloured-1.0.json is another schema: raise Coloured.schema_version\n")

    _today(monkeypatch, Widened)
    _, errors = _mailstream("check", "--dir", str(tmp_path), code=1)
    assert errors.splitlines() == ["Coloured has changed since 1.0 was released: raise its schema_version"]

    _today(monkeypatch, Raised)
    _, errors = _mailstream("check", "--dir", str(tmp_path), code=1)
    assert errors.splitlines() == ["Coloured 1.1 is not among the released: `mailstream schemas export`"]
    _mailstream("export", "--dir", str(tmp_path))
    _mailstream("check", "--dir", str(tmp_path))

    _today(monkeypatch, _Released)  # and never back
    _, errors = _mailstream("check", "--dir", str(tmp_path), code=1)
    assert "Coloured 1.0 is older than what was released" in errors

    monkeypatch.setattr(catalog, "EVENTS", ())
    _, errors = _mailstream("check", "--dir", str(tmp_path), code=1)
    assert errors == "Coloured was released, and is no more\n"


def test_register_is_idempotent_and_says_what_it_did() -> None:
    with registry_server() as server:
        output, _ = _mailstream("register", "--registry", server.url, "--json")
        first = [json.loads(line) for line in output.splitlines()]
        assert len(first) == REGISTRATIONS == len(server.subjects)
        assert first[0] == {
            "subject": "mail.changes.v1-mailstream.MessageChange",
            "version": 1,
            "id": 1,
            "new": True,
        }
        assert set(server.levels.values()) == {"FORWARD_TRANSITIVE"}
        assert server.levels.keys() == server.subjects.keys()
        server.answers.clear()
        output, _ = _mailstream("register", "--registry", server.url + "/")
        assert output.count("unchanged") == REGISTRATIONS
        assert {
            method for method, path, _ in server.answers if "/versions" in path or "config" in path
        } == set()


def test_a_later_version_is_added_and_the_level_left_alone(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with registry_server() as server:
        _mailstream("register", "--registry", server.url)
        server.levels["mail.changes.v1-mailstream.MessageChange"] = "NONE"
        monkeypatch.setitem(MessageChange.__pydantic_fields__, "extra", _Released.model_fields["colour"])
        MessageChange.model_rebuild(force=True)
        try:
            output, _ = _mailstream("register", "--registry", server.url)
        finally:
            monkeypatch.undo()
            MessageChange.model_rebuild(force=True)
        assert output.splitlines()[0].split() == [
            *("registered", "mail.changes.v1-mailstream.MessageChange", "version", "2,", "id"),
            output.splitlines()[0].split()[-1],
        ]
        assert output.count("unchanged") == REGISTRATIONS - 2  # it stands in two topics
        assert server.levels["mail.changes.v1-mailstream.MessageChange"] == "NONE"


def test_what_the_registry_refuses_is_said(tmp_path: Path) -> None:
    subject = "mail.changes.v1-mailstream.MessageChange"
    with registry_server() as server:
        server.subjects[subject] = [json.dumps({"properties": {"gone": {}}})]
        _, errors = _mailstream("register", "--registry", server.url, code=1)
        assert errors == (
            f"Error: the registry refuses {subject}: it is incompatible with the version before it"
            " (Schema being registered is incompatible with an earlier schema)\n"
        )
        assert list(server.subjects) == [subject]  # and nothing went on
        server.status = 503
        _, errors = _mailstream("register", "--registry", server.url, code=1)
        assert "cannot answer now (HTTP 503): no master" in errors
        server.status = 422
        _, errors = _mailstream("register", "--registry", server.url, code=1)
        assert f"refuses /subjects/{subject} (HTTP 422): no master" in errors
    _, errors = _mailstream("register", "--registry", server.url, code=1)
    assert errors == f"Error: no schema registry answers at {server.url}\n"
    _, errors = _mailstream("register", "--registry", "localhost:8081", code=1)
    assert "is no address of a schema registry" in errors


def test_another_server_is_no_registry() -> None:
    with registry_server() as server:
        _, errors = _mailstream("register", "--registry", f"{server.url}/elsewhere", code=1)
        assert "is no schema registry: does a path belong to the address" in errors


def test_it_shows_who_it_is(tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_text("open sesame\n")
    basic = "Basic " + b64encode(b"anna:open sesame").decode()
    with registry_server(basic) as server:
        arguments = ("register", "--registry", server.url, "--username", "anna")
        _mailstream(*arguments, "--password-file", str(secret))
        _, errors = _mailstream(*arguments, code=1)
        assert "does not let us in (HTTP 401): see --username" in errors
    with registry_server("Bearer open sesame") as server:
        _mailstream("register", "--registry", server.url, "--token-file", str(secret))


def test_it_checks_whom_it_talks_to(tmp_path: Path) -> None:
    authority = Authority(tmp_path, "authority")
    with registry_server(certificate=authority.issue("registry")) as server:
        arguments = ("register", "--registry", server.url)
        _mailstream(*arguments, "--ca-file", str(authority.ca_file))
        assert len(server.subjects) == REGISTRATIONS
        _, errors = _mailstream(*arguments, code=1)
        assert "is signed by nobody who is trusted here: set SCHEMA_REGISTRY_CA_FILE" in errors
    with registry_server() as server:
        _, errors = _mailstream("register", "--registry", server.url.replace("http", "https"), code=1)
        assert "does it speak TLS on that port?" in errors
