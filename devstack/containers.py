"""The servers as containers, where a container engine answers."""

import contextlib
import os
from collections.abc import Iterator

from devstack.programs import DevstackError

KAFKA_IMAGE = "confluentinc/cp-kafka:8.1.0"
ELASTICSEARCH_IMAGE = "elasticsearch:9.3.2"


def engine_answers() -> bool:
    """Whether a container engine is there and willing."""
    import docker
    from docker.errors import DockerException

    try:
        docker.from_env(timeout=3).ping()
    except (DockerException, OSError):
        return False
    return True


@contextlib.contextmanager
def start() -> Iterator[tuple[str, str]]:
    """Kafka's bootstrap address and Elasticsearch's, while the context lasts. Raises DevstackError."""
    if not engine_answers():
        raise DevstackError(
            "STACK=testcontainers, but no container engine answers: start one, or use STACK=maven"
        )
    # Imported late: the import alone reads the engine's configuration.
    from testcontainers.elasticsearch import ElasticSearchContainer
    from testcontainers.kafka import KafkaContainer

    os.environ.setdefault("TESTCONTAINERS_RYUK_DISABLED", "false")
    kafka = KafkaContainer(KAFKA_IMAGE).with_kraft().with_env("KAFKA_AUTO_CREATE_TOPICS_ENABLE", "false")
    kafka = kafka.with_env("KAFKA_MESSAGE_MAX_BYTES", str(32 * 1024 * 1024))
    elasticsearch = ElasticSearchContainer(ELASTICSEARCH_IMAGE, mem_limit="2G")
    with kafka as broker, elasticsearch as index:
        yield (
            broker.get_bootstrap_server(),
            f"http://{index.get_container_host_ip()}:{index.get_exposed_port(9200)}",
        )
