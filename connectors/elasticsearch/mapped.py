"""Elasticsearch's errors as ours, mapped at this one edge."""

from elastic_transport import ConnectionError as TransportConnectionError
from elastic_transport import ConnectionTimeout, TransportError
from elasticsearch import ApiError

from connectors.errors import ConfigurationError, UnavailableError

MISSING = 404
BUSY = frozenset({429, 503})
NO_INDEX = "the index does not exist: start `mailstream worker index`, which creates it"
ABSENT = "Elasticsearch does not answer: start it (`mailstream devstack up`), or set ELASTICSEARCH_URL"


class mapped:  # noqa: N801 - reads as a statement: with mapped():
    """Turn the client's errors into ours, at this one edge."""

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if isinstance(error, TransportConnectionError | ConnectionTimeout):
            raise UnavailableError(ABSENT) from error
        if isinstance(error, ApiError):
            status = error.meta.status
            if status in BUSY or status >= 500:
                raise UnavailableError(f"Elasticsearch answered {status}: {error.error}") from error
            if status == MISSING:
                raise ConfigurationError(NO_INDEX) from error
            raise ConfigurationError(f"Elasticsearch answered {status}: {error}") from error
        if isinstance(error, TransportError):
            raise UnavailableError(ABSENT) from error
