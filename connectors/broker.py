"""How Kafka is reached: where it is, who we are to it, and why it does not let us in."""

from __future__ import annotations

import ssl
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from aiokafka.conn import collect_hosts, create_conn
from aiokafka.errors import (
    ClusterAuthorizationFailedError,
    GroupAuthorizationFailedError,
    IllegalSaslStateError,
    KafkaError,
    SaslAuthenticationFailed,
    TopicAuthorizationFailedError,
    UnsupportedSaslMechanismError,
)

from connectors.errors import ConfigurationError, MailstreamError, UnavailableError
from connectors.tls import refused_handshake, tls_context

Protocol = Literal["PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL"]
Mechanism = Literal["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"]

_FORBIDDEN = (
    ClusterAuthorizationFailedError,
    GroupAuthorizationFailedError,
    TopicAuthorizationFailedError,
)
# How long a broker has to say why it does not let us in.
_ASKED_SECONDS = 5.0


@dataclass(frozen=True, slots=True)
class Broker:
    """Kafka's ``address`` (host:port, several with commas), and what it asks of those who come."""

    address: str
    protocol: Protocol = "PLAINTEXT"
    mechanism: Mechanism = "SCRAM-SHA-512"
    username: str = ""
    password: str = field(default="", repr=False)
    ca_file: Path | None = None  # None: the system's authorities
    certificate_file: Path | None = None
    key_file: Path | None = None

    def __str__(self) -> str:
        return self.address

    @property
    def uses_sasl(self) -> bool:
        """Whether it wants a name and a password."""
        return self.protocol.startswith("SASL_")

    def tls(self) -> ssl.SSLContext | None:
        """How TLS is spoken with it; None without. Raises ConfigurationError that names the setting."""
        if not self.protocol.endswith("SSL"):
            return None
        return tls_context("KAFKA", self.ca_file, self.certificate_file, self.key_file)

    def options(self) -> dict[str, Any]:
        """The same as options of any of aiokafka's clients."""
        found: dict[str, Any] = {"security_protocol": self.protocol, "ssl_context": self.tls()}
        if self.uses_sasl:
            found |= {
                "sasl_mechanism": self.mechanism,
                "sasl_plain_username": self.username,
                "sasl_plain_password": self.password,
            }
        return found

    async def absence(self, error: KafkaError) -> MailstreamError:
        """Why no client could be started, which aiokafka's ``error`` seldom says: ConfigurationError where
        waiting does not help, else UnavailableError."""
        if isinstance(error, _FORBIDDEN):
            who = f"the user {self.username!r}" if self.username else "us"
            return ConfigurationError(
                f"Kafka at {self.address} lets {who} in, but not do this ({error}): see docs/ACCESS.md"
            )
        reasons = await self._reasons()
        lasting = (reason for reason in reasons if not reason.transient)
        return next(lasting, reasons[0] if reasons else self._hangs_up())

    async def refusal(self) -> MailstreamError | None:
        """Why Kafka does not let us in; None where one of its brokers does, or none is there."""
        return next((reason for reason in await self._reasons() if not reason.transient), None)

    async def _reasons(self) -> list[MailstreamError]:
        """Why each broker does not let us in; nothing where one does."""
        reasons = []
        for host, port, _ in collect_hosts(self.address, randomize=False):
            try:
                connection = await create_conn(
                    host, port, request_timeout_ms=int(_ASKED_SECONDS * 1000), **self.options()
                )
            except (OSError, KafkaError) as error:
                reasons.append(self._reason(error, f"{host}:{port}"))
            else:
                connection.close()
                return []
        return reasons

    def _reason(self, error: Exception, server: str) -> MailstreamError:
        if isinstance(error, ssl.SSLError):
            return refused_handshake(error, server, "KAFKA")
        if isinstance(error, SaslAuthenticationFailed):
            return ConfigurationError(
                f"Kafka at {server} refuses the user {self.username!r}: KAFKA_SASL_USERNAME or"
                " KAFKA_SASL_PASSWORD is wrong"
            )
        if isinstance(error, UnsupportedSaslMechanismError):
            return ConfigurationError(
                f"Kafka at {server} does not take KAFKA_SASL_MECHANISM={self.mechanism}"
            )
        if isinstance(error, IllegalSaslStateError):
            return ConfigurationError(
                f"Kafka at {server} wants no password: KAFKA_SECURITY_PROTOCOL is not {self.protocol}"
            )
        if isinstance(error.__cause__, ssl.SSLError):  # after the handshake, and so about us
            return ConfigurationError(
                f"Kafka at {server} refuses our certificate: see KAFKA_CLIENT_CERTIFICATE_FILE"
            )
        return self._hangs_up() if isinstance(error, KafkaError) else self._is_away()

    def _is_away(self) -> UnavailableError:
        return UnavailableError(
            f"Kafka at {self.address} does not answer: start it (`mailstream devstack up`), or set"
            " KAFKA_BOOTSTRAP"
        )

    def _hangs_up(self) -> UnavailableError:
        """It may just be going down; more often it is spoken to in another way than it expects."""
        return UnavailableError(
            f"Kafka at {self.address} hangs up: does it speak KAFKA_SECURITY_PROTOCOL={self.protocol} on that"
            " port?"
        )


def broker(kafka: Broker | str) -> Broker:
    """The broker itself, or one at that address that asks for nothing."""
    return Broker(kafka) if isinstance(kafka, str) else kafka
