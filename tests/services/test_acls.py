"""The rules of docs/ACCESS.md: with exactly these rights the whole path runs; who asks for more is refused.

A broker with TLS, SCRAM and Kafka's own authorizer; every process under a name of its own.
"""

import argparse
import asyncio
import shlex
from collections.abc import Iterator
from email.message import EmailMessage
from pathlib import Path

import pytest
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.protocol.admin import CreateAclsRequest

from cli.pipeline import Pipeline
from connectors.broker import Broker
from connectors.clamav_check import EICAR
from connectors.errors import ConfigurationError, MailstreamError
from connectors.kafka import Producer, Send, consumer
from devstack.gmail.mailfiles import MailBytes
from devstack.gmail.server import GmailEmulator
from devstack.stack import Stack
from schemas import topics
from tests.certificates import Authority
from tests.commands import command
from tests.followers import Scanner, expected, follows, java, node, python
from tests.pipelines import emptied, settle
from tests.secure_kafka import secure_kafka
from tests.serving import served

pytestmark = [pytest.mark.timeout(900), pytest.mark.full]

DOCUMENT = Path(__file__).parents[2] / "docs" / "ACCESS.md"
PASSWORD = "tidal-basin-7141"
TEAM = "team-harbour"
# Kafka's numbers.
_TOPIC, _GROUP, _CLUSTER = 2, 3, 4
_LITERAL, _PREFIXED = 3, 4
_ALLOW = 3
_OPERATIONS = {"All": 2, "Read": 3, "Write": 4, "Create": 5, "Describe": 8}


def _rules() -> list[tuple[int, str, int, str, str, int, int]]:
    """Every rule of the document as Kafka's request has it."""
    parser = argparse.ArgumentParser()
    parser.add_argument("user")
    for name in ("operation", "topic", "group"):
        parser.add_argument(f"--{name}", action="append", default=[])
    parser.add_argument("--cluster", action="store_true")
    parser.add_argument("--resource-pattern-type", choices=["prefixed"])
    rules = []
    for line in DOCUMENT.read_text().splitlines():
        if not line.startswith("acl "):
            continue
        asked = parser.parse_args(shlex.split(line)[1:])
        pattern = _PREFIXED if asked.resource_pattern_type else _LITERAL
        resources = [(_TOPIC, name) for name in asked.topic] + [(_GROUP, name) for name in asked.group]
        resources += [(_CLUSTER, "kafka-cluster")] if asked.cluster else []
        rules += [
            (kind, name, pattern, f"User:{asked.user}", "*", _OPERATIONS[operation], _ALLOW)
            for kind, name in resources
            for operation in asked.operation
        ]
    return rules


async def _allow(bootstrap: str, rules: list[tuple[int, str, int, str, str, int, int]]) -> None:
    admin = AIOKafkaAdminClient(bootstrap_servers=bootstrap)
    await admin.start()
    try:
        for rule in rules:
            answer = await admin._send_request(CreateAclsRequest(*rule))
            assert [code for code, *_ in answer.creation_responses] == [0]
    finally:
        await admin.close()


def _mail(number: int) -> MailBytes:
    mail = EmailMessage()
    mail["From"] = "anna@example.com"
    mail["Subject"] = f"Harbour report {number}"
    mail.set_content("The lock gate was opened.")
    mail.add_attachment(
        EICAR if number == 1 else b"low water", maintype="text", subtype="plain", filename="a"
    )
    return MailBytes(mail.as_bytes())


@pytest.fixture(scope="module")
def secure(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[dict[str, str], Authority]]:
    """The broker's addresses, with the document's rules in force."""
    directory = tmp_path_factory.mktemp("secure")
    authority = Authority(directory, "authority")
    rules = _rules()
    users = {principal.removeprefix("User:"): PASSWORD for _, _, _, principal, *_ in rules}
    assert {"mailstream-source", "mailstream-index", TEAM} <= users.keys()
    authorizer = {
        "authorizer.class.name": "org.apache.kafka.metadata.authorizer.StandardAuthorizer",
        # whoever comes to the inner listener, the broker itself among them
        "super.users": "User:ANONYMOUS",
    }
    keystores = {"SECURE": authority.issue("server")}
    with secure_kafka(directory / "kafka", keystores, authority.ca_file, users, authorizer) as kafka:
        asyncio.run(_allow(kafka["PLAINTEXT"], rules))
        yield kafka, authority


def _as(user: str, secure: tuple[dict[str, str], Authority]) -> dict[str, str]:
    kafka, authority = secure
    return {
        "KAFKA_BOOTSTRAP": kafka["SECURE"],
        "KAFKA_SECURITY_PROTOCOL": "SASL_SSL",
        "KAFKA_SASL_USERNAME": user,
        "KAFKA_SASL_PASSWORD": PASSWORD,
        "KAFKA_CA_FILE": str(authority.ca_file),
    }


@pytest.fixture(scope="module")
def running(
    secure: tuple[dict[str, str], Authority], stack: Stack, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Pipeline]:
    with (
        GmailEmulator({"anna@example.com": [_mail(number) for number in range(3)]}) as emulator,
        served(Scanner) as scanner,
    ):
        with Pipeline(
            secure[0]["SECURE"],
            emptied(stack).elasticsearch_url,
            [],
            tmp_path_factory.mktemp("run"),
            encoder="hash",
            gmail=emulator.describe(),
            also={
                **_as("mailstream-operator", secure),
                "SCANNER": "http",
                "HTTP_SCANNER_URL": scanner,
            },
        ) as made:
            for name in ("source", "extract", "slow", "index", "serve"):
                made.also |= {**_as(f"mailstream-{name}", secure), "SERVE_PORT": "0"}
                made.start(name)
            settle(made)
            made.also |= _as("mailstream-operator", secure)
            yield made


def test_every_process_has_what_it_needs(running: Pipeline) -> None:
    for arguments in (("topics", "diff"), ("topics", "apply"), ("status",), ("dead-letters", "list")):
        code, output, errors = command(running, *arguments)
        assert (code, errors) == (0, ""), (arguments, output)
    code, output, errors = command(running, "search", "harbour")
    assert (code, errors) == (0, "")
    for name in ("source", "extract", "slow", "index", "serve"):
        log = (running.directory / f"{name}.log").read_text()
        assert "Authorization" not in log, log[-3000:]
        assert running.processes[name].poll() is None


@pytest.mark.parametrize("build", ["aiokafka", "faust", "java", "node"])
def test_a_team_reads_documents(
    running: Pipeline, secure: tuple[dict[str, str], Authority], tmp_path: Path, build: str
) -> None:
    command_line = {
        "aiokafka": lambda: python("follow_aiokafka.py", "INBOX"),
        "faust": lambda: python("follow_faust.py", "worker", "--without-web"),
        "java": lambda: java(tmp_path, "INBOX"),
        "node": lambda: node(tmp_path, "INBOX"),
    }[build]()
    environment = {**_as(TEAM, secure), "GROUP": f"{TEAM}.{build}", "LABEL": "INBOX"}
    follows(command_line, environment, tmp_path / "run", expected(secure[0]["PLAINTEXT"], "INBOX"))


async def test_and_nothing_else(running: Pipeline, secure: tuple[dict[str, str], Authority]) -> None:
    kafka, authority = secure
    team = Broker(kafka["SECURE"], "SASL_SSL", "SCRAM-SHA-512", TEAM, PASSWORD, authority.ca_file)
    async with Producer(team) as producer:
        with pytest.raises(MailstreamError, match=r"[Aa]uthoriz"):
            await producer.send([Send(topics.DOCUMENTS.name, "key", b"value", 0)])
    for topic, group in ((topics.MAILBOXES.name, None), (topics.DOCUMENTS.name, topics.INDEX_GROUP)):
        refusal = r"lets the user 'team-harbour' in, but not do this .*docs/ACCESS\.md"
        with pytest.raises(ConfigurationError, match=refusal):
            async with consumer(team, topic, group_id=group):
                pass
