"""The provider for servers that somebody else runs: addresses from the environment, and nothing more."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any, NoReturn

from devstack.probes import elasticsearch_answers, kafka_answers
from devstack.programs import DevstackError

# They ought to run already; a compose file's may still be starting.
_READY_SECONDS = 60.0


def addresses(environment: Mapping[str, str]) -> tuple[str, str]:
    """KAFKA_BOOTSTRAP and ELASTICSEARCH_URL. Raises ``DevstackError`` when one is not set."""
    missing = [name for name in ("KAFKA_BOOTSTRAP", "ELASTICSEARCH_URL") if not environment.get(name)]
    if missing:
        raise DevstackError(f"STACK=external needs {' and '.join(missing)} to be set")
    return environment["KAFKA_BOOTSTRAP"], environment["ELASTICSEARCH_URL"]


def kafka(bootstrap: str) -> ExternalServer:
    """The broker at this address."""
    return ExternalServer("Kafka", "KAFKA_BOOTSTRAP", partial(kafka_answers, bootstrap))


def elasticsearch(url: str) -> ExternalServer:
    """The cluster at this address."""
    return ExternalServer("Elasticsearch", "ELASTICSEARCH_URL", partial(elasticsearch_answers, url))


@dataclass
class ExternalServer:
    """A server that is not ours to start, kill or pause; stopping it does nothing."""

    name: str
    variable: str
    answers: Callable[[], bool]
    pid: int | None = None
    scratch: bool = False

    def wait_until_ready(self, timeout_seconds: float = _READY_SECONDS) -> None:
        """Return when it answers. Raises ``DevstackError`` that names the variable when it does not."""
        deadline = time.monotonic() + timeout_seconds
        while not self.answers():
            if time.monotonic() > deadline:
                # the value may hold a password
                raise DevstackError(f"{self.name} does not answer where {self.variable} says")
            time.sleep(0.5)

    def stop(self) -> None:
        """Leave it running."""

    def start(self) -> NoReturn:
        """Raises ``DevstackError``."""
        self._refuse()

    def kill(self) -> NoReturn:
        """Raises ``DevstackError``."""
        self._refuse()

    def pause(self) -> NoReturn:
        """Raises ``DevstackError``."""
        self._refuse()

    def resume(self) -> NoReturn:
        """Raises ``DevstackError``."""
        self._refuse()

    def log_tail(self, lines: int = 40) -> str:
        """Its log is elsewhere."""
        return f"(the log of this {self.name} is where {self.variable} points)"

    def describe(self) -> dict[str, Any]:
        """Nothing beyond its address."""
        return {"ports": []}

    def _refuse(self) -> NoReturn:
        raise DevstackError(f"{self.name} is external: this machine can neither start nor end it")
