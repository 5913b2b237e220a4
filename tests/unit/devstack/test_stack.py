"""Which provider is chosen, and how a server process starts and ends. No Kafka is started here."""

import os
from pathlib import Path

import pytest

from devstack import containers, local, stack
from devstack.programs import DevstackError
from devstack.servers import LocalServer, PortTakenError

BOTH = {"KAFKA_BOOTSTRAP": "127.0.0.1:1", "ELASTICSEARCH_URL": "http://127.0.0.1:1"}


@pytest.mark.parametrize(
    ("environment", "engine", "chosen"),
    [
        ({}, None, "testcontainers"),
        ({}, "no socket", "maven"),
        (BOTH, None, "external"),
        ({"KAFKA_BOOTSTRAP": "127.0.0.1:1"}, "no socket", "maven"),
        ({**BOTH, "STACK": "maven"}, None, "maven"),
        ({"STACK": "testcontainers"}, "no socket", "testcontainers"),
    ],
)
def test_the_provider_that_is_chosen(
    monkeypatch: pytest.MonkeyPatch, environment: dict[str, str], engine: str | None, chosen: str
) -> None:
    monkeypatch.setattr(containers, "engine_problem", lambda: engine)
    assert stack.choose_provider(environment) == chosen


def test_an_unknown_provider_is_named() -> None:
    with pytest.raises(DevstackError, match="STACK=clouds is not one of maven, testcontainers, external"):
        stack.choose_provider({"STACK": "clouds"})


def test_an_external_stack_without_an_address_names_the_variable() -> None:
    with pytest.raises(DevstackError, match="needs ELASTICSEARCH_URL to be set"):
        stack.external_stack({"KAFKA_BOOTSTRAP": "127.0.0.1:1"})


def _sleeper(directory: Path, *, detached: bool = False) -> LocalServer:
    directory.mkdir(exist_ok=True)
    command = ["sh", "-c", "echo up; sleep 600 & wait"]
    environment = {"PATH": os.environ["PATH"]}
    return LocalServer("Sleeper", directory, command, lambda: True, environment, detached=detached)


def test_a_server_is_started_once_killed_and_started_again(tmp_path: Path) -> None:
    server = _sleeper(tmp_path / "server")
    server.start()
    first = server.pid
    server.start()
    assert server.pid == first is not None
    server.kill()
    assert server.pid is None
    server.start()
    assert server.pid not in {None, first}
    server.stop()
    server.stop()
    assert not server.running


def test_another_handle_sees_and_ends_a_detached_server(tmp_path: Path) -> None:
    server = _sleeper(tmp_path / "server", detached=True)
    server.start()
    other = _sleeper(tmp_path / "server", detached=True)
    assert other.pid == server.pid
    other.stop()
    assert not server.running


def test_a_paused_server_can_be_ended(tmp_path: Path) -> None:
    server = _sleeper(tmp_path / "server")
    server.start()
    server.pause()
    server.stop()
    assert not server.running


def test_a_server_that_ends_shows_its_last_lines(tmp_path: Path) -> None:
    server = LocalServer("Kafka", tmp_path, ["sh", "-c", "echo 'the reason'; exit 3"], lambda: False)
    server.start()
    with pytest.raises(DevstackError, match=r"ended while starting(.|\n)*the reason(.|\n)*exit status 3"):
        server.wait_until_ready(10)


def test_a_taken_port_is_told_apart(tmp_path: Path) -> None:
    server = LocalServer(
        "Kafka", tmp_path, ["sh", "-c", "echo java.net.BindException; exit 1"], lambda: False
    )
    server.start()
    with pytest.raises(PortTakenError):
        server.wait_until_ready(10)


def test_a_server_that_never_answers_meets_its_limit(tmp_path: Path) -> None:
    server = _sleeper(tmp_path / "server")
    server.answers = lambda: False
    server.start()
    with pytest.raises(DevstackError, match=r"does not answer after 0 s(.|\n)*up"):
        server.wait_until_ready(0.3)
    server.stop()


def test_ports_lie_below_those_of_outgoing_connections() -> None:
    ports = local.free_ports(5)
    assert len(set(ports)) == 5
    assert all(20_000 <= port < 32_000 for port in ports)
