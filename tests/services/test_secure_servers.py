"""Servers that are particular: Kafka with TLS and SCRAM, Elasticsearch with TLS and an API key.

The whole path runs over them; and each way of not being let in is one line that names what to set.
"""

import asyncio
import json
import os
import ssl
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from cli.pipeline import Pipeline
from devstack.stack import Stack
from tests.certificates import Authority
from tests.commands import command
from tests.elasticsearch_proxy import ElasticsearchProxy
from tests.pipelines import emptied, settle
from tests.secure_kafka import secure_kafka

pytestmark = pytest.mark.timeout(300)

USER, PASSWORD, API_KEY = "mailstream", "tidal-basin-7141", "bWFpbHN0cmVhbTpkcnktZG9jay05MDI2"
WRONG = "salt-marsh-5530"
SECONDS = 60.0  # until a process that is not let in has ended; most of them are imports

MAIL = """\
From MAILER-DAEMON Mon Jan  1 10:00:0{n} 2024
From: Robot <robot@example.com>
To: anna@example.com
Subject: Harbour report {n}
Message-ID: <{n}@example.com>
Date: Mon, 1 Jan 2024 10:00:0{n} +0000

The lock gate {n} was opened.

"""


@dataclass(frozen=True)
class Servers:
    """Where everything is, by the setting that says so."""

    settings: dict[str, str]  # with these it works
    expired_kafka: str
    mutual_kafka: str
    expired_elasticsearch: str
    plain_elasticsearch: str
    client_certificate: Path

    def __call__(self, **changed: str) -> dict[str, str]:
        return {**self.settings, **changed}


@contextmanager
def _elasticsearch(target: str, keystore: Path) -> Iterator[ElasticsearchProxy]:
    """The proxy in a thread of its own: commands have this one's loop."""
    tls = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    tls.load_cert_chain(keystore)
    loop = asyncio.new_event_loop()
    opened = ElasticsearchProxy.open(target, tls, API_KEY)
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    try:
        yield asyncio.run_coroutine_threadsafe(opened.__aenter__(), loop).result(10)
        asyncio.run_coroutine_threadsafe(opened.__aexit__(None, None, None), loop).result(10)
    finally:
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()


@pytest.fixture(scope="module")
def servers(stack: Stack, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Servers]:
    directory = tmp_path_factory.mktemp("servers")
    authority = Authority(directory, "authority")
    good, expired = authority.issue("server"), authority.issue("expired", days=-1)
    keystores = {"SECURE": good, "EXPIRED": expired, "MUTUAL": good}
    password_file = directory / "password"
    password_file.write_text(f"{PASSWORD}\n")
    with ExitStack() as opened:
        users = {USER: PASSWORD}
        kafka = opened.enter_context(secure_kafka(directory / "kafka", keystores, authority.ca_file, users))
        url = emptied(stack).elasticsearch_url
        proxy, expired_proxy = (opened.enter_context(_elasticsearch(url, each)) for each in (good, expired))
        settings = {
            "KAFKA_BOOTSTRAP": kafka["SECURE"],
            "KAFKA_SECURITY_PROTOCOL": "SASL_SSL",
            "KAFKA_SASL_USERNAME": USER,
            "KAFKA_SASL_PASSWORD": "",
            "KAFKA_SASL_PASSWORD_FILE": str(password_file),
            "KAFKA_CA_FILE": str(authority.ca_file),
            "ELASTICSEARCH_URL": proxy.url,
            "ELASTICSEARCH_API_KEY": API_KEY,
            "ELASTICSEARCH_CA_FILE": str(authority.ca_file),
            "ENCODER": "hash",
        }
        yield Servers(
            *(settings, kafka["EXPIRED"], kafka["MUTUAL"], expired_proxy.url, url),
            client_certificate=authority.issue("client"),
        )
        assert expired_proxy.seen["request"] == 0


@pytest.fixture(scope="module")
def running(servers: Servers, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pipeline]:
    directory = tmp_path_factory.mktemp("run")
    mail = directory / "mail.mbox"
    mail.write_text("".join(MAIL.format(n=n) for n in range(3)))
    code, output, errors = command(servers(), "topics", "apply")
    assert (code, errors) == (0, "")
    assert output.startswith("created: ")
    with Pipeline(
        servers.settings["KAFKA_BOOTSTRAP"],
        servers.settings["ELASTICSEARCH_URL"],
        [mail],
        directory,
        encoder="hash",
        also={**servers.settings, "LOG_LEVEL": "debug"},
    ) as made:
        made.start("source", "extract", "index")
        settle(made)
        yield made


def test_the_whole_path(running: Pipeline) -> None:
    code, output, errors = command(running, "search", "harbour", "--json")
    assert code == 0, errors
    hits = [json.loads(line) for line in output.splitlines()]
    found = {hit["subject"] for hit in hits if "subject" in hit}
    assert found == {f"Harbour report {n}" for n in range(3)}, output
    code, output, errors = command(running, "status", "--json")
    assert code == 0, errors
    status = json.loads(output)
    assert (status["messages"], status["dead_letters"], set(status["lag"].values())) == (3, 0, {0})


def test_no_log_holds_a_secret(running: Pipeline) -> None:
    logs = {path.name: path.read_text() for path in running.directory.glob("*.log")}
    assert {"source.log", "extract.log", "index.log"} <= {name for name, text in logs.items() if text}
    for name, text in logs.items():
        for secret in (PASSWORD, API_KEY):
            assert secret not in text, name


REFUSALS = {
    "wrong password": (
        {"KAFKA_SASL_PASSWORD_FILE": "", "KAFKA_SASL_PASSWORD": WRONG},
        "status",
        f"refuses the user '{USER}': KAFKA_SASL_USERNAME or KAFKA_SASL_PASSWORD is wrong",
    ),
    "unknown user": (
        {"KAFKA_SASL_USERNAME": "nobody"},
        "topics apply",
        "refuses the user 'nobody': KAFKA_SASL_USERNAME or KAFKA_SASL_PASSWORD is wrong",
    ),
    "another mechanism": (
        {"KAFKA_SASL_MECHANISM": "SCRAM-SHA-256"},
        "status",
        "does not take KAFKA_SASL_MECHANISM=SCRAM-SHA-256",
    ),
    "Kafka's authority is unknown": (
        {"KAFKA_CA_FILE": ""},
        "status",
        "is signed by nobody who is trusted here: set KAFKA_CA_FILE",
    ),
    "wrong key": (
        {"ELASTICSEARCH_API_KEY": WRONG},
        "search words",
        "Elasticsearch refuses ELASTICSEARCH_API_KEY (401): it is wrong, has expired, or is not set",
    ),
    "Elasticsearch's authority is unknown": (
        {"ELASTICSEARCH_CA_FILE": ""},
        "search words",
        "is signed by nobody who is trusted here: set ELASTICSEARCH_CA_FILE",
    ),
    "no authority in the file": ({"KAFKA_CA_FILE": "/dev/null"}, "status", "KAFKA_CA_FILE /dev/null: no "),
    "no file": (
        {"ELASTICSEARCH_API_KEY": "", "ELASTICSEARCH_API_KEY_FILE": "/nowhere"},
        "search words",
        "ELASTICSEARCH_API_KEY_FILE cannot be read",
    ),
}


def _says(answer: tuple[int, str, str], words: str) -> None:
    code, output, errors = answer
    assert code == 1, errors
    [line] = errors.splitlines()
    assert line.startswith("Error: ")
    assert words in line
    for secret in (PASSWORD, API_KEY, WRONG):
        assert secret not in output + errors


@pytest.mark.parametrize("name", REFUSALS)
def test_a_refusal_is_one_line(servers: Servers, name: str) -> None:
    changed, words, expected = REFUSALS[name]
    _says(command(servers(**changed), *words.split()), expected)


def test_an_expired_certificate(servers: Servers) -> None:
    answer = command(servers(KAFKA_BOOTSTRAP=servers.expired_kafka), "status")
    _says(answer, f"the certificate of {servers.expired_kafka} has expired")
    answer = command(servers(ELASTICSEARCH_URL=servers.expired_elasticsearch), "search", "words")
    address = servers.expired_elasticsearch.removeprefix("https://")
    _says(answer, f"the certificate of {address} has expired")


def test_a_certificate_for_another_name(servers: Servers) -> None:
    """Theirs is made out to 127.0.0.1."""
    kafka, elasticsearch = (
        servers.settings[name].replace("127.0.0.1", "localhost")
        for name in ("KAFKA_BOOTSTRAP", "ELASTICSEARCH_URL")
    )
    answer = command(servers(KAFKA_BOOTSTRAP=kafka), "status")
    _says(answer, f"the certificate of {kafka} is made out to another name")
    answer = command(servers(ELASTICSEARCH_URL=elasticsearch), "search", "words")
    address = elasticsearch.removeprefix("https://")
    _says(answer, f"the certificate of {address} is made out to another name")


def test_a_certificate_of_ours(servers: Servers) -> None:
    """Kafka may know its clients by certificates instead of passwords."""
    certificate = str(servers.client_certificate)
    mutual = servers(
        KAFKA_BOOTSTRAP=servers.mutual_kafka,
        KAFKA_SECURITY_PROTOCOL="SSL",
        KAFKA_SASL_USERNAME="",
        KAFKA_SASL_PASSWORD_FILE="",
    )
    code, _, errors = command({**mutual, "KAFKA_CLIENT_CERTIFICATE_FILE": certificate}, "topics", "apply")
    assert (code, errors) == (0, "")
    _says(command(mutual, "topics", "apply"), "refuses our certificate: see KAFKA_CLIENT_CERTIFICATE_FILE")


def test_a_protocol_that_is_not_the_brokers(servers: Servers) -> None:
    nameless = servers(KAFKA_SASL_USERNAME="", KAFKA_SASL_PASSWORD_FILE="")
    plain = {**nameless, "KAFKA_SECURITY_PROTOCOL": "PLAINTEXT", "KAFKA_CA_FILE": ""}
    _says(command(plain, "topics", "apply"), "does it speak KAFKA_SECURITY_PROTOCOL=PLAINTEXT")
    unnamed = {**nameless, "KAFKA_SECURITY_PROTOCOL": "SSL"}
    _says(command(unnamed, "topics", "apply"), "does it speak KAFKA_SECURITY_PROTOCOL=SSL")
    certificate = str(servers.client_certificate)
    mutual = servers(KAFKA_BOOTSTRAP=servers.mutual_kafka, KAFKA_CLIENT_CERTIFICATE_FILE=certificate)
    _says(command(mutual, "status"), "KAFKA_SECURITY_PROTOCOL is not SASL_SSL")
    no_tls = servers(ELASTICSEARCH_URL=servers.plain_elasticsearch.replace("http:", "https:"))
    _says(command(no_tls, "search", "words"), "does it speak TLS on that port?")


@pytest.mark.parametrize(
    ("changed", "words", "commands"),
    [
        (
            {"KAFKA_SASL_PASSWORD_FILE": "", "KAFKA_SASL_PASSWORD": WRONG},
            "KAFKA_SASL_PASSWORD is wrong",
            ("source", "worker extract"),
        ),
        ({"ELASTICSEARCH_API_KEY": WRONG}, "refuses ELASTICSEARCH_API_KEY", ("worker index", "serve")),
    ],
)
def test_a_process_that_is_not_let_in_ends(
    servers: Servers, tmp_path: Path, changed: dict[str, str], words: str, commands: tuple[str, ...]
) -> None:
    """The processes of a deployment do not wait for what will not come, and do not bury it in a traceback."""
    environment = {
        **os.environ,
        **servers(**changed),
        "CREDENTIALS_KEY": "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=",
        "STATE_DIRECTORY": str(tmp_path),
        "SERVE_PORT": "0",
    }
    processes = [
        subprocess.Popen(
            [sys.executable, "-m", "cli.main", *each.split()],
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for each in commands
    ]
    try:
        for process in processes:
            output, errors = process.communicate(timeout=SECONDS)
            _says((process.returncode, output, errors), words)
    finally:
        for process in processes:
            process.kill()
            process.wait()
