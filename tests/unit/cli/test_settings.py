"""Settings of how servers are reached: what does not go together is refused when it is read."""

import os
from pathlib import Path
from unittest import mock

import pytest
from pydantic import SecretStr

from cli.settings import Settings, settings
from connectors.errors import ConfigurationError
from tests.commands import command

SASL = {"KAFKA_SECURITY_PROTOCOL": "SASL_SSL", "KAFKA_SASL_USERNAME": "anna"}
SECRET = "never-to-be-said"


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"KAFKA_SECURITY_PROTOCOL": "TLS"}, "KAFKA_SECURITY_PROTOCOL: "),
        ({"KAFKA_SASL_MECHANISM": "GSSAPI"}, "KAFKA_SASL_MECHANISM: "),
        (SASL, "KAFKA_SECURITY_PROTOCOL=SASL_SSL needs KAFKA_SASL_USERNAME and KAFKA_SASL_PASSWORD"),
        ({"KAFKA_SASL_PASSWORD": SECRET}, "need KAFKA_SECURITY_PROTOCOL=SASL_SSL"),
        (
            {**SASL, "KAFKA_SASL_PASSWORD": SECRET, "KAFKA_SASL_PASSWORD_FILE": "/x"},
            "KAFKA_SASL_PASSWORD and KAFKA_SASL_PASSWORD_FILE: only one of them",
        ),
        ({"KAFKA_CA_FILE": "/x"}, "KAFKA_CA_FILE and KAFKA_CLIENT_CERTIFICATE_FILE need"),
        (
            {"KAFKA_SECURITY_PROTOCOL": "SSL", "KAFKA_CLIENT_KEY_FILE": "/x"},
            "KAFKA_CLIENT_KEY_FILE needs KAFKA_CLIENT_CERTIFICATE_FILE",
        ),
        ({"ELASTICSEARCH_URL": "127.0.0.1:9200"}, "ELASTICSEARCH_URL must begin with http:// or https://"),
        ({"KAFKA_BOOTSTRAP": "http://127.0.0.1:9092"}, "KAFKA_BOOTSTRAP is host:port"),
        ({"ELASTICSEARCH_CA_FILE": "/x"}, "ELASTICSEARCH_CA_FILE needs an ELASTICSEARCH_URL"),
        (
            {"ELASTICSEARCH_API_KEY": SECRET, "ELASTICSEARCH_API_KEY_FILE": "/x"},
            "ELASTICSEARCH_API_KEY and ELASTICSEARCH_API_KEY_FILE: only one of them",
        ),
        (
            {"ELASTICSEARCH_API_KEY": SECRET, "ELASTICSEARCH_URL": f"https://anna:{SECRET}@127.0.0.1:9200"},
            "ELASTICSEARCH_API_KEY and a user in ELASTICSEARCH_URL: only one of them",
        ),
        (
            {**SASL, "KAFKA_SASL_PASSWORD_FILE": "/nowhere"},
            "KAFKA_SASL_PASSWORD_FILE cannot be read: [Errno 2]",
        ),
        (
            {**SASL, "KAFKA_SASL_PASSWORD": SECRET, "KAFKA_CA_FILE": "/nowhere"},
            "KAFKA_CA_FILE /nowhere: No such file",
        ),
    ],
)
def test_what_does_not_go_together(given: dict[str, str], words: str) -> None:
    code, output, errors = command(given, "topics", "apply")
    assert code == 1
    [line] = errors.splitlines()
    assert words in line
    assert SECRET not in output + errors


def test_a_misspelt_setting_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / ".env").write_text("SERVE_PROT=1\n")
    given = {"KAFKA_BOOTSTRP": "x", "KAFKA_HEAP_OPTS": "x", "LANGUAGE": "en", "SERVE_PORT_8000_TCP": "x"}
    settings.cache_clear()
    with mock.patch.dict(os.environ, given):
        settings()
    settings.cache_clear()
    assert sorted(record.getMessage() for record in caplog.records) == [
        "KAFKA_BOOTSTRP is no setting: is KAFKA_BOOTSTRAP meant?",
        "SERVE_PROT is no setting: is SERVE_PORT meant?",
    ]


def _settings(**given: object) -> Settings:
    return Settings.model_validate(given)


def test_secrets_come_from_files_and_are_never_shown(tmp_path: Path) -> None:
    file = tmp_path / "secret"
    file.write_text(f"{SECRET}\n")
    settings = _settings(
        kafka_security_protocol="SASL_PLAINTEXT",
        kafka_sasl_username="anna",
        kafka_sasl_password_file=str(file),
        elasticsearch_api_key_file=str(file),
    )
    assert settings.kafka.password == settings.elasticsearch.api_key == SECRET
    assert settings.kafka.options()["sasl_plain_password"] == SECRET
    shown = f"{settings!r} {settings.kafka!r} {settings.kafka} {settings.elasticsearch!r}"
    assert SECRET not in shown
    file.write_text("\n")
    with pytest.raises(ConfigurationError, match=r"ELASTICSEARCH_API_KEY_FILE .* is empty"):
        _ = _settings(elasticsearch_api_key_file=str(file)).elasticsearch


def test_an_empty_variable_is_not_set() -> None:
    settings = _settings(kafka_ca_file="", elasticsearch_api_key_file="", kafka_client_certificate_file="")
    assert settings.kafka.ca_file is settings.kafka.certificate_file is None
    assert settings.kafka.options() == {"security_protocol": "PLAINTEXT", "ssl_context": None}


def test_no_form_of_what_is_set_shows_a_secret() -> None:
    """Whoever logs settings, or how a server is reached, logs no password and no key."""
    secret = [name for name, field in Settings.model_fields.items() if field.annotation is SecretStr]
    assert {name for name in Settings.model_fields if name.endswith(("_key", "_token", "_password"))} <= {
        *secret
    }
    given = _settings(
        kafka_security_protocol="SASL_SSL", kafka_sasl_username="anna", **dict.fromkeys(secret, SECRET)
    )
    assert given.kafka.password == given.elasticsearch.api_key == SECRET
    for shown in (given, given.kafka, given.elasticsearch):
        assert SECRET not in f"{shown} {shown!r}"
