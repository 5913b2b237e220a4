"""A real broker that asks who comes: TLS and SCRAM, or certificates, each on a listener of its own."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from devstack import local
from devstack.maven import cache_directory, install
from devstack.programs import find_java_home


@contextmanager
def secure_kafka(
    directory: Path,
    keystores: Mapping[str, Path],
    ca_file: Path,
    passwords: Mapping[str, str],
    further_settings: Mapping[str, str] | None = None,
) -> Iterator[dict[str, str]]:
    """A broker with a listener for each keystore; yields their addresses. ``MUTUAL`` wants certificates.

    ``passwords`` are its users'. On the listener ``PLAINTEXT`` nobody is asked.
    """
    inner = local.free_ports(2 + len(keystores))
    ports = dict(zip(keystores, inner[2:], strict=True))
    named = {"PLAINTEXT": inner[0], "CONTROLLER": inner[1], **ports}
    protocols = {"PLAINTEXT": "PLAINTEXT", "CONTROLLER": "PLAINTEXT", "MUTUAL": "SSL"}
    settings = {
        "listeners": ",".join(f"{name}://{local.HOST}:{port}" for name, port in named.items()),
        "advertised.listeners": ",".join(
            f"{name}://{local.HOST}:{port}" for name, port in named.items() if name != "CONTROLLER"
        ),
        "listener.security.protocol.map": ",".join(
            f"{name}:{protocols.get(name, 'SASL_SSL')}" for name in named
        ),
        "inter.broker.listener.name": "PLAINTEXT",
        "sasl.enabled.mechanisms": "SCRAM-SHA-512",
        "listener.name.mutual.ssl.client.auth": "required",
        "listener.name.mutual.ssl.truststore.type": "PEM",
        "listener.name.mutual.ssl.truststore.location": str(ca_file),
        **(further_settings or {}),
    }
    for name, keystore in keystores.items():
        listener = f"listener.name.{name.lower()}"
        settings |= {
            f"{listener}.ssl.keystore.type": "PEM",
            f"{listener}.ssl.keystore.location": str(keystore),
            f"{listener}.scram-sha-512.sasl.jaas.config": (
                "org.apache.kafka.common.security.scram.ScramLoginModule required;"
            ),
        }
    users = [f"SCRAM-SHA-512=[name={name},password={password}]" for name, password in passwords.items()]
    server = local.kafka_server(
        install(cache_directory()),
        find_java_home(),
        directory,
        inner[:2],
        detached=False,
        scratch=True,
        java_options=local.BRIEF_OPTIONS,
        further_settings=settings,
        format_options=tuple(option for user in users for option in ("--add-scram", user)),
    )
    server.start()
    try:
        server.wait_until_ready()
        yield {"PLAINTEXT": f"{local.HOST}:{inner[0]}"} | {
            name: f"{local.HOST}:{port}" for name, port in ports.items()
        }
    finally:
        server.stop()
