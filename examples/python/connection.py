"""How Kafka is reached, from the environment: by the names that Mailstream itself uses."""

import os
import ssl
from typing import Any

DOCUMENTS = os.environ.get("DOCUMENTS_TOPIC", "mail.documents.v1")


def for_aiokafka() -> dict[str, Any]:
    """Options of aiokafka's clients."""
    options: dict[str, Any] = {"bootstrap_servers": os.environ["KAFKA_BOOTSTRAP"]}
    protocol = os.environ.get("KAFKA_SECURITY_PROTOCOL", "PLAINTEXT")
    if protocol.endswith("SSL"):
        options["ssl_context"] = tls()
    if protocol.startswith("SASL"):
        options["sasl_mechanism"] = os.environ.get("KAFKA_SASL_MECHANISM", "SCRAM-SHA-512")
        options["sasl_plain_username"] = os.environ["KAFKA_SASL_USERNAME"]
        options["sasl_plain_password"] = os.environ["KAFKA_SASL_PASSWORD"]
    return {**options, "security_protocol": protocol}


def for_faust() -> dict[str, Any]:
    """Options of ``faust.App``."""
    from faust.auth import SASLCredentials, SSLCredentials

    options = for_aiokafka()
    broker: dict[str, Any] = {"broker": f"kafka://{options['bootstrap_servers']}"}
    if "sasl_mechanism" in options:
        broker["broker_credentials"] = SASLCredentials(
            mechanism=options["sasl_mechanism"],
            username=options["sasl_plain_username"],
            password=options["sasl_plain_password"],
            ssl_context=options.get("ssl_context"),
        )
    elif "ssl_context" in options:
        broker["broker_credentials"] = SSLCredentials(options["ssl_context"])
    return broker


def tls() -> ssl.SSLContext:
    """TLS that checks the broker's certificate and its name."""
    return ssl.create_default_context(cafile=os.environ.get("KAFKA_CA_FILE"))
